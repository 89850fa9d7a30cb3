"""Fixtures for tests of isolation: a sandbox of this host, and a server that runs as root."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer
from tests.server.sandbox.sandbox_harness import SandboxHarness, require_root


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> SandboxHarness:
    data_dir = tmp_path_factory.mktemp("sandbox")
    settings = Settings(data_dir=data_dir, sandbox="auto")
    sandbox = asyncio.run(Sandbox.detect(settings))
    if sandbox.kind != "bubblewrap":
        pytest.skip("bubblewrap does not work here")
    return SandboxHarness(
        sandbox, Workspaces(data_dir / "workspaces", uid_of=sandbox.uid_of).create(1, 1)
    )


@pytest.fixture(scope="module")
def root_server(
    tmp_path_factory: pytest.TempPathFactory, harness: SandboxHarness
) -> Iterator[RunningServer]:
    """Server that runs as root and uses bubblewrap."""
    require_root()
    settings = {"BERAY_SANDBOX": "bubblewrap", "BERAY_SLOTS": "4", "BERAY_PREFAB_AUTHORS": "*"}
    with RunningServer.start(tmp_path_factory.mktemp("root") / "data", settings) as server:
        yield server
