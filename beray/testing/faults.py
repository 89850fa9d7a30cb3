"""A scripted server that misbehaves on purpose: how does your code take it?

::

    with FaultServer([Answer(status=429, headers={"Retry-After": "1"}), Answer(b"[]")]) as server:
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
class Answer:
    """What one request gets.

    Args:
        body: the bytes, or the pieces they are sent in.
        framing: how the end of the body is told: its length, chunks, or a closed connection.
        drop_at: the connection is closed behind so many bytes of the body.
        reset: a drop is a TCP reset instead of an orderly close.
        stall_at: nothing more is sent behind so many bytes; the connection stays open.
        pause: seconds between two pieces.
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
class Request:
    """A request as it came. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


_OVER: Final = Answer(b"the script is over", 500)


class FaultServer:
    """Gives its answers one after another, one for each request, then 500s.

    A context manager; listens on a free port of the loopback interface.
    """

    def __init__(self, answers: Iterable[Answer]) -> None:
        self._answers = deque(answers)
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        """Set once an answer has come to its ``stall_at``."""
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

    def say(self, *answers: Answer) -> None:
        """Append to the script."""
        with self._lock:
            self._answers.extend(answers)

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._closing.set()
        # A blocked accept is woken by a connection, not by a close.
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
                while (request := _received(connection)) is not None:
                    with self._lock:
                        self.requests.append(request)
                        answer = self._answers.popleft() if self._answers else _OVER
                    if not self._send(connection, answer):
                        return
            except OSError:
                return  # the client left, which scripts provoke

    def _send(self, connection: socket.socket, answer: Answer) -> bool:
        """Send an answer; ``False`` where the connection ends with it."""
        pieces = [answer.body] if isinstance(answer.body, bytes) else answer.body
        connection.sendall(_head(answer, sum(map(len, pieces))))
        left = answer.drop_at if answer.drop_at is not None else answer.stall_at
        for piece in pieces:
            part = piece if left is None else piece[:left]
            if answer.pause and self._closing.wait(answer.pause):
                return False
            if part:
                connection.sendall(_framed(part, len(piece), answer.framing))
            if left is not None:
                left -= len(part)
                if left == 0:
                    break
        if answer.stall_at is not None:
            self.stalled.set()
            self._closing.wait()
            return False
        if answer.drop_at is not None:
            if answer.reset:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        if answer.framing == "chunked":
            connection.sendall(b"0\r\n\r\n")
        return answer.framing != "close"


def _head(answer: Answer, length: int) -> bytes:
    headers = {"Content-Type": "application/json"} | answer.headers
    if answer.framing == "length":
        headers.setdefault("Content-Length", str(length))
    elif answer.framing == "chunked":
        headers["Transfer-Encoding"] = "chunked"
    else:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {answer.status} Scripted"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _framed(part: bytes, whole: int, framing: str) -> bytes:
    """A piece as it goes over the wire; a chunk that is cut short still says its whole size."""
    if framing != "chunked":
        return part
    end = b"\r\n" if len(part) == whole else b""
    return f"{whole:x}\r\n".encode() + part + end


def _received(connection: socket.socket) -> Request | None:
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
    return Request(method, path, headers, _dechunked(body) if chunked else body)


def _dechunked(body: bytes) -> bytes:
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
        return  # it was closed already
