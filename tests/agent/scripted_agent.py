"""An agent's server that does what a test says: well-behaved, or any kind of broken."""

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

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    @property
    def chat_id(self) -> str:
        assert self.socket.request is not None
        return self.socket.request.path.rstrip("/").rpartition("/")[2]

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def status(self) -> None:
        await self.say("STATUS")

    async def chunk(self, text: str) -> None:
        await self.say("AGENT_EVENT_TEXT_CHUNK", text=text)

    async def end(self) -> None:
        await self.say("AGENT_EVENT_END", tokens_used=7)

    async def heard(self) -> dict[str, Any]:
        """The client's next message."""
        return cast(dict[str, Any], json.loads(await self.socket.recv()))

    async def gone(self) -> None:
        """Until the client has closed."""
        await self.socket.wait_closed()

    def raw(self, data: bytes) -> None:
        self.socket.transport.write(data)

    def close_frame(self, code: int) -> None:
        """A close frame of any code, also of one that must not be sent."""
        self.raw(b"\x88\x02" + struct.pack("!H", code))

    def reset(self) -> None:
        """End TCP by RST."""
        sock = self.socket.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.transport.abort()

    def deaf(self) -> None:
        """Keep the connection, but neither read nor answer pings from now on."""
        self.socket.transport.pause_reading()


async def friendly(peer: Peer) -> None:
    """Answers every message with the words of its text."""
    await peer.status()
    while True:
        message = await peer.heard()
        for word in message["text"].split():
            await peer.chunk(word)
        await peer.end()


class ScriptedAgent:
    """Runs ``scripts`` one after another, one for each connection; then ``friendly``.

    Attributes:
        url: where it is.
        answers: what handshakes are answered with, one after another; ``None``: let in.
        requests: the handshakes that have come.
        most_open: how many connections were open at once.
    """

    def __init__(self, *scripts: Script) -> None:
        self.scripts = deque(scripts)
        self.usual: Script = friendly
        self.answers: deque[Response | None] = deque()
        self.requests: list[Request] = []
        self.peers: dict[Peer, asyncio.Task[Any]] = {}
        self.most_open = 0
        self.url = ""
        self._server: Server | None = None

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        response = Response(status, HTTPStatus(status).phrase, _headers(body, headers), body)
        self.answers.append(response)

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
        return self.answers.popleft() if self.answers else None

    async def _handle(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self.peers[peer] = cast("asyncio.Task[Any]", asyncio.current_task())
        self.most_open = max(self.most_open, len(self.peers))
        script = self.scripts.popleft() if self.scripts else self.usual
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
async def scripted(*scripts: Script) -> AsyncIterator[ScriptedAgent]:
    agent = ScriptedAgent(*scripts)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return once ``condition`` is true; fail where it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
