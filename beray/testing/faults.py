"""Scripted server for tests of error handling: it delays, truncates or drops its responses.

::

    busy = ScriptedResponse(status=429, headers={"Retry-After": "1"})
    with FaultServer([busy, ScriptedResponse(b"[]")]) as server:
        client = BeRayClient(server.url)
        ...
        assert [request.path for request in server.requests] == ["/api/v1/tasks/"] * 2
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Self

_HEAD_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class ScriptedResponse:
    """Response of a ``FaultServer`` to one request.

    Attributes:
        body: The body, or the pieces in which it is sent.
        status: HTTP status.
        headers: Additional headers.
        framing: Marks the end of the body: ``Content-Length``, chunked encoding, or a close.
        drop_at: Number of bytes of the body after which the connection is closed.
        reset: True closes the connection with a TCP reset instead of an orderly close.
        stall_at: Number of bytes of the body after which nothing is sent; the connection stays
            open.
        pause: Seconds between two pieces.
    """

    body: bytes | list[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    framing: Literal["length", "chunked", "close"] = "length"
    drop_at: int | None = None
    reset: bool = False
    stall_at: int | None = None
    pause: float = 0.0


@dataclass(frozen=True)
class RecordedRequest:
    """Request that a ``FaultServer`` received. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


_SCRIPT_IS_OVER: Final = ScriptedResponse(b"the script is over", 500)


class FaultServer:
    """HTTP server that sends scripted responses, one for each request, and then status 500.

    It is a context manager and listens on a free port of the loopback interface.

    Args:
        responses: The script.

    Attributes:
        url: URL of the server.
        requests: Requests received so far.
        stalled: Set once a response has reached its ``stall_at``.
    """

    def __init__(self, responses: Iterable[ScriptedResponse]) -> None:
        self._responses = deque(responses)
        self.requests: list[RecordedRequest] = []
        self.stalled = threading.Event()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection_count(self) -> int:
        """Number of connections accepted so far."""
        with self._lock:
            return len(self._connections)

    def add_responses(self, *responses: ScriptedResponse) -> None:
        """Append responses to the script."""
        with self._lock:
            self._responses.extend(responses)

    say = add_responses
    """Earlier name of ``add_responses``, kept for existing tests of users."""

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._closing.set()
        # A connection wakes a blocked accept, a close does not.
        with socket.create_connection(self._listener.getsockname()):
            self._thread.join()
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                _shut(connection)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._closing.is_set():
                connection.close()
                return
            with self._lock:
                self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while (request := _receive_request(connection)) is not None:
                    with self._lock:
                        self.requests.append(request)
                        response = self._responses.popleft() if self._responses else _SCRIPT_IS_OVER
                    if not self._send(connection, response):
                        return
            except OSError:
                return  # the client disconnected, as scripts intend

    def _send(self, connection: socket.socket, response: ScriptedResponse) -> bool:
        """Send a response; return False if the connection must be closed after it."""
        pieces = [response.body] if isinstance(response.body, bytes) else response.body
        connection.sendall(_response_head(response, sum(map(len, pieces))))
        remaining = response.drop_at if response.drop_at is not None else response.stall_at
        for piece in pieces:
            part = piece if remaining is None else piece[:remaining]
            if response.pause and self._closing.wait(response.pause):
                return False
            if part:
                connection.sendall(_add_framing(part, len(piece), response.framing))
            if remaining is not None:
                remaining -= len(part)
                if remaining == 0:
                    break
        if response.stall_at is not None:
            self.stalled.set()
            self._closing.wait()
            return False
        if response.drop_at is not None:
            if response.reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        if response.framing == "chunked":
            connection.sendall(b"0\r\n\r\n")
        return response.framing != "close"


def _response_head(response: ScriptedResponse, length: int) -> bytes:
    headers = {"Content-Type": "application/json"} | response.headers
    if response.framing == "length":
        headers.setdefault("Content-Length", str(length))
    elif response.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status} Scripted"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _add_framing(part: bytes, whole: int, framing: str) -> bytes:
    """Return a piece as it is sent; a truncated chunk still announces its whole size."""
    if framing != "chunked":
        return part
    end = b"\r\n" if len(part) == whole else b""
    return f"{whole:x}\r\n".encode() + part + end


def _receive_request(connection: socket.socket) -> RecordedRequest | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_HEAD_BYTES)
        if not piece or len(data) > _HEAD_BYTES:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    fields = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    length = int(headers.get("content-length", "0"))
    chunked = headers.get("transfer-encoding") == "chunked"
    while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
        piece = connection.recv(_HEAD_BYTES)
        if not piece:
            return None
        body += piece
    return RecordedRequest(method, path, headers, _decode_chunks(body) if chunked else body)


def _decode_chunks(body: bytes) -> bytes:
    content = b""
    while size := int(body[: body.index(b"\r\n")], 16):
        start = body.index(b"\r\n") + 2
        content += body[start : start + size]
        body = body[start + size + 2 :]
    return content


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # already closed
