"""Runner ``acp``. Each goal has an agent process, a session and a prompt of its own."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from typing import Final

from acp.schema import PromptResponse

from beray.events import MsgError, MsgEventCustomUpdate, MsgEventEnd
from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners import agent_homes, command_line
from beray.server.runners.acp import servers
from beray.server.runners.acp.client import AgentRequests
from beray.server.runners.acp.files import TaskFiles
from beray.server.runners.acp.permissions import Permissions
from beray.server.runners.acp.session import AgentSession
from beray.server.runners.acp.terminals import AgentTerminals
from beray.server.runners.acp.tool_calls import ToolCalls
from beray.server.runners.acp.updates import SessionUpdates, final_usage
from beray.server.runners.acp.wire import AbortingSink, AgentFault, AgentTransport, RunAbort
from beray.server.runners.agent_homes import AgentCopyError
from beray.server.runners.base import Job, Outcome, Sink, Usage
from beray.server.runners.command_line import ProgramError, Tail
from beray.server.runners.mcp.admission import admit_servers
from beray.server.runners.mcp.relay import Relay, relay_programs
from beray.server.runners.task_paths import TaskPaths
from beray.server.sandbox.sandbox import Sandbox
from beray.server.setting_types.binds import Bind
from beray.server.settings import Settings

SETTING: Final = "BERAY_ACP"
ANSWER_SECONDS: Final = 60.0
"""Timeout of ``initialize``, and of ``session/new``."""
EXIT_SECONDS: Final = 1.0
"""Time in which an agent that failed may exit, so that its exit status can be reported."""


class AcpRunner:
    """Runner that starts the agent program of ``settings.acp`` for each goal.

    Args:
        settings: Settings of the server.
        sandbox: Sandbox of the server.
        answer_seconds: Timeout of each request before the prompt.
        outbound: Policy for MCP servers' URLs; derived from the settings by default.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        sandbox: Sandbox,
        answer_seconds: float = ANSWER_SECONDS,
        outbound: OutboundPolicy | None = None,
    ) -> None:
        self._settings = settings
        self._sandbox = sandbox
        self._outbound = outbound or OutboundPolicy.of(settings)
        self._answer_seconds = answer_seconds

    async def run(self, job: Job, sink: Sink) -> Outcome:
        """Run the agent. A stop reason other than ``end_turn`` is a failure."""
        await sink.charge(Usage())
        try:
            arguments = command_line.split(self._settings.acp, SETTING)
            paths = await asyncio.to_thread(
                agent_homes.binds, self._settings, self._sandbox, job.user_id
            )
        except (ProgramError, AgentCopyError) as error:
            await sink.emit(MsgError(code="AGENT", details=str(error)))
            return Outcome("FAILED", "agent")
        run = _Run(
            settings=self._settings,
            sandbox=self._sandbox,
            job=job,
            sink=sink,
            answer_seconds=self._answer_seconds,
            outbound=self._outbound,
        )
        try:
            outcome = _outcome(await run.execute(arguments, paths))
        except AgentFault as fault:
            await sink.emit(MsgError(code="AGENT", details=str(fault)))
            outcome = Outcome("FAILED", "agent")
        finally:
            await sink.record(run.updates.usage)
        await sink.emit(MsgEventEnd(tokens_used=run.updates.usage.tokens))
        return outcome


def _outcome(response: PromptResponse) -> Outcome:
    if response.stop_reason == "end_turn":
        return Outcome("COMPLETED")
    return Outcome("FAILED", response.stop_reason)


class _Run:
    """Objects of one run, and their connections."""

    def __init__(
        self,
        *,
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
        self._servers = admit_servers(job.tools, settings, sandbox)
        self._abort = RunAbort()
        self._sink = AbortingSink(sink=sink, abort=self._abort)
        self._cwd = sandbox.inside(job.work_dir)
        paths = TaskPaths(job.work_dir, self._cwd)
        self._terminals = AgentTerminals(job=job, sandbox=sandbox, sink=self._sink, paths=paths)
        calls = ToolCalls(paths=paths, terminal_result=self._terminals.result)
        self.updates = SessionUpdates(sink=self._sink, paths=paths, calls=calls)
        policy = settings.acp_permissions
        permissions = Permissions(
            policy=policy,
            work_dir=job.work_dir,
            paths=paths,
            sandboxed=sandbox.kind == "bubblewrap",
            network=settings.agent_network,
        )
        files = TaskFiles(job.work_dir, paths=paths, space=sandbox.disk_space(job.work_dir))
        self._requests = AgentRequests(
            sink=self._sink,
            policy=policy,
            permissions=permissions,
            files=files,
            terminals=self._terminals,
            calls=calls,
        )

    async def execute(self, arguments: list[str], paths: list[Bind]) -> PromptResponse:
        """Start the agent and send it the goal. On return, none of its processes is alive.

        Args:
            arguments: The agent's program and arguments.
            paths: Paths to bind into its sandbox.

        Raises:
            AgentFault: The agent failed; the message consists of complete sentences.
        """
        async with (
            relay_programs(self._servers, self._job, self._settings, self._sandbox) as relay,
            self._sandbox.agent(
                arguments,
                self._job.work_dir,
                [*paths, *relay.binds],
                gateway=self._job.relay,
            ) as process,
        ):
            assert process.stdin and process.stdout and process.stderr
            transport = AgentTransport(
                reader=process.stdout,
                writer=process.stdin,
                on_update=self.updates.handle,
                abort=self._abort,
            )
            session = AgentSession(
                transport=transport,
                abort=self._abort,
                requests=self._requests,
                answer_seconds=self._answer_seconds,
            )
            errors = Tail()
            draining = asyncio.ensure_future(errors.drain(process.stderr))
            try:
                return await self._prompt(session, relay)
            except AgentFault as fault:
                exit_code = await _exit_code(process, draining)
                output = errors.text or transport.stray_output
                message = _failure_message(arguments, str(fault), exit_code, output)
                raise AgentFault(message) from None
            finally:
                # A reader that is still active would block waiting for the process.
                draining.cancel()
                await session.close()
                await self._terminals.close()
                await asyncio.wait([draining])

    async def _prompt(self, session: AgentSession, relay: Relay) -> PromptResponse:
        agent = await session.initialize()
        capabilities = agent.agent_capabilities
        accepted, problems = await servers.select_servers(
            self._servers,
            capabilities.mcp_capabilities if capabilities else None,
            relay.commands,
            self._outbound,
            confined=self._sandbox.kind == "bubblewrap",
        )
        for payload in problems:
            await self._sink.emit(MsgEventCustomUpdate(payload=payload))
        await session.open(self._cwd, accepted)
        response = await session.prompt(self._job.goal)
        self.updates.usage = final_usage(self.updates.usage, response.usage)
        return response


async def _exit_code(process: Process, draining: asyncio.Future[None]) -> int | None:
    """Return the agent's exit status, or None if it does not exit within ``EXIT_SECONDS``."""
    ending = asyncio.gather(process.wait(), asyncio.shield(draining))
    await asyncio.wait([ending], timeout=EXIT_SECONDS)
    ending.cancel()
    await asyncio.wait([ending])
    return process.returncode


def _failure_message(arguments: list[str], fault: str, exit_code: int | None, output: str) -> str:
    reason = command_line.start_failure(arguments, exit_code, output)
    if reason is not None:
        return command_line.start_failure_message(SETTING, arguments, reason)
    sentence = f"The agent {command_line.program_name(arguments)} ({SETTING}) {fault}"
    if exit_code is not None:
        sentence += f" (exit status {exit_code})"
    sentence += "."
    return f"{sentence} Its last output: {output}" if output else sentence
