"""Test environment of agent programs: a work_dir, a sandbox of either kind, and runners."""

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

from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners.acp import AcpRunner
from beray.server.runners.base import Job, Outcome, Runner
from beray.server.runners.command import CommandRunner
from beray.server.sandbox.sandbox import Kind, Sandbox
from beray.server.settings import Settings
from beray.server.workspace.workspace import Workspaces
from tests.server.agents.recording import Recorder
from tests.support import WAIT_SECONDS, sleepers

HERE = Path(__file__).parent
KINDS = ("bubblewrap", "none")
both_sandboxes = pytest.mark.parametrize("kind", KINDS)
_works: dict[str, str | None] = {}


class Bench:
    """Environment of one task.

    Args:
        tmp_path: Directory for the server's data.
        kind: Kind of the sandbox.
    """

    def __init__(self, tmp_path: Path, kind: Kind) -> None:
        self.kind: Kind = kind
        self.data_dir = tmp_path / "data"
        (self.data_dir / "scratch").mkdir(parents=True)
        uid_of = Sandbox(kind, settings=self.settings()).uid_of
        self.work_dir = Workspaces(tmp_path / "workspaces", uid_of=uid_of).create(1, 1)
        self.recorder = Recorder()

    def settings(self, *, shared: bool = False, **options: Any) -> Settings:
        """Return settings of a personal or shared server."""
        # Agents need the tests' Python and the agents in this directory.
        paths = {sys.prefix, sys.base_prefix, str(HERE)}
        options = {"agent_paths": ",".join(sorted(paths)), **options}
        settings = Settings(data_dir=self.data_dir, **options)
        if shared:
            settings.set_listener("192.0.2.1", embedded=False)
        return settings

    def job(self, goal: str, **options: Any) -> Job:
        return Job(task_id=1, goal=goal, work_dir=self.work_dir, **{"tools": None, **options})

    def acp(
        self,
        mode: str = "",
        *,
        seconds: float = 30.0,
        outbound: OutboundPolicy | None = None,
        **options: Any,
    ) -> AcpRunner:
        """Return a runner of the scripted agent.

        Args:
            mode: Mode of the agent, see ``acp_agent.py``.
            seconds: Timeout of requests.
            outbound: Policy for URLs of MCP servers.
            options: Settings of the server.
        """
        command = shlex.join([sys.executable, str(HERE / "acp_agent.py"), mode])
        settings = self.settings(**{"acp": command, **options})
        sandbox = Sandbox(self.kind, settings=settings)
        return AcpRunner(
            settings=settings, sandbox=sandbox, answer_seconds=seconds, outbound=outbound
        )

    def command(self, command: str, **options: Any) -> CommandRunner:
        settings = self.settings(command=command, **options)
        return CommandRunner(settings=settings, sandbox=Sandbox(self.kind, settings=settings))

    async def run(self, runner: Runner, goal: str, **options: Any) -> Outcome:
        return await runner.run(self.job(goal, **options), self.recorder)

    @property
    def scratch(self) -> list[Path]:
        """Entries of the scratch directory."""
        return list((self.data_dir / "scratch").iterdir())


async def bench(tmp_path: Path, kind: Kind) -> Bench:
    """Return an environment; skip the test if it needs bubblewrap and that does not work."""
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
    """Execute a run in the background and cancel it on exit."""
    task: asyncio.Task[Outcome] = asyncio.ensure_future(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    """Wait until ``condition`` is true."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


def alive(*marks: str) -> list[str]:
    """Return the marks whose sleeping processes still run."""
    return [mark for mark in marks if sleepers(mark)]
