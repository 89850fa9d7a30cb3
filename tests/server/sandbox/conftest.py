"""Fixtures for tests of isolation: a sandbox of this host, and a server that runs as root."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from beray.server.sandbox.interpreter import interpreter_binds
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types import uids
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces
from beray.testing import RunningServer

RANGE = uids.parse(uids.DEFAULT)


@dataclass(frozen=True)
class SandboxHarness:
    """Working sandbox with a work_dir."""

    sandbox: Sandbox
    work_dir: Path

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command; return its exit status and output."""

        async def run() -> tuple[int, str]:
            async with self.sandbox.function(
                command, self.work_dir, interpreter_binds(), {}, network=False
            ) as function:
                output, errors = await function.process.communicate()
            assert function.process.returncode is not None
            return function.process.returncode, (output + errors).decode()

        return asyncio.run(run())

    def python(self, source: str) -> tuple[int, str]:
        return self.run(sys.executable, "-I", "-c", source)


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


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only a server that runs as root changes the uid")


@pytest.fixture(scope="module")
def root_server(
    tmp_path_factory: pytest.TempPathFactory, harness: SandboxHarness
) -> Iterator[RunningServer]:
    """Server that runs as root and uses bubblewrap."""
    require_root()
    settings = {"BERAY_SANDBOX": "bubblewrap", "BERAY_SLOTS": "4", "BERAY_PREFAB_AUTHORS": "*"}
    with RunningServer.start(tmp_path_factory.mktemp("root") / "data", **settings) as server:
        yield server
