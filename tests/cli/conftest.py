"""Fixtures: the command in this process, with a real or a scripted server."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray.cli import main
from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.cli.cli_support import Command, Outcome, use
from tests.server.gateway.prefab_folders import write_prefab


@pytest.fixture
def beray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run the command in this process, in an empty directory, with pipes as its streams."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def run(*argv: str, stdin: str | io.TextIOBase = "", encoding: str = "utf-8") -> Outcome:
        out, err = io.BytesIO(), io.BytesIO()
        stdin_text = io.StringIO(stdin) if isinstance(stdin, str) else stdin
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", stdin_text)
            patch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding=encoding))
            patch.setattr(sys, "stderr", io.TextIOWrapper(err, encoding=encoding))
            status = main(argv)
            sys.stderr.flush()
            return Outcome(status, out.getvalue(), err.getvalue().decode(encoding))

    return run


@pytest.fixture
def account(beray_client: BeRayClient, monkeypatch: pytest.MonkeyPatch) -> BeRayClient:
    """New account of the real server, configured for the command."""
    use(beray_client, monkeypatch)
    return beray_client


@pytest.fixture(scope="module")
def agent_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Server whose agent is the program ``AGENT`` of the module."""
    program = tmp_path_factory.mktemp("agent") / "agent.py"
    program.write_text(request.module.AGENT)
    with RunningServer.start(
        program.parent / "data",
        BERAY_COMMAND=f"{sys.executable} {program}",
        BERAY_AGENT_PATHS=",".join([sys.prefix, sys.base_prefix, str(program)]),
    ) as server:
        yield server


@pytest.fixture
def agent(agent_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[BeRayClient]:
    """New account of that server, configured for the command."""
    with agent_server.sign_up() as client:
        use(client, monkeypatch)
        yield client


@pytest.fixture(scope="module")
def prefab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Server to which every user may add prefabs."""
    with RunningServer.start(
        tmp_path_factory.mktemp("prefabs"), BERAY_PREFAB_AUTHORS="*"
    ) as server:
        yield server


@pytest.fixture
def author(prefab_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[BeRayClient]:
    """New account of that server, configured for the command."""
    with prefab_server.sign_up() as client:
        use(client, monkeypatch)
        yield client


@pytest.fixture
def probe(
    request: pytest.FixtureRequest, beray: Command, author: BeRayClient, tmp_path: Path
) -> Command:
    """Command with a server that has the prefab from the module's ``MODULE`` and ``FUNCTIONS``."""
    module = request.module
    folder = write_prefab(tmp_path / "probe", module.MODULE, module.FUNCTIONS)
    added = beray("prefab", "add", str(folder))
    assert added.status == 0, added.err
    return beray
