"""A work_dir, a sandbox of either kind, and runners for the tests of agent programs."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support import sleepers

from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners.acp import AcpRunner
from beray.server.runners.base import Job, Outcome, Runner
from beray.server.runners.command import CommandRunner
from beray.server.sandbox.sandbox import Kind, Sandbox
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces

from .recording import Recorder

HERE = Path(__file__).parent
KINDS = ("bubblewrap", "none")
both_sandboxes = pytest.mark.parametrize("kind", KINDS)
_works: dict[str, str | None] = {}


class Bench:
    """One task of one server. ``kind`` is the sandbox."""

    def __init__(self, tmp_path: Path, kind: Kind) -> None:
        self.kind: Kind = kind
        self.data_dir = tmp_path / "data"
        (self.data_dir / "scratch").mkdir(parents=True)
        uid_of = Sandbox(kind, self.settings()).uid_of
        self.work_dir = Workspaces(tmp_path / "workspaces", uid_of=uid_of).create(1, 1)
        self.recorder = Recorder()

    def settings(self, **given: Any) -> Settings:
        # The Python of the tests, and the agents that are beside them.
        paths = {sys.prefix, sys.base_prefix, str(HERE)}
        given = {"agent_paths": ",".join(sorted(paths)), **given}
        return Settings(data_dir=self.data_dir, **given)

    def job(self, goal: str, **given: Any) -> Job:
        return Job(task_id=1, goal=goal, work_dir=self.work_dir, **{"tools": None, **given})

    def acp(
        self,
        mode: str = "",
        *,
        seconds: float = 30.0,
        outbound: OutboundPolicy | None = None,
        **given: Any,
    ) -> AcpRunner:
        """The runner of the scripted agent."""
        command = shlex.join([sys.executable, str(HERE / "acp_agent.py"), mode])
        settings = self.settings(**{"acp": command, **given})
        sandbox = Sandbox(self.kind, settings)
        return AcpRunner(settings, sandbox, answer_seconds=seconds, outbound=outbound)

    def command(self, command: str, **given: Any) -> CommandRunner:
        settings = self.settings(command=command, **given)
        return CommandRunner(settings, Sandbox(self.kind, settings))

    async def run(self, runner: Runner, goal: str, **given: Any) -> Outcome:
        return await runner.run(self.job(goal, **given), self.recorder)

    @property
    def scratch(self) -> list[Path]:
        """What is left in the folder for scratch."""
        return list((self.data_dir / "scratch").iterdir())


async def bench(tmp_path: Path, kind: Kind) -> Bench:
    """Skips the test where bubblewrap does not work."""
    if kind == "bubblewrap":
        if kind not in _works:
            probe = Settings(data_dir=tmp_path / "probe", sandbox="auto")
            _works[kind] = (await Sandbox.detect(probe)).kind
            shutil.rmtree(tmp_path / "probe")
        if _works[kind] != kind:
            pytest.skip("bubblewrap does not work here")
    return Bench(tmp_path, kind)


@asynccontextmanager
async def running(work: Awaitable[Outcome]) -> AsyncIterator[asyncio.Task[Outcome]]:
    """A run in the background, cancelled at the end of the block."""
    task: asyncio.Task[Outcome] = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], Any], seconds: float = 15.0) -> None:
    """Return once ``condition`` is true."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def alive(*marks: str) -> list[str]:
    """Those of the sleepers that still sleep."""
    return [mark for mark in marks if sleepers(mark)]
