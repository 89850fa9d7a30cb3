"""A real MCP server for tests: over HTTP in a thread, or as a program on stdio."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from mcp.server import MCPServer
from mcp.server.mcpserver import Image
from mcp.server.mcpserver.exceptions import ToolError

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def server() -> MCPServer[Any]:
    mcp: MCPServer[Any] = MCPServer("tests")

    @mcp.tool()
    def echo(text: str) -> str:
        """Say it again."""
        return f"echo: {text}"

    @mcp.tool()
    def fail() -> str:
        """Never works."""
        raise ToolError("the tool is broken")

    @mcp.tool()
    async def hang() -> str:
        """Never answers."""
        await asyncio.sleep(3600)
        return "late"

    @mcp.tool()
    def picture() -> Image:
        """One pixel."""
        return Image(data=PIXEL, format="png")

    @mcp.tool()
    def environment() -> dict[str, str]:
        """The variables of this process."""
        return dict(os.environ)

    @mcp.tool()
    def breed() -> str:
        """Start a process that leaves its group and ignores SIGTERM."""
        command = "trap '' TERM; exec sleep 987"
        child = subprocess.Popen(["setsid", "sh", "-c", command], stdin=subprocess.DEVNULL)
        return str(child.pid)

    @mcp.tool()
    def large() -> str:
        """More than anybody wants to read."""
        return "x" * 3_000_000

    @mcp.tool()
    def die() -> str:
        """End the whole server at once."""
        print("these are my last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return ""

    return mcp


class HttpServer:
    """The server over streamable HTTP, in a thread. A context manager.

    Attributes:
        headers: of all requests so far, in lower case.
    """

    def __init__(self) -> None:
        import uvicorn

        self.headers: list[dict[str, str]] = []
        app = self._noting(server().streamable_http_app())
        config = uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=0)
        self._server = uvicorn.Server(config)
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._started.wait(15)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/mcp"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        # What uvicorn does on its way in, it does before it begins to listen.
        startup = self._server.startup

        async def noted(sockets: Any = None) -> None:
            await startup(sockets=sockets)
            self._started.set()

        self._server.startup = noted  # type: ignore[method-assign]
        await self._server.serve()

    def _noting(self, app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def noting(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                pairs = scope["headers"]
                self.headers.append({name.decode(): value.decode() for name, value in pairs})
            await app(scope, receive, send)

        return noting

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


if __name__ == "__main__":
    server().run("stdio")
