"""Stores on disk, and agents of a real server."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray.server.objects.local import BUCKET, LocalObjectStore
from beray.server.objects.s3 import S3ObjectStore
from beray.server.objects.signing import UrlSigner
from beray.server.objects.store import ObjectStore
from beray.server.settings import Settings
from beray.testing import RunningServer
from beray.testing.server import free_port
from tests.gateway_support import Agent, S3Server
from tests.repositories import Repositories, opened


@pytest.fixture
def repositories(tmp_path: Path) -> Iterator[Repositories]:
    with opened(tmp_path / "db.sqlite3") as repositories:
        yield repositories


@pytest.fixture
def local(tmp_path: Path, repositories: Repositories) -> LocalObjectStore:
    signer = UrlSigner(b"k" * 32, BUCKET)
    return LocalObjectStore(
        folder=tmp_path / "objects", objects=repositories.objects, signer=signer
    )


@pytest.fixture
def agent(beray_server: RunningServer) -> Iterator[Agent]:
    agent = Agent.new(beray_server)
    with agent.account:
        yield agent


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real server of the S3 protocol, in a process of its own."""
    port = free_port()
    arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("Running on" in line for line in process.stderr)
            yield S3Server(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


@pytest.fixture
def s3_environ(s3_server: S3Server) -> dict[str, str]:
    """The settings of a new bucket."""
    return s3_server.environ(s3_server.new_bucket(f"b{secrets.token_hex(6)}"))


@pytest.fixture(params=["local", "s3"])
def objects(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Every promise of a store holds with either."""
    if request.param == "local":
        found: ObjectStore = request.getfixturevalue("local")
        return found
    for name, value in request.getfixturevalue("s3_environ").items():
        monkeypatch.setenv(name, value)
    return S3ObjectStore(settings=Settings())
