"""One goal: one agent process, one session, one prompt."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from typing import Final

from acp.schema import PromptResponse

from beray.events import MsgError, MsgEventCustomUpdate, MsgEventEnd
from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners import agent_homes, command_line
from beray.server.runners.acp import servers, usage
from beray.server.runners.acp.client import AgentRequests
from beray.server.runners.acp.files import TaskFiles
from beray.server.runners.acp.permissions import Permissions
from beray.server.runners.acp.session import AgentSession
from beray.server.runners.acp.terminals import Terminals
from beray.server.runners.acp.tool_calls import ToolCalls
from beray.server.runners.acp.updates import Updates
from beray.server.runners.acp.wire import AgentFault, Breaks, CheckedSink, Wire
from beray.server.runners.agent_homes import AgentCopyError
from beray.server.runners.base import Job, Outcome, Sink, Usage
from beray.server.runners.command_line import ProgramError, Tail
from beray.server.runners.mcp.admission import admitted
from beray.server.runners.mcp.relay import Relay, relaying
from beray.server.runners.task_paths import TaskPaths
from beray.server.sandbox.sandbox import Bind, Sandbox
from beray.server.settings import Settings

SETTING: Final = "BERAY_ACP"
ANSWER_SECONDS: Final = 60.0
"""How long an agent may take to introduce itself, and again to open a session."""
LAST_WORDS_SECONDS: Final = 1.0
"""How long an agent that has failed may take to end, so that its end can be told."""


class AcpRunner:
    """Has the agent program of ``settings.acp`` do each goal."""

    def __init__(
        self,
        settings: Settings,
        sandbox: Sandbox,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        outbound: OutboundPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._outbound = outbound or OutboundPolicy.of(settings)
        self._answer_seconds = answer_seconds

    async def run(self, job: Job, sink: Sink) -> Outcome:
        await sink.charge(Usage())
        try:
            arguments = command_line.split(self._settings.acp, SETTING)
            paths = await asyncio.to_thread(
                agent_homes.binds, self._settings, self._sandbox, job.user_id
            )
        except (ProgramError, AgentCopyError) as error:
            await sink.emit(MsgError(code="AGENT", details=str(error)))
            return Outcome("FAILED", "agent")
        run = _Run(self._settings, self._sandbox, job, sink, self._answer_seconds, self._outbound)
        try:
            outcome = _outcome(await run.converse(arguments, paths))
        except AgentFault as fault:
            await sink.emit(MsgError(code="AGENT", details=str(fault)))
            outcome = Outcome("FAILED", "agent")
        finally:
            await sink.record(run.updates.usage)
        await sink.emit(MsgEventEnd(tokens_used=run.updates.usage.tokens))
        return outcome


def _outcome(answer: PromptResponse) -> Outcome:
    if answer.stop_reason == "end_turn":
        return Outcome("COMPLETED")
    return Outcome("FAILED", answer.stop_reason)


class _Run:
    """The parts of one run, and how they hang together."""

    def __init__(
        self,
        settings: Settings,
        sandbox: Sandbox,
        job: Job,
        sink: Sink,
        answer_seconds: float,
        outbound: OutboundPolicy,
    ) -> None:
        self._outbound = outbound
        self._settings = settings
        self._sandbox = sandbox
        self._job = job
        self._answer_seconds = answer_seconds
        self._servers = admitted(job.tools, settings, sandbox)
        self._breaks = Breaks()
        self._sink = CheckedSink(sink, self._breaks)
        self._cwd = sandbox.inside(job.work_dir)
        paths = TaskPaths(job.work_dir, self._cwd)
        self._terminals = Terminals(job, sandbox, self._sink, paths)
        calls = ToolCalls(paths, self._terminals.result)
        self.updates = Updates(self._sink, paths, calls)
        policy = settings.acp_permissions
        permissions = Permissions(
            policy,
            job.work_dir,
            paths,
            sandboxed=sandbox.kind == "bubblewrap",
            network=settings.agent_network,
        )
        files = TaskFiles(job.work_dir, paths, sandbox.disk_space(job.work_dir))
        self._requests = AgentRequests(
            self._sink, policy, permissions, files, self._terminals, calls
        )

    async def converse(self, arguments: list[str], paths: list[Bind]) -> PromptResponse:
        """Start the agent, have it do the goal, and leave nothing of it.

        Args:
            paths: what it finds in its sandbox.

        Raises:
            AgentFault: in whole sentences.
        """
        async with (
            relaying(self._servers, self._job, self._settings, self._sandbox) as relay,
            self._sandbox.agent(
                arguments,
                self._job.work_dir,
                [*paths, *relay.binds],
                gateway=self._job.relay,
            ) as process,
        ):
            assert process.stdin and process.stdout and process.stderr
            wire = Wire(process.stdout, process.stdin, self.updates.take, self._breaks)
            session = AgentSession(wire, self._breaks, self._requests, self._answer_seconds)
            errors = Tail()
            draining = asyncio.ensure_future(errors.drain(process.stderr))
            try:
                return await self._prompt(session, relay)
            except AgentFault as fault:
                exit_code = await _exit_code(process, draining)
                said = errors.text or wire.noise
                raise AgentFault(_explained(arguments, str(fault), exit_code, said)) from None
            finally:
                # Whoever still read from it would keep the process from being waited for.
                draining.cancel()
                await session.close()
                await self._terminals.close()
                await asyncio.wait([draining])

    async def _prompt(self, session: AgentSession, relay: Relay) -> PromptResponse:
        agent = await session.introduce()
        able = agent.agent_capabilities
        given, left_out = await servers.for_agent(
            self._servers,
            able.mcp_capabilities if able else None,
            relay.commands,
            self._outbound,
            confined=self._sandbox.kind == "bubblewrap",
        )
        for payload in left_out:
            await self._sink.emit(MsgEventCustomUpdate(payload=payload))
        await session.open(self._cwd, given)
        answer = await session.prompt(self._job.goal)
        self.updates.usage = usage.in_all(self.updates.usage, answer.usage)
        return answer


async def _exit_code(process: Process, draining: asyncio.Future[None]) -> int | None:
    """How the agent ended; ``None`` where it goes on."""
    ending = asyncio.gather(process.wait(), asyncio.shield(draining))
    await asyncio.wait([ending], timeout=LAST_WORDS_SECONDS)
    ending.cancel()
    await asyncio.wait([ending])
    return process.returncode


def _explained(arguments: list[str], fault: str, exit_code: int | None, said: str) -> str:
    reason = command_line.unstartable(arguments, exit_code, said)
    if reason is not None:
        return command_line.cannot_start(SETTING, arguments, reason)
    sentence = f"The agent {command_line.name_of(arguments)} of {SETTING} {fault}"
    if exit_code is not None:
        sentence += f"; its exit status is {exit_code}"
    sentence += "."
    return f"{sentence} Its last words: {said}" if said else sentence
