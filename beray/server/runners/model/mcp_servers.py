"""The MCP servers of a task: connected together, kept while it runs, and closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import httpx2
import structlog
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, PARSE_ERROR, Implementation
from mcp_types import Tool as McpTool
from pydantic_ai import Tool
from pydantic_ai.exceptions import ToolFailed

from beray.events import MsgEventCustomUpdate
from beray.server.outbound.policy import ForbiddenDestination, OutboundPolicy
from beray.server.runners.base import Job, Sink
from beray.server.runners.mcp import programs
from beray.server.runners.mcp.admission import admitted
from beray.server.runners.mcp.config import McpServer
from beray.server.runners.model.mcp_results import for_model
from beray.server.runners.model.mcp_transports import (
    CALL_SECONDS,
    CONNECT_SECONDS,
    HttpStatus,
    Program,
    over_http,
)
from beray.server.runners.model.names import free_name
from beray.server.runners.model.sinks import SinkFailed
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.version import __version__

CLOSE_SECONDS: Final = 0.3
_PAGES: Final = 20
log = structlog.get_logger("beray.mcp")
_BROKEN: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)


@dataclass(slots=True)
class Connected:
    """What came of connecting.

    Attributes:
        tools: of all servers, under names that do not clash.
        problems: name of a server and why it is not there, for the model.
    """

    tools: list[Tool[None]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def connected(
    job: Job,
    sink: Sink,
    settings: Settings,
    sandbox: Sandbox,
    policy: OutboundPolicy,
    taken: Sequence[str] = (),
) -> AsyncIterator[Connected]:
    """Connect to the servers of ``job``, all at once; each tells the sink how that went.

    A server that cannot be reached is a problem in the result, and no more. On leaving,
    every connection is closed and every program is dead.

    Args:
        policy: destinations that URLs may reach.
        taken: names that the tools must not have.
    """
    servers = admitted(job.tools, settings, sandbox)
    links = [Link(server, sink, job, settings, sandbox, policy) for server in servers]
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
            await link.tell([tool.name for tool in link.tools])
        yield result
    finally:
        await asyncio.gather(*(link.close() for link in links))


class Link:
    """The connection to one server. A task of its own holds it from beginning to end."""

    def __init__(
        self,
        server: McpServer,
        sink: Sink,
        job: Job,
        settings: Settings,
        sandbox: Sandbox,
        policy: OutboundPolicy,
    ) -> None:
        self.server = server
        self.problem = server.problem
        self.tools: list[McpTool] = []
        self._sink = sink
        self._job = job
        self._settings = settings
        self._sandbox = sandbox
        self._policy = policy
        self._status = HttpStatus()
        self._client: Client | None = None
        self._program: Program | None = None
        self._closing = asyncio.Event()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect and learn which tools there are; ``problem`` says why that failed."""
        if self.problem:
            return
        self._task = asyncio.create_task(self._keep())
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait(
                [self._task, ready], timeout=CONNECT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            ready.cancel()
        if not self._ready.is_set() and not self.problem:
            self.problem = f"no answer within {CONNECT_SECONDS:g} s"
        if self.problem:
            await self.close()

    async def close(self) -> None:
        """End the connection, politely for a moment, and then at once. Idempotent."""
        self._closing.set()
        if self._task is None:
            return
        if self._telling is not None:
            await asyncio.wait([self._telling], timeout=CLOSE_SECONDS)
        await asyncio.wait([self._task], timeout=0 if self.problem else CLOSE_SECONDS)
        while not self._task.done():
            # What cleans up may itself wait for the server: it is interrupted as well.
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def tell(self, tools: list[str]) -> None:
        """Log how it stands with this server."""
        payload: dict[str, Any] = {"kind": "mcp", "server": self.server.name}
        if self.problem:
            payload |= {"status": "failed", "message": self.problem}
        else:
            count = f"{len(tools)} {'tool' if len(tools) == 1 else 'tools'}"
            payload |= {"status": "connected", "message": count, "tools": tools}
        await self._sink.emit(MsgEventCustomUpdate(payload=payload))

    def as_tool(self, tool: McpTool, name: str) -> Tool[None]:
        async def call(**arguments: Any) -> Any:
            return await self._call(tool.name, arguments)

        return Tool.from_schema(
            call,
            name=name,
            description=(tool.description or tool.title or tool.name)[:4000],
            json_schema=tool.input_schema,
        )

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        if self._client is None:
            raise ToolFailed(f"the MCP server {self.server.name} is gone: {self.problem}")
        try:
            async with asyncio.timeout(CALL_SECONDS):
                result = await self._client.call_tool(name, arguments)
        except TimeoutError:
            raise ToolFailed(
                f"the MCP server {self.server.name} gave no answer within {CALL_SECONDS:g} s"
            ) from None
        except Exception as error:  # noqa: BLE001 - of a foreign server, anything can be expected
            said = self._words(error)
            raise ToolFailed(f"the MCP server {self.server.name} failed: {said}") from None
        return for_model(result)

    async def _keep(self) -> None:
        """Connect, stay until ``close`` or the server's end, and clean up."""
        try:
            async with AsyncExitStack() as stack:
                streams = over_http(self.server, self._policy, self._status)
                if self.server.command:
                    self._program = Program(
                        programs.process(self.server, self._job, self._settings, self._sandbox)
                    )
                    streams = self._program.streams()
                info = Implementation(name="beray", version=__version__)
                client = Client(streams, client_info=info, cache=None)
                await stack.enter_async_context(client)
                self.tools = await _tools(client)
                self._client = client
                self._ready.set()
                await self._until_the_end()
        except Exception as error:  # noqa: BLE001 - of a foreign server, anything can be expected
            if not self._closing.is_set() and not self.problem:
                self._lose(self._words(error))
        finally:
            self._client = None

    def _lose(self, problem: str) -> None:
        """It cannot be called any more. That is told before anything is cleaned up."""
        self._client = None
        self.problem = problem
        if self._ready.is_set():
            self._telling = asyncio.create_task(self._tell_of_it())

    async def _tell_of_it(self) -> None:
        # Where the log takes no more, the run is told so by its own next event.
        with suppress(SinkFailed):
            await self.tell([])

    async def _until_the_end(self) -> None:
        if self._program is None:
            await self._closing.wait()
            return
        gone = asyncio.create_task(self._program.gone.wait())
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait([gone, closing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            closing.cancel()
        if not self._closing.is_set():
            self._lose(self._words(None))

    def _words(self, error: BaseException | None) -> str:
        """Return the reason of a failure, without credentials and without response bodies."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if self._program is not None:
            return self._reason_of_program(self._program, error)
        return self.server.safe(self._reason_of_url(error))

    def _reason_of_program(self, program: Program, error: BaseException | None) -> str:
        if isinstance(error, MCPError) and not program.gone.is_set():
            return self.server.safe(error.message)
        if error is not None and not program.gone.is_set() and not isinstance(error, _BROKEN):
            return self.server.safe(f"{type(error).__name__}: {error}".removesuffix(": "))
        last = " / ".join(program.last_words)
        if self.server.is_operators:
            # It may name files and credentials of the operator.
            log.warning("an MCP program ended", server=self.server.server, stderr=last)
            return "its program has ended; the server's log has its last output"
        return self.server.safe(
            f"its program has ended: {last}" if last else "its program has ended"
        )

    def _reason_of_url(self, error: BaseException | None) -> str:
        match error:
            case ForbiddenDestination():
                return str(error)
            case httpx2.ConnectError():
                return f"it cannot be reached: {error}"
            case httpx2.TimeoutException():
                return "it did not answer in time"
            case _ if self._status.problem:
                return f"it answered with {self._status.problem}"
            case None | anyio.ClosedResourceError() | anyio.BrokenResourceError():
                return "it closed the connection"
            case anyio.EndOfStream() | httpx2.NetworkError() | httpx2.RemoteProtocolError():
                return "it closed the connection"
            case MCPError(error=details) if details.code == CONNECTION_CLOSED:
                return "it closed the connection"
            case MCPError(error=details) if details.code == PARSE_ERROR:
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


__all__ = ["Connected", "connected"]
