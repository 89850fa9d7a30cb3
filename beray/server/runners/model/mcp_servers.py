"""Connections to the MCP servers of a run, and their tools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mcp_types import Tool as McpTool
from pydantic_ai import RunContext, Tool
from pydantic_ai.exceptions import ToolFailed

from beray.events import MsgEventCustomUpdate
from beray.server.runners.base import Sink
from beray.server.runners.mcp.admission import admit_servers
from beray.server.runners.mcp.config import McpServer
from beray.server.runners.model.file_tools import FileTools
from beray.server.runners.model.mcp_notices import NotificationBatcher
from beray.server.runners.model.mcp_results import ResultConverter
from beray.server.runners.model.mcp_session import (
    CLOSE_SECONDS,
    CallFailed,
    McpContext,
    McpSession,
)
from beray.server.runners.model.sinks import SinkFailed
from beray.server.runners.model.toolset import unique_tool_name

NOTICE_SECONDS: Final = 3.0
"""Time of waiting for a server after which the first event about it is emitted."""
REPEAT_SECONDS: Final = 15.0
"""Interval of further events about the same wait."""


@dataclass(slots=True)
class McpTools:
    """Tools of all MCP servers of a run.

    Attributes:
        tools: Tools with unique names.
        problems: Names of unavailable servers with the reasons, for the model.
    """

    tools: list[Tool[None]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def connect_servers(
    context: McpContext, sink: Sink, files: FileTools, reserved_names: Sequence[str] = ()
) -> AsyncIterator[McpTools]:
    """Connect to all servers of a job in parallel, and emit an event for each.

    A server that is not available is a problem in the result and does not affect the others. On
    exit, all connections are closed and all programs have ended.

    Args:
        context: Objects that the sessions share.
        sink: Destination of the events.
        files: Tools that save files in results.
        reserved_names: Names that are in use by other tools.
    """
    servers = admit_servers(context.job.tools, context.settings, context.sandbox)
    converter = ResultConverter(files, images=context.settings.model_images)
    connections = [
        McpConnection(server, sink=sink, context=context, converter=converter) for server in servers
    ]
    result = McpTools()
    names = set(reserved_names)
    try:
        await asyncio.gather(*(connection.open() for connection in connections))
        for connection in connections:
            if connection.problem:
                result.problems.append((connection.server.name, connection.problem))
            for tool in connection.tools:
                name = unique_tool_name(f"{connection.server.name}_{tool.name}", names)
                result.tools.append(connection.as_tool(tool, name))
            await connection.report()
        yield result
        for connection in connections:
            await connection.flush()
    finally:
        await asyncio.gather(*(connection.close() for connection in connections))


class McpConnection:
    """Connection to one server. A session that has ended is replaced by a new one.

    Args:
        server: The MCP server.
        sink: Destination of the events.
        context: Objects that the sessions share.
        converter: Converter for the results of tools.

    Attributes:
        problem: Reason why the server is not available, empty if it is.
        tools: Tools of the first session. The model is given these.
    """

    def __init__(
        self, server: McpServer, *, sink: Sink, context: McpContext, converter: ResultConverter
    ) -> None:
        self.server = server
        self.problem = server.problem
        self.tools: list[McpTool] = []
        self._sink = sink
        self._context = context
        self._converter = converter
        self._notifications = NotificationBatcher(server, sink=sink)
        self._session: McpSession | None = None
        self._watching: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        self._sessions = 0

    async def open(self) -> None:
        """Connect for the first time and list the tools; ``problem`` is set if that fails."""
        if self.problem:
            return
        self.problem = await self._open()
        if self._session is not None:
            self.tools = self._session.tools

    async def flush(self) -> None:
        """Log pending notifications."""
        await self._notifications.flush()

    async def close(self) -> None:
        """Close the session."""
        await self._close_session()
        await self._notifications.close()

    async def report(self) -> None:
        """Log whether this server is connected, with its tools or the problem."""
        payload: dict[str, Any] = {"kind": "mcp", "server": self.server.name}
        if self.problem:
            payload |= {"status": "failed", "message": self.problem}
        else:
            count = f"{len(self.tools)} {'tool' if len(self.tools) == 1 else 'tools'}"
            again = "reconnected, " if self._sessions > 1 else ""
            tools = [tool.name for tool in self.tools]
            payload |= {"status": "connected", "message": f"{again}{count}", "tools": tools}
        await self._sink.emit(MsgEventCustomUpdate(payload=payload))

    def as_tool(self, tool: McpTool, name: str) -> Tool[None]:
        """Return a tool for the model that calls ``tool``."""

        async def call(run_context: RunContext[None], /, **arguments: Any) -> Any:
            return await self._call(tool.name, name, run_context.tool_call_id or "", arguments)

        return Tool.from_schema(
            call,
            name=name,
            description=(tool.description or tool.title or tool.name)[:4000],
            json_schema=tool.input_schema,
            takes_ctx=True,
        )

    async def _call(self, tool: str, name: str, call_id: str, arguments: dict[str, Any]) -> Any:
        on_progress = self._notifications.on_progress(tool, call_id)
        session = await self._current_session()
        try:
            result = await session.call(tool, arguments, on_progress)
        except CallFailed as failure:
            if not failure.session_lost or failure.processed:
                raise await self._failure(session, failure) from None
            # The server did not accept the call, so repeating it is safe.
            await self._discard(session)
            session = await self._current_session()
            try:
                result = await session.call(tool, arguments, on_progress)
            except CallFailed as second_failure:
                raise await self._failure(session, second_failure) from None
        if self.problem:
            self.problem = ""
            await self.report()
        await self._notifications.flush()
        return await self._converter.convert(result, name)

    async def _failure(self, session: McpSession, failure: CallFailed) -> ToolFailed:
        """Log a failed call and return the exception for the model."""
        if failure.session_lost:
            await self._discard(session)
        if failure.unreachable and not failure.processed and not self.problem:
            self.problem = str(failure)
            await self.report()
        await self._notifications.flush()
        advice = (
            "The call may have been executed and was not repeated; check this before you retry."
            if failure.processed
            else "The call was not executed."
        )
        return ToolFailed(f"the MCP server {self.server.name} failed: {failure}. {advice}")

    async def _current_session(self) -> McpSession:
        """Return the open session, or a new one if the last one has ended.

        Raises:
            ToolFailed: No session can be opened.
        """
        async with self._opening:
            if self._session is not None and self._session.is_open:
                return self._session
            await self._close_session()
            problem = await self._open()
            changed, self.problem = problem != self.problem or not problem, problem
            if changed:
                await self.report()
            if self._session is None:
                raise ToolFailed(
                    f"the MCP server {self.server.name} is not available: {problem}. "
                    "The call was not executed."
                )
            return self._session

    async def _discard(self, session: McpSession) -> None:
        """Close a session that is no longer usable."""
        async with self._opening:
            if self._session is session:
                await self._close_session()

    async def _close_session(self) -> None:
        """Close the session. If it has ended by itself, its end is logged first."""
        session, self._session = self._session, None
        watching, self._watching = self._watching, None
        if watching is not None and session is not None and not session.is_open:
            await asyncio.wait([watching], timeout=CLOSE_SECONDS)
        if session is not None:
            await session.close()
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])

    async def _open(self) -> str:
        """Open a session; return the problem, or "" if the session is open."""
        settings = self._context.settings
        program = bool(self.server.command)
        limit = settings.mcp_start_seconds if program else settings.mcp_connect_seconds
        session = McpSession(self.server, context=self._context, on_log=self._notifications.on_log)
        self._session = session
        session.start()
        waited, pause = 0.0, min(NOTICE_SECONDS, limit)
        while not await session.opened(pause):
            waited += pause
            if waited >= limit:
                break
            await self._report_waiting(session, waited, limit)
            pause = min(REPEAT_SECONDS, limit - waited)
        if session.is_open:
            self._sessions += 1
            self._watching = asyncio.create_task(self._watch(session))
            return ""
        problem = session.problem or self._timeout_message(limit)
        await self._close_session()
        return problem

    def _timeout_message(self, limit: float) -> str:
        setting = "BERAY_MCP_START_SECONDS" if self.server.command else "BERAY_MCP_CONNECT_SECONDS"
        return f"no response within {limit:g} s ({setting})"

    async def _report_waiting(self, session: McpSession, waited: float, limit: float) -> None:
        program = ", whose program may be downloading packages" if self.server.command else ""
        output = f"; its last output: {session.last_line}" if session.last_line else ""
        message = (
            f"waiting for the MCP server {self.server.name}{program} "
            f"({waited:g} of at most {limit:g} s){output}"
        )
        payload = {"kind": "mcp", "server": self.server.name, "status": "connecting"}
        await self._sink.emit(MsgEventCustomUpdate(payload=payload | {"message": message}))

    async def _watch(self, session: McpSession) -> None:
        """Log the end of a session that ends by itself."""
        problem = await session.ended()
        if problem:
            self.problem = problem
            # If the sink fails, the run notices that at its own next event.
            with suppress(SinkFailed):
                await self.report()


__all__ = ["CLOSE_SECONDS", "McpTools", "connect_servers"]
