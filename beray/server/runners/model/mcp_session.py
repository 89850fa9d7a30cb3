"""Session with one MCP server.

A session ends with its connection or its program and cannot be reopened; ``mcp_servers`` opens
another one instead.
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
from beray.server.runners.model.mcp_http import HttpFailures, http_transport
from beray.server.runners.model.mcp_program import McpProgram
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.version import __version__

CALL_SECONDS: Final = 300.0
"""Timeout of a call."""
CLOSE_SECONDS: Final = 0.3
"""Time in which a session may close regularly before it is cancelled."""
_MAX_PAGES: Final = 20
"""Maximum number of pages of a server's list of tools."""
_BROKEN: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)
_CLOSED_MESSAGES: Final = ("Connection closed", "SSE stream ")
"""Beginnings of messages of the SDK's own errors with the code CONNECTION_CLOSED. Servers use this
code for other errors as well."""
_OTHER_TYPE: Final = "Unexpected content type"
"""Beginning of the SDK's message about a response of another type, such as a web page."""

log = structlog.get_logger("beray.mcp")


@dataclass(frozen=True, slots=True)
class McpContext:
    """Objects that all MCP sessions of a run share."""

    job: Job
    settings: Settings
    sandbox: Sandbox
    policy: OutboundPolicy


class CallFailed(Exception):
    """A tool call has no result; the message is the reason.

    Attributes:
        processed: Whether the server may have executed the call.
        session_lost: Whether the session has ended.
        unreachable: Whether the server could not be reached.
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
    """Session with an MCP server. An asyncio task of its own opens and closes it.

    Args:
        server: The MCP server.
        context: Objects that the sessions share.
        on_log: Handler of log notifications.

    Attributes:
        tools: Tools of the server, once the session is open.
        problem: Reason why it could not be opened, or why it has ended.
    """

    def __init__(self, server: McpServer, *, context: McpContext, on_log: LoggingFnT) -> None:
        self.tools: list[McpTool] = []
        self.problem = ""
        self._server = server
        self._context = context
        self._on_log = on_log
        self._failures = HttpFailures(server)
        self._client: Client | None = None
        self._program: McpProgram | None = None
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """True if calls are possible."""
        return self._client is not None and not self._ended.is_set()

    @property
    def last_line(self) -> str:
        """Last line of the program's standard error; empty for programs of the operator."""
        if self._program is None or self._server.is_operators or not self._program.last_lines:
            return ""
        return self._server.redacted_line(self._program.last_lines[-1])

    def start(self) -> None:
        """Start opening the session in the background."""
        self._task = asyncio.create_task(self._run())

    async def opened(self, seconds: float) -> bool:
        """Wait at most ``seconds``; return True if the session is open or has failed by then."""
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
        """Wait for the end; return the reason, or "" if ``close`` ended the session."""
        await self._ended.wait()
        return "" if self._closing else self.problem

    async def close(self) -> None:
        """End the session, after ``CLOSE_SECONDS`` by cancellation. Idempotent."""
        self._closing = True
        self._ended.set()
        if self._task is None:
            return
        await asyncio.wait([self._task], timeout=0 if self.problem else CLOSE_SECONDS)
        while not self._task.done():
            # Repeatedly, because the clean-up may wait for the server as well.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def call(
        self, name: str, arguments: dict[str, Any], on_progress: ProgressFnT
    ) -> CallToolResult:
        """Call a tool and return its result.

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
                # The response may have arrived just before the end.
                await asyncio.wait([calling], timeout=CLOSE_SECONDS)
            if calling.done():
                return calling.result()
        except Exception as error:  # noqa: BLE001 - an unexpected response can raise any exception
            raise self._call_failed(error) from None
        finally:
            ending.cancel()
            if not calling.done():
                calling.cancel()
                await asyncio.wait([calling], timeout=CLOSE_SECONDS)
        if self._ended.is_set():
            raise self._call_failed(None)
        raise CallFailed(f"it did not respond within {CALL_SECONDS:g} s")

    def _call_failed(self, error: Exception | None) -> CallFailed:
        failure = self._failures.find(error)
        if failure is not None:
            return CallFailed(
                failure.reason,
                processed=failure.processed,
                session_lost=failure.session_lost,
                unreachable=not failure.session_lost,
            )
        program_ended = self._program is not None and self._program.ended.is_set()
        ended = program_ended or self._ended.is_set() or self._task is None or self._task.done()
        reason = self.problem or self._reason(error)
        return CallFailed(reason, session_lost=ended, unreachable=ended)

    async def _run(self) -> None:
        """Connect, wait for the end, and clean up."""
        context, server = self._context, self._server
        try:
            async with AsyncExitStack() as stack:
                if server.command:
                    self._program = McpProgram(
                        programs.running_program(
                            server, context.job, context.settings, context.sandbox
                        )
                    )
                    streams = self._program.streams(self._ended.set)
                else:
                    streams = http_transport(
                        server,
                        context.policy,
                        self._failures,
                        self._ended.set,
                        connect_seconds=context.settings.mcp_connect_seconds,
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
                self.tools = await _list_tools(client)
                self._client = client
                self._ready.set()
                await self._ended.wait()
                self._set_problem(None)
        except Exception as error:  # noqa: BLE001 - an unexpected response can raise any exception
            self._set_problem(error)
        finally:
            self._client = None
            self._ended.set()

    def _set_problem(self, error: Exception | None) -> None:
        """Set the reason of the end, before the clean-up adds further errors."""
        self._client = None
        if not self._closing and not self.problem:
            self.problem = self._reason(error)

    def _reason(self, error: BaseException | None) -> str:
        """Return the reason of a failure without credentials and without response bodies."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if self._program is not None:
            return self._program_reason(self._program, error)
        failure = self._failures.find(error)
        return self._http_reason(error) if failure is None else failure.reason

    def _program_reason(self, program: McpProgram, error: BaseException | None) -> str:
        server = self._server
        if isinstance(error, MCPError) and not program.ended.is_set():
            return server.redacted_line(error.message)
        if error is not None and not program.ended.is_set() and not isinstance(error, _BROKEN):
            return server.redacted_line(f"{type(error).__name__}: {error}".removesuffix(": "))
        output = " / ".join(program.last_lines)
        if server.is_operators:
            # The output may contain file names and credentials of the operator.
            log.warning("an MCP program ended", server=server.server, stderr=output)
            return "its program exited; the server's log has its last output"
        if not output:
            return "its program exited without output to stderr"
        return server.redacted_line(f"its program exited; its last output: {output}")

    def _http_reason(self, error: BaseException | None) -> str:
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
                return "its response is not an MCP message"
            case MCPError(error=details):
                # Without the message, which may be a part of the response body.
                return f"it responded with the JSON-RPC error {details.code}"
        return f"its response cannot be used ({type(error).__name__})"


async def _list_tools(client: Client) -> list[McpTool]:
    if client.server_capabilities.tools is None:
        return []
    tools: list[McpTool] = []
    cursor: str | None = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools
