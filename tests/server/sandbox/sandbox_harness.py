"""Support for tests of isolation: commands in a sandbox, and the uids of tasks."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from beray.server.sandbox.interpreter import interpreter_binds
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types import uids

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


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only a server that runs as root changes the uid")
