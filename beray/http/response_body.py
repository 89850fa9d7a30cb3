"""The body of a streamed response, piece by piece, as the pieces arrive.

``http.client`` hands a chunked body on one chunk at a time, at a cost that for small
events exceeds all the rest. So where the connection is an ordinary one, its bytes are
read here in blocks, and the chunks are taken apart here (RFC 9112, 7.1).
"""

from __future__ import annotations

import http.client
import io
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, TypeVar

import requests
import urllib3

from beray.exceptions import (
    BeRayException,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidResponseError,
)
from beray.http import decompression
from beray.http.decompression import READ_BYTES
from beray.schema import BODY_EXCERPT

T = TypeVar("T")
_MAX_LINE: Final = 16 * 1024


class BrokenBody(ConnectionFailed):
    """The connection broke before the body was complete."""


class Body:
    """Read a response's body; ``shut`` may be called from any thread."""

    def __init__(self, response: requests.Response, what: str) -> None:
        self._response = response
        self._what = what
        self._closed = False
        self._read = _reader(response)

    def read(self) -> bytes:
        """Return what has arrived, waiting for the first byte; b"" behind the last.

        Raises:
            DeadlineExceeded: nothing came within the read timeout.
            BrokenBody: the connection broke.
            InvalidResponseError: it is not encoded as it says.
        """
        return self._guarded(self._read) or b""

    def blocks(self, size: int, length: int | None) -> Iterator[bytes | memoryview]:
        """Give the body in blocks of about ``size`` bytes at most, as they arrive.

        Args:
            length: of the whole body, where it is known. A large one is received into one
                buffer, so that each block is valid only until the next is asked for.

        Raises:
            as ``read``.
        """
        receive = _direct(self._response) if length is not None and length > size else None
        if receive is None or length is None:
            while block := self.read():
                yield block
            return
        said = _connection(self._response)
        if said is not None and said.length is not None:
            length = min(length, said.length)  # a part may be less than was asked for
        buffer = memoryview(bytearray(size))
        while length > 0:
            count = self._guarded(partial(receive, buffer[: min(size, length)]))
            if not count:
                return
            yield buffer[:count]
            length -= count

    def _guarded(self, receive: Callable[[], T]) -> T | None:
        """What ``receive`` returns; ``None`` where another thread has closed the body."""
        try:
            received = receive()
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            reason: BeRayException = DeadlineExceeded(f"{self._what}: no sign of life in time")
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError, EOFError):
            # ValueError and AttributeError: it was closed between two steps of a read.
            reason = BrokenBody(f"{self._what}: the connection broke")
        except zlib.error:
            text = f"{self._what}: what came is not encoded as it says"
            reason = InvalidResponseError(text, body="")
        else:
            # Behind a shut, what is received under TLS is what the encryption has left.
            return None if self._closed else received
        if self._closed:
            return None
        raise reason

    @property
    def content_type(self) -> str:
        """What the body says it is, without parameters, in lower case."""
        kind: str = self._response.headers.get("Content-Type", "")
        return kind.partition(";")[0].strip().lower()

    def require_events(self, path: str) -> None:
        """Refuse what says of itself that it is no event stream, such as a login page.

        Raises:
            InvalidResponseError: with the first part of it.
        """
        kind = self.content_type
        if kind.endswith(("/html", "/json", "/xml", "+xml", "+json")):
            first = self.read()[:BODY_EXCERPT]
            raise InvalidResponseError(
                f"{path}: the answer is no event stream ({kind})",
                body=first.decode("utf-8", "replace"),
                path=path,
            )

    def shut(self) -> None:
        """Wake whoever is blocked in ``read``, which then ends; from any thread."""
        self._closed = True
        try:
            # Closing a socket does not wake a thread that reads from it; this does.
            self._response.raw.shutdown()
        except (ValueError, RuntimeError, OSError, AttributeError):
            self._response.close()

    def close(self) -> None:
        """Give the connection up; for the thread that reads."""
        self._closed = True
        self._response.close()


def _reader(response: requests.Response) -> Callable[[], bytes]:
    inner = _connection(response)
    if inner is not None and inner.chunked:
        return _Chunks(inner.fp.read1).read
    return decompression.receiver(response)


def _direct(response: requests.Response) -> Callable[[memoryview], int] | None:
    """Receives into a buffer, as much as has arrived; ``None`` where that cannot be."""
    inner = _connection(response)
    return None if inner is None or inner.chunked else inner.fp.readinto1


def _connection(response: requests.Response) -> http.client.HTTPResponse | None:
    """What the body is read from, where it is an ordinary one without an encoding."""
    inner = getattr(response.raw, "_fp", None)
    plain = response.headers.get("Content-Encoding", "identity").strip().lower() == "identity"
    if not plain or not isinstance(inner, http.client.HTTPResponse):
        return None
    return inner if isinstance(inner.fp, io.BufferedReader) else None


class _Chunks:
    """The content of a chunked body, in blocks as large as they come."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._left = 0  # bytes of the current chunk, and behind it its CRLF
        self._rest = b""  # the beginning of a line that has not wholly arrived
        self._ended = False

    def read(self) -> bytes:
        while not self._ended:
            received = self._receive(READ_BYTES)
            if not received:
                raise EOFError("the body ends in the middle")
            content = self._content(received)
            if content:
                return content
        return b""

    def _content(self, data: bytes) -> bytes:
        if self._left > 2 and len(data) <= self._left - 2:
            self._left -= len(data)
            return data
        if self._rest:
            data, self._rest = self._rest + data, b""
        parts: list[bytes] = []
        size = len(data)
        at = 0
        left = self._left
        while at < size:
            if left:
                end = at + left
                if left > 2:
                    parts.append(data[at : min(end - 2, size)])
                if end > size:
                    left = end - size
                    break
                at, left = end, 0
                continue
            line_end = data.find(b"\n", at)
            if line_end < 0:
                self._rest = data[at:]
                if len(self._rest) > _MAX_LINE:
                    raise ValueError("a chunk's size is a line without end")
                break
            length = int(data[at:line_end].partition(b";")[0], 16)
            if length < 0:
                raise ValueError("a chunk of negative size")
            if length == 0:
                # Trailers, if any, are of no use here, and the connection is not kept.
                self._ended = True
                break
            at, left = line_end + 1, length + 2
        self._left = left
        return b"".join(parts)
