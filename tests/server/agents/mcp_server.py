"""MCP server for tests: over HTTP in a thread, or as a program on stdio."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import AudioContent, BlobResourceContents, EmbeddedResource, ImageContent

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _append(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("x")


def _exists(path: str) -> bool:
    return Path(path).exists()


def _size(path: str) -> int:
    return Path(path).stat().st_size


def server() -> MCPServer[Any]:
    mcp: MCPServer[Any] = MCPServer("tests")

    @mcp.tool()
    def echo(text: str) -> str:
        """Return the text."""
        return f"echo: {text}"

    @mcp.tool()
    def fail() -> str:
        """Fail."""
        raise ToolError("the tool is broken")

    @mcp.tool()
    async def hang() -> str:
        """Never return."""
        await asyncio.sleep(3600)
        return "late"

    @mcp.tool()
    def picture() -> Image:
        """Return an image of one pixel."""
        return Image(data=PIXEL, format="png")

    @mcp.tool()
    def environment() -> dict[str, str]:
        """Return the environment variables of this process."""
        return dict(os.environ)

    @mcp.tool()
    def breed() -> str:
        """Start a process that leaves its group and ignores SIGTERM."""
        command = "trap '' TERM; exec sleep 987"
        child = subprocess.Popen(["setsid", "sh", "-c", command], stdin=subprocess.DEVNULL)
        return str(child.pid)

    @mcp.tool()
    def large() -> str:
        """Return very long text."""
        return "x" * 3_000_000

    @mcp.tool()
    async def work(started: str, finished: str) -> str:
        """Add to a file, wait for another one, and return the number of calls so far."""
        _append(started)
        while not _exists(finished):  # noqa: ASYNC110 - another process creates it
            await asyncio.sleep(0.01)
        return f"calls: {_size(started)}"

    @mcp.tool()
    async def report(count: int, context: Context) -> str:
        """Report progress and log messages, many times."""
        for number in range(1, count + 1):
            await context.report_progress(number, count, f"step {number}\x1b[31m")
            await context.log("debug", f"detail {number}")
            await context.log("warning", {"number": number})
        return "reported"

    @mcp.tool()
    def media(big: int = 0) -> list[Any]:
        """Return two images, audio, a file and text."""
        image = ImageContent(type="image", data=_base64(PIXEL), mime_type="image/png")
        uri = "file:///reports/%2e%2e%2fsales%20;rm.PDF"
        return [
            "two images",
            image,
            image,
            ImageContent(type="image", data=_base64(b"BM bitmap"), mime_type="image/bmp; x=../.."),
            AudioContent(type="audio", data=_base64(b"RIFF sound"), mime_type="audio/wav"),
            EmbeddedResource(
                type="resource",
                resource=BlobResourceContents(
                    uri=uri, blob=_base64(b"%PDF" + bytes(big)), mime_type="application/pdf"
                ),
            ),
        ]

    @mcp.tool()
    def die() -> str:
        """Kill the server process."""
        print("these are my last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    return mcp


App = Callable[..., Awaitable[None]]


class HttpServer:
    """Server over streamable HTTP in a thread. A context manager.

    Args:
        sessions: Whether it supports only protocol versions with sessions.
        unknown_session: HTTP status for requests with an unknown session.
        sse: Whether the transport is HTTP with SSE instead.

    Attributes:
        headers: Headers of all requests so far, with names in lower case.
    """

    def __init__(
        self, *, sessions: bool = False, unknown_session: int = 404, sse: bool = False
    ) -> None:
        import uvicorn

        self.headers: list[dict[str, str]] = []
        mcp = server()
        app = self._recording(mcp.sse_app() if sse else mcp.streamable_http_app())
        if sessions:
            app = _with_sessions(app, unknown_session)
        config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(15)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/{'sse' if sse else 'mcp'}"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        # uvicorn has no public hook that is called after the sockets are listening.
        startup = self._server.startup

        async def report_startup(sockets: Any = None) -> None:
            await startup(sockets=sockets)
            self._started.set()

        self._server.startup = report_startup  # type: ignore[method-assign]
        await self._server.serve()

    def _recording(self, app: App) -> App:
        async def record(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                pairs = scope["headers"]
                self.headers.append({name.decode(): value.decode() for name, value in pairs})
            await app(scope, receive, send)

        return record

    def close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _with_sessions(app: App, unknown_session: int) -> App:
    """Return a server without ``server/discover``, like most existing ones."""

    async def older(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if b'"server/discover"' in body:
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": b"Missing session ID"})
            return
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return messages.pop() if messages else await receive()

        async def mapped(message: Any) -> None:
            if message.get("status") == 404:
                message["status"] = unknown_session
            await send(message)

        await app(scope, replay, mapped)

    return older


class Proxy:
    """TCP proxy that can reset connections. An async context manager.

    Attributes:
        port: Port on which it listens.
        target: Port of the server for new connections; None: they are closed.
        poison: Data whose connection is reset instead of forwarding it.
    """

    def __init__(self, target: int) -> None:
        self.target: int | None = target
        self.poison: bytes | None = None
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        while self._pumps:
            for pump in self._pumps:
                pump.cancel()
            await asyncio.wait(set(self._pumps))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.target is None:
            writer.transport.abort()
            return
        their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, their_writer}
        for source, target in ((reader, their_writer), (their_reader, writer)):
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self.poison is not None and self.poison in data:
                    return
                target.write(data)
                await target.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(target)
            target.transport.abort()


if __name__ == "__main__":
    server().run("stdio")
