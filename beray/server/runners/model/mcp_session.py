"""A session with one MCP server: opened, used for calls, and closed.

A session ends with its connection or program. It is not opened again: ``mcp_servers`` opens
another one.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import anyio
import structlog
from mcp import Client
from mcp.client.session import LoggingFnT
from mcp.shared.dispatcher import ProgressFnT
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    PARSE_ERROR,
    CallToolResult,
    Implementation,
)
from mcp_types import Tool as McpTool

from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners.base import Job
from beray.server.runners.mcp import programs
from beray.server.runners.mcp.config import McpServer
from beray.server.runners.model.mcp_http import HttpFailures, over_http
from beray.server.runners.model.mcp_program import Program
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.version import __version__

CALL_SECONDS: Final = 300.0
CLOSE_SECONDS: Final = 0.3
_PAGES: Final = 20
_BROKEN: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
_CLOSED_MESSAGES: Final = ("Connection closed", "SSE stream ")
"""Beginnings of the messages that the SDK gives to errors of its own with CONNECTION_CLOSED.
Servers use this code for their own errors."""
_OTHER_TYPE: Final = "Unexpected content type"
"""Beginning of the message that the SDK gives to a response such as a web page."""

log = structlog.get_logger("beray.mcp")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Objects that all sessions of a run share."""

    job: Job
    settings: Settings
    sandbox: Sandbox
    policy: OutboundPolicy


class CallFailed(Exception):
    """A call has no result; the message is the reason.

    Attributes:
        processed: Whether the server may have executed it.
        session_lost: Another session is needed.
        unreachable: The server could not be reached.
    """

    def __init__(
        self,
        reason: str,
        *,
        processed: bool = True,
        session_lost: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.processed = processed
        self.session_lost = session_lost
        self.unreachable = unreachable


class McpSession:
    """One session. A task of its own holds it from beginning to end.

    Attributes:
        tools: Tools of the server, once the session is open.
        problem: Why it could not be opened, or why it has ended.
    """

    def __init__(self, server: McpServer, around: Surroundings, on_log: LoggingFnT) -> None:
        self.tools: list[McpTool] = []
        self.problem = ""
        self._server = server
        self._around = around
        self._on_log = on_log
        self._failures = HttpFailures(server)
        self._client: Client | None = None
        self._program: Program | None = None
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._client is not None and not self._ended.is_set()

    @property
    def last_words(self) -> str:
        """The last line on a program's standard error; of the operator's programs, nothing."""
        if self._program is None or self._server.is_operators or not self._program.last_words:
            return ""
        return self._server.safe(self._program.last_words[-1])

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def opened(self, seconds: float) -> bool:
        """Wait at most ``seconds``; return whether it is open or has failed by then."""
        assert self._task is not None
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                [self._task, ready], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        return self._ready.is_set() or self._task.done()

    async def ended(self) -> str:
        """Wait for the end; return the reason, "" if the session was closed by ``close``."""
        await self._ended.wait()
        return "" if self._closing else self.problem

    async def close(self) -> None:
        """End the session, politely for a moment, and then at once. Idempotent."""
        self._closing = True
        self._ended.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=0 if self.problem else CLOSE_SECONDS)
        while not self._task.done():
            # What cleans up may itself wait for the server: it is interrupted as well.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def call(
        self, name: str, arguments: dict[str, Any], on_progress: ProgressFnT
    ) -> CallToolResult:
        """Call a tool.

        Raises:
            CallFailed: There is no result.
        """
        client = self._client
        if client is None or self._ended.is_set():
            raise CallFailed(self.problem, processed=False, session_lost=True)
        calling = asyncio.ensure_future(
            client.call_tool(name, arguments, progress_callback=on_progress)
        )
        ending = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait(
                [calling, ending], timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if not calling.done() and self._ended.is_set():
                # The answer may be the last thing that came.
                await asyncio.wait([calling], timeout=CLOSE_SECONDS)
            if calling.done():
                return calling.result()
        except Exception as error:  # noqa: BLE001 - anything can be expected of a foreign server
            raise self._call_failed(error) from None
        finally:
            ending.cancel()
            if not calling.done():
                calling.cancel()
                await asyncio.wait([calling], timeout=CLOSE_SECONDS)
        if self._ended.is_set():
            raise self._call_failed(None)
        raise CallFailed(f"it gave no answer within {CALL_SECONDS:g} s")

    def _call_failed(self, error: Exception | None) -> CallFailed:
        failure = self._failures.find(error)
        if failure is not None:
            return CallFailed(
                failure.reason,
                processed=failure.processed,
                session_lost=failure.session_lost,
                unreachable=not failure.session_lost,
            )
        gone = self._program is not None and self._program.gone.is_set()
        ended = gone or self._ended.is_set() or self._task is None or self._task.done()
        reason = self.problem or self._reason(error)
        return CallFailed(reason, session_lost=ended, unreachable=ended)

    async def _keep(self) -> None:
        """Connect, stay until the end, and clean up."""
        around, server = self._around, self._server
        try:
            async with AsyncExitStack() as stack:
                if server.command:
                    self._program = Program(
                        programs.process(server, around.job, around.settings, around.sandbox)
                    )
                    streams = self._program.streams(self._ended.set)
                else:
                    streams = over_http(
                        server,
                        around.policy,
                        self._failures,
                        self._ended.set,
                        connect_seconds=around.settings.mcp_connect_seconds,
                        read_seconds=CALL_SECONDS,
                    )
                client = Client(
                    streams,
                    client_info=Implementation(name="beray", version=__version__),
                    cache=None,
                    logging_callback=self._on_log,
                    log_level="info",
                )
                await stack.enter_async_context(client)
                self.tools = await _tools(client)
                self._client = client
                self._ready.set()
                await self._ended.wait()
                self._lose(None)
        except Exception as error:  # noqa: BLE001 - anything can be expected of a foreign server
            self._lose(error)
        finally:
            self._client = None
            self._ended.set()

    def _lose(self, error: Exception | None) -> None:
        """Note the reason of the end, before anything is cleaned up."""
        self._client = None
        if not self._closing and not self.problem:
            self.problem = self._reason(error)

    def _reason(self, error: BaseException | None) -> str:
        """Return the reason of a failure, without credentials and without response bodies."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if self._program is not None:
            return self._reason_of_program(self._program, error)
        failure = self._failures.find(error)
        return self._reason_of_url(error) if failure is None else failure.reason

    def _reason_of_program(self, program: Program, error: BaseException | None) -> str:
        server = self._server
        if isinstance(error, MCPError) and not program.gone.is_set():
            return server.safe(error.message)
        if error is not None and not program.gone.is_set() and not isinstance(error, _BROKEN):
            return server.safe(f"{type(error).__name__}: {error}".removesuffix(": "))
        last = " / ".join(program.last_words)
        if server.is_operators:
            # It may name files and credentials of the operator.
            log.warning("an MCP program ended", server=server.server, stderr=last)
            return "its program has ended; the server's log has its last output"
        return server.safe(f"its program has ended: {last}" if last else "its program has ended")

    def _reason_of_url(self, error: BaseException | None) -> str:
        match error:
            case None | anyio.ClosedResourceError() | anyio.BrokenResourceError():
                return "it closed the connection"
            case anyio.EndOfStream():
                return "it closed the connection"
            case MCPError(error=details) if details.code == CONNECTION_CLOSED and (
                details.message.startswith(_CLOSED_MESSAGES)
            ):
                return "it closed the connection"
            case MCPError(error=details) if details.code == PARSE_ERROR or (
                details.code == INVALID_REQUEST and details.message.startswith(_OTHER_TYPE)
            ):
                return "its answer is not an MCP message"
            case MCPError(error=details):
                # The message may be a part of the response.
                return f"it answered with the JSON-RPC error {details.code}"
        return f"its answer cannot be used ({type(error).__name__})"


async def _tools(client: Client) -> list[McpTool]:
    if client.server_capabilities.tools is None:
        return []
    tools: list[McpTool] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools
