"""The MCP servers of a task: connected together, kept while it runs, and closed."""

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
from beray.server.runners.mcp.admission import admitted
from beray.server.runners.mcp.config import McpServer
from beray.server.runners.model.file_tools import FileTools
from beray.server.runners.model.mcp_notices import Notices
from beray.server.runners.model.mcp_results import Results
from beray.server.runners.model.mcp_session import (
    CLOSE_SECONDS,
    CallFailed,
    McpSession,
    Surroundings,
)
from beray.server.runners.model.names import free_name
from beray.server.runners.model.sinks import SinkFailed

NOTICE_SECONDS: Final = 3.0
"""Wait for a server after which the log first mentions it."""
REPEAT_SECONDS: Final = 15.0
"""Pause between further events about the same wait."""


@dataclass(slots=True)
class Connected:
    """Result of connecting.

    Attributes:
        tools: Tools of all servers, under unique names.
        problems: Names of servers that cannot be used and the reasons, for the model.
    """

    tools: list[Tool[None]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def connected(
    around: Surroundings, sink: Sink, files: FileTools, taken: Sequence[str] = ()
) -> AsyncIterator[Connected]:
    """Connect to the servers of a job, all at once; the log has an event for each.

    A server that cannot be used is a problem in the result, and no more. On leaving, every
    connection is closed and every program has ended.

    Args:
        files: Where the content of results is saved.
        taken: Names that the tools must not have.
    """
    servers = admitted(around.job.tools, around.settings, around.sandbox)
    results = Results(files, images=around.settings.model_images)
    links = [Link(server, sink, around, results) for server in servers]
    result = Connected()
    names = set(taken)
    try:
        await asyncio.gather(*(link.open() for link in links))
        for link in links:
            if link.problem:
                result.problems.append((link.server.name, link.problem))
            for tool in link.tools:
                name = free_name(f"{link.server.name}_{tool.name}", names)
                result.tools.append(link.as_tool(tool, name))
            await link.report()
        yield result
        for link in links:
            await link.flush()
    finally:
        await asyncio.gather(*(link.close() for link in links))


class Link:
    """One server, with the session that is used at present.

    Attributes:
        problem: Why the server cannot be used, empty if it can.
        tools: Its tools when it was first connected to. The model has these.
    """

    def __init__(
        self, server: McpServer, sink: Sink, around: Surroundings, results: Results
    ) -> None:
        self.server = server
        self.problem = server.problem
        self.tools: list[McpTool] = []
        self._sink = sink
        self._around = around
        self._results = results
        self._notices = Notices(server, sink)
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
        """Log the notifications that wait."""
        await self._notices.flush()

    async def close(self) -> None:
        await self._drop()
        await self._notices.close()

    async def report(self) -> None:
        """Log the state of this server."""
        payload: dict[str, Any] = {"kind": "mcp", "server": self.server.name}
        if self.problem:
            payload |= {"status": "failed", "message": self.problem}
        else:
            count = f"{len(self.tools)} {'tool' if len(self.tools) == 1 else 'tools'}"
            again = "connected again, " if self._sessions > 1 else ""
            tools = [tool.name for tool in self.tools]
            payload |= {"status": "connected", "message": f"{again}{count}", "tools": tools}
        await self._sink.emit(MsgEventCustomUpdate(payload=payload))

    def as_tool(self, tool: McpTool, name: str) -> Tool[None]:
        async def call(context: RunContext[None], /, **arguments: Any) -> Any:
            return await self._call(tool.name, name, context.tool_call_id or "", arguments)

        return Tool.from_schema(
            call,
            name=name,
            description=(tool.description or tool.title or tool.name)[:4000],
            json_schema=tool.input_schema,
            takes_ctx=True,
        )

    async def _call(self, tool: str, name: str, call_id: str, arguments: dict[str, Any]) -> Any:
        on_progress = self._notices.on_progress(tool, call_id)
        session = await self._current()
        try:
            result = await session.call(tool, arguments, on_progress)
        except CallFailed as failure:
            if not failure.session_lost or failure.processed:
                raise await self._failed(session, failure) from None
            # The server did not accept the call, so nothing is done twice.
            await self._lose(session)
            session = await self._current()
            try:
                result = await session.call(tool, arguments, on_progress)
            except CallFailed as again:
                raise await self._failed(session, again) from None
        if self.problem:
            self.problem = ""
            await self.report()
        await self._notices.flush()
        return await self._results.convert(result, name)

    async def _failed(self, session: McpSession, failure: CallFailed) -> ToolFailed:
        """Return the failure for the model, after the log has it."""
        if failure.session_lost:
            await self._lose(session)
        if failure.unreachable and not failure.processed and not self.problem:
            self.problem = str(failure)
            await self.report()
        await self._notices.flush()
        advice = (
            "The call may have been executed and was not repeated; find out before you call again."
            if failure.processed
            else "The call was not executed."
        )
        return ToolFailed(f"the MCP server {self.server.name} failed: {failure}. {advice}")

    async def _current(self) -> McpSession:
        """Return the open session, a new one if the last has ended.

        Raises:
            ToolFailed: There can be none.
        """
        async with self._opening:
            if self._session is not None and self._session.is_open:
                return self._session
            await self._drop()
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

    async def _lose(self, session: McpSession) -> None:
        """Close a session that cannot be used any more."""
        async with self._opening:
            if self._session is session:
                await self._drop()

    async def _drop(self) -> None:
        """Close the session. If it has ended by itself, the log has an event for that."""
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
        """Open a session; return the problem, "" if it is open."""
        settings = self._around.settings
        program = bool(self.server.command)
        limit = settings.mcp_start_seconds if program else settings.mcp_connect_seconds
        session = self._session = McpSession(self.server, self._around, self._notices.on_log)
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
        problem = session.problem or self._no_answer(limit)
        await self._drop()
        return problem

    def _no_answer(self, limit: float) -> str:
        setting = "BERAY_MCP_START_SECONDS" if self.server.command else "BERAY_MCP_CONNECT_SECONDS"
        return f"no answer within {limit:g} s ({setting})"

    async def _report_waiting(self, session: McpSession, waited: float, limit: float) -> None:
        program = ", whose program may be downloading packages" if self.server.command else ""
        said = f"; its last output: {session.last_words}" if session.last_words else ""
        message = (
            f"waiting for the MCP server {self.server.name}{program} "
            f"({waited:g} of at most {limit:g} s){said}"
        )
        payload = {"kind": "mcp", "server": self.server.name, "status": "connecting"}
        await self._sink.emit(MsgEventCustomUpdate(payload=payload | {"message": message}))

    async def _watch(self, session: McpSession) -> None:
        """Log the end of a session that ends by itself."""
        problem = await session.ended()
        if problem:
            self.problem = problem
            # If the log takes no more, the run learns it from its own next event.
            with suppress(SinkFailed):
                await self.report()


__all__ = ["CLOSE_SECONDS", "Connected", "connected"]
