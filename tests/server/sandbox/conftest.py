"""Sandboxes of this host, for the tests of isolation."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from beray.server.sandbox.bubblewrap import Bind
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.workspace import Workspaces


@dataclass(frozen=True)
class Box:
    """A work_dir and a sandbox that works."""

    sandbox: Sandbox
    work_dir: Path

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command to its end; return its exit status and its output."""
        roots = {sys.prefix, sys.base_prefix, str(Path(sys.executable).resolve().parents[1])}

        async def run() -> tuple[int, str]:
            async with self.sandbox.function(
                command, self.work_dir, [Bind(root) for root in sorted(roots)], {}, network=False
            ) as process:
                output, errors = await process.communicate()
            assert process.returncode is not None
            return process.returncode, (output + errors).decode()

        return asyncio.run(run())

    def python(self, source: str) -> tuple[int, str]:
        return self.run(sys.executable, "-I", "-c", source)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Box:
    data_dir = tmp_path_factory.mktemp("sandbox")
    settings = Settings(data_dir=data_dir, sandbox="auto")
    sandbox = asyncio.run(Sandbox.detect(settings))
    if sandbox.kind != "bubblewrap":
        pytest.skip("bubblewrap does not work here")
    return Box(sandbox, Workspaces(data_dir / "workspaces").create(1))
