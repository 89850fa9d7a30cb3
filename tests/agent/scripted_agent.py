"""Agent server with scripted behaviour, including protocol violations."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support import WAIT_SECONDS

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """Server side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    @property
    def chat_id(self) -> str:
        assert self.socket.request is not None
        return self.socket.request.path.rstrip("/").rpartition("/")[2]

    async def send(self, message_type: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": message_type, **fields}))

    async def send_status(self) -> None:
        await self.send("STATUS")

    async def send_text(self, text: str) -> None:
        await self.send("AGENT_EVENT_TEXT_CHUNK", text=text)

    async def send_end(self) -> None:
        await self.send("AGENT_EVENT_END", tokens_used=7)

    async def receive(self) -> dict[str, Any]:
        """Return the client's next message."""
        return cast(dict[str, Any], json.loads(await self.socket.recv()))

    async def wait_closed(self) -> None:
        """Wait until the client has closed the connection."""
        await self.socket.wait_closed()

    def raw(self, data: bytes) -> None:
        self.socket.transport.write(data)

    def close_frame(self, code: int) -> None:
        """Send a close frame with any code, even a reserved one."""
        self.raw(b"\x88\x02" + struct.pack("!H", code))

    def reset(self) -> None:
        """Reset the TCP connection (RST)."""
        sock = self.socket.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.transport.abort()

    def stop_reading(self) -> None:
        """Keep the connection open without reading, so that pings remain unanswered."""
        self.socket.transport.pause_reading()


async def echo_words(peer: Peer) -> None:
    """Answer each message with the words of its text."""
    await peer.send_status()
    while True:
        message = await peer.receive()
        for word in message["text"].split():
            await peer.send_text(word)
        await peer.send_end()


class ScriptedAgent:
    """Agent server that runs one of ``scripts`` for each connection, then ``default_script``.

    Attributes:
        url: URL of the server.
        handshake_responses: Responses to the next handshakes; None accepts one.
        requests: Received handshakes.
        max_open: Maximum number of connections that were open at the same time.
    """

    def __init__(self, *scripts: Script) -> None:
        self.scripts = deque(scripts)
        self.default_script: Script = echo_words
        self.handshake_responses: deque[Response | None] = deque()
        self.requests: list[Request] = []
        self.peers: dict[Peer, asyncio.Task[Any]] = {}
        self.max_open = 0
        self.url = ""
        self._server: Server | None = None

    def add_handshake_response(self, status: int, body: bytes = b"", **headers: str) -> None:
        response = Response(status, HTTPStatus(status).phrase, _headers(body, headers), body)
        self.handshake_responses.append(response)

    async def start(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server = await serve(
            self._handle,
            "127.0.0.1",
            port,
            process_request=self._process,
            ping_interval=None,
            close_timeout=1,
            ssl=tls,
            max_size=None,
        )
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def stop(self) -> None:
        if self._server is not None:
            for peer, handling in list(self.peers.items()):
                handling.cancel()
                peer.socket.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def _process(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        return self.handshake_responses.popleft() if self.handshake_responses else None

    async def _handle(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self.peers[peer] = cast("asyncio.Task[Any]", asyncio.current_task())
        self.max_open = max(self.max_open, len(self.peers))
        script = self.scripts.popleft() if self.scripts else self.default_script
        try:
            await script(peer)
        except (ConnectionClosed, asyncio.CancelledError):
            pass
        finally:
            del self.peers[peer]


def _headers(body: bytes, more: dict[str, str]) -> Any:
    from websockets.datastructures import Headers

    headers = Headers(more)
    headers["Content-Length"] = str(len(body))
    headers["Connection"] = "close"
    return headers


@asynccontextmanager
async def scripted_agent(*scripts: Script) -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent(*scripts)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


async def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    """Wait until ``condition`` is true; raise TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
