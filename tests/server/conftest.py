"""Work_dirs for the tests of files: on disk alone, and of a task of a real server."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray import BeRayClient
from beray.server.workspace import safe_open
from beray.server.workspace.workspace import Workspace, Workspaces
from beray.testing import RunningServer
from tests.support import until
from tests.work_dirs import TASK, Files


@pytest.fixture(params=["openat2", "walk"])
def resolution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every promise holds with either way of resolving a path."""
    if request.param == "walk":
        monkeypatch.setattr(safe_open, "has_openat2", lambda: False)
    elif not safe_open.has_openat2():
        pytest.skip("this kernel has no openat2")
    return str(request.param)


@pytest.fixture
def workspaces(tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "workspaces")


@pytest.fixture
def work_dir(workspaces: Workspaces) -> Path:
    return workspaces.create(TASK)


@pytest.fixture
def workspace(workspaces: Workspaces, work_dir: Path) -> Iterator[Workspace]:
    with workspaces.open(TASK) as opened:
        yield opened


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder next door, which must look the same afterwards."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    yield folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"secret": b"secret"}


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder of a user whom file modes bind, and that user's rights while it lasts."""
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() != 0:
            yield Path(folder)
            return
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(0)


@pytest.fixture(scope="module")
def account(beray_server: RunningServer) -> Iterator[BeRayClient]:
    with beray_server.sign_up() as client:
        yield client


@pytest.fixture
def files(beray_server: RunningServer, account: BeRayClient) -> Iterator[Files]:
    """A new task of the one account."""
    files = Files(beray_server, account)
    yield files
    until(lambda: os.listdir(files.incoming) == [])
