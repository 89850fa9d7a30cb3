"""Response bodies: decompression, size limits, and incremental reading.

``http.client`` returns a chunked body one chunk at a time, which for small events costs more
than everything else. Bodies without a content encoding are therefore read in blocks directly
from the buffered socket, and chunks are decoded here (RFC 9112, 7.1).

A compressed body marks its own end, which the HTTP library does not check: a body without a
length that is cut by an orderly close would count as complete. The decoder here detects it.

Source: RFC 9110, 8.4.1 (gzip, deflate); RFC 1952, 2.2 (a gzip file has one or more members).
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import requests
import urllib3

from beray.exceptions import (
    BeRayException,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
    ResponseTooLarge,
)
from beray.http._requests_compat import has_content, set_content
from beray.http._urllib3_compat import BufferedBody, buffered_body
from beray.schema import BODY_EXCERPT

T = TypeVar("T")
MAX_JSON_BYTES: Final = 64 * 1024**2
"""Default limit of a JSON response, in bytes after decompression."""
MAX_MEMORY_BYTES: Final = 1024**3
"""Default limit of any other response that is read into memory, in bytes after decompression."""
MAX_ERROR_BODY_BYTES: Final = 1024 * 1024
"""Maximum number of decompressed bytes that are read from an error response."""
READ_BYTES: Final = 64 * 1024
ACCEPTED_ENCODINGS: Final = "gzip, deflate"
"""Value of ``Accept-Encoding``: the encodings that ``content_reader`` decodes."""
_MAX_CHUNK_LINE_BYTES: Final = 16 * 1024
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
# Servers send both zlib streams and raw deflate streams as "deflate"; the first byte differs.
_ZLIB_METHOD: Final = 8


@dataclass(frozen=True)
class BodyLimit:
    """Maximum size of a response body that is read into memory.

    Attributes:
        option: Name of the client option that sets the limit.
        max_bytes: The limit, in bytes after decompression.
        alternative: How to get a larger body, as the end of a sentence after "or ".

    Raises:
        InvalidArgument: ``max_bytes`` is not a positive integer.
    """

    option: str
    max_bytes: int
    alternative: str = ""

    def __post_init__(self) -> None:
        value = self.max_bytes
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InvalidArgument(
                f"{self.option} must be a number of bytes of at least 1, got {value!r}"
            )

    def error(self, method: str, path: str) -> ResponseTooLarge:
        """Return the exception for a body that exceeds the limit."""
        solutions = [f"create the client with a larger {self.option}", self.alternative]
        return ResponseTooLarge.for_request(
            method,
            path,
            f"the response is larger than {self.option}={self.max_bytes:,} "
            "bytes; " + ", or ".join(filter(None, solutions)),
            max_bytes=self.max_bytes,
        )


def json_limit(max_bytes: int) -> BodyLimit:
    """Return the limit of JSON responses."""
    return BodyLimit("max_json_bytes", max_bytes)


def memory_limit(max_bytes: int) -> BodyLimit:
    """Return the limit of files and archives that are read into memory."""
    return BodyLimit(
        "max_memory_bytes",
        max_bytes,
        "save it to disk with download_file() (an archive: download_zip()), "
        "or read it piece by piece with stream=True",
    )


class BrokenBody(ConnectionFailed):
    """The connection broke before the body was complete."""


class ResponseBody:
    """Body of a streamed response, read incrementally.

    ``shut_down`` may be called from any thread; everything else belongs to the reading thread.

    Args:
        response: A response that was requested with ``stream=True``.
        description: The request, for messages, such as "GET /tasks/1/stream from http://…".
    """

    def __init__(self, response: requests.Response, description: str) -> None:
        self._response = response
        self._description = description
        self._closed = False
        self._read = _block_reader(response)

    def read(self) -> bytes:
        """Return the bytes that have arrived, waiting for at least one.

        Returns:
            b"" at the end of the body, and after ``shut_down``.

        Raises:
            DeadlineExceeded: No byte arrived within the read timeout.
            BrokenBody: The connection broke.
            InvalidResponseError: The content does not match its ``Content-Encoding``.
        """
        return self._receive(self._read) or b""

    def blocks(self, size: int, length: int | None) -> Iterator[bytes | memoryview]:
        """Yield the body in blocks of at most about ``size`` bytes, as they arrive.

        A body longer than ``size`` is received into one reused buffer: each block is valid
        only until the next one is requested.

        Args:
            size: Maximum size of a block, in bytes.
            length: Length of the whole body in bytes; ``None`` if it is unknown.

        Raises:
            DeadlineExceeded: No byte arrived within the read timeout.
            BrokenBody: The connection broke.
            InvalidResponseError: The content does not match its ``Content-Encoding``.
        """
        receive = _buffer_reader(self._response) if length is not None and length > size else None
        if receive is None or length is None:
            while block := self.read():
                yield block
            return
        body = _unencoded_body(self._response)
        if body is not None and body.remaining is not None:
            length = min(length, body.remaining)  # a server may send less than was requested
        buffer = memoryview(bytearray(size))
        while length > 0:
            count = self._receive(partial(receive, buffer[: min(size, length)]))
            if not count:
                return
            yield buffer[:count]
            length -= count

    def _receive(self, receive: Callable[[], T]) -> T | None:
        """Return the result of ``receive``; ``None`` if the body was closed meanwhile."""
        try:
            received = receive()
        except (urllib3.exceptions.ReadTimeoutError, TimeoutError):
            error: BeRayException = DeadlineExceeded(
                f"{self._description}: no data arrived within the read timeout"
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError, EOFError):
            # ValueError and AttributeError: another thread closed it between two steps of a read.
            error = BrokenBody(f"{self._description}: the connection broke")
        except zlib.error:
            text = f"{self._description}: the content does not match its Content-Encoding"
            error = InvalidResponseError(text, body="")
        else:
            # After a shutdown, TLS may still return bytes that were decrypted before.
            return None if self._closed else received
        if self._closed:
            return None
        raise error

    @property
    def content_type(self) -> str:
        """Media type of the body in lower case, without parameters; "" if it is not stated."""
        value: str = self._response.headers.get("Content-Type", "")
        return value.partition(";")[0].strip().lower()

    def require_event_stream(self, path: str) -> None:
        """Reject a body that is not an event stream, such as a login page.

        Raises:
            InvalidResponseError: The content type is HTML, JSON or XML. ``body`` contains the
                first part of the body.
        """
        content_type = self.content_type
        if content_type.endswith(("/html", "/json", "/xml", "+xml", "+json")):
            excerpt = self.read()[:BODY_EXCERPT]
            raise InvalidResponseError.for_request(
                "",
                path,
                f"expected an event stream, got {content_type}; check the server's URL",
                body=excerpt.decode("utf-8", "replace"),
            )

    def shut_down(self) -> None:
        """Wake a thread that is blocked in ``read``, which then returns b"". Thread-safe."""
        self._closed = True
        try:
            # Closing a socket does not wake a thread that reads from it; a shutdown does.
            self._response.raw.shutdown()
        except (ValueError, RuntimeError, OSError, AttributeError):
            self._response.close()

    def close(self) -> None:
        """Release the connection. Only for the reading thread."""
        self._closed = True
        self._response.close()


def read_content(response: requests.Response, max_bytes: int | None) -> bool:
    """Read the body of a streamed ``response`` into its ``content``.

    Sizes are counted after decompression, because a small compressed body may expand without
    bound. At most ``MAX_ERROR_BODY_BYTES`` of an error response are read.

    Args:
        response: A response that was requested with ``stream=True``.
        max_bytes: Maximum size of a successful body, in bytes; ``None`` for no limit.

    Returns:
        False if a successful body is larger than ``max_bytes``. The connection is then closed.

    Raises:
        requests.RequestException: The body could not be read, as from requests itself.
    """
    pieces: list[bytes] = []
    is_error = response.status_code >= 300
    limit = MAX_ERROR_BODY_BYTES if is_error else sys.maxsize if max_bytes is None else max_bytes
    if not is_error and _content_length(response) > limit:
        response.close()
        return False
    if has_content(response):
        return is_error or len(response.content) <= limit  # made by a mock, without a connection
    if response.status_code == requests.codes.no_content and hasattr(
        response.raw, "enforce_content_length"
    ):
        response.raw.enforce_content_length = False  # a mocked 204 may have a body
    size = 0
    try:
        read = content_reader(response)
        while size <= limit and (piece := read()):
            pieces.append(piece)
            size += len(piece)
        if size > limit:
            response.close()
            if not is_error:
                return False
    except (zlib.error, urllib3.exceptions.DecodeError) as error:
        response.close()
        raise requests.exceptions.ContentDecodingError(error) from None
    except (urllib3.exceptions.ReadTimeoutError, TimeoutError) as error:
        response.close()
        raise requests.ReadTimeout(error) from None
    except (urllib3.exceptions.HTTPError, OSError, AttributeError, EOFError) as error:
        response.close()
        if isinstance(error, requests.RequestException):
            raise
        raise requests.exceptions.ChunkedEncodingError(error) from None
    set_content(response, b"".join(pieces))
    return True


def _content_length(response: requests.Response) -> int:
    """Return the ``Content-Length`` of a body without encoding; 0 if it is unknown."""
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").strip().lower() != "identity"
    known = length.isascii() and length.isdigit() and not encoded
    return int(length[:20]) if known and getattr(response.request, "method", "") != "HEAD" else 0


def content_reader(response: requests.Response) -> Callable[[], bytes]:
    """Return a function that returns the next decoded bytes of a body, b"" at its end.

    The function raises ``EOFError`` if a compressed body ends early, ``zlib.error`` if the
    content does not match its ``Content-Encoding``, and otherwise the errors of urllib3.
    """
    if not isinstance(response.raw, urllib3.BaseHTTPResponse):
        # The caller's session may use a transport other than urllib3.
        pieces = response.iter_content(READ_BYTES)
        return lambda: next(pieces, b"")
    names = response.headers.get("Content-Encoding", "").lower().split(",")
    encodings = [name.strip() for name in names if name.strip() not in ("", "identity")]
    if len(encodings) != 1 or encodings[0] not in ("gzip", "x-gzip", "deflate"):
        return lambda: response.raw.read1(READ_BYTES, decode_content=True)
    decompressor = Decompressor(is_gzip=encodings[0] != "deflate")

    def read() -> bytes:
        while not (content := decompressor.read()):
            received = response.raw.read1(READ_BYTES, decode_content=False)
            if not received:
                decompressor.require_end()
                return b""
            decompressor.feed(received)
        return content

    return read


class Decompressor:
    """Incremental decoder of gzip or deflate: ``feed`` it, then ``read`` until b""."""

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._member = zlib.decompressobj(_GZIP_WINDOW) if is_gzip else None
        self._data = b""
        self._is_full = False  # the last piece had the maximum size: more output may be pending
        self._has_begun = False
        self._at_member_end = False  # another gzip member may follow

    def feed(self, data: bytes) -> None:
        """Append compressed bytes."""
        self._data += data

    def read(self) -> bytes:
        """Return up to 64 KiB of decoded content; b"" if more input is needed.

        Raises:
            zlib.error: The input is not valid.
        """
        while self._data or self._is_full:
            if self._at_member_end and not self._start_next_member():
                return b""
            self._has_begun = True
            if self._member is None:
                is_zlib = self._data[0] & 15 == _ZLIB_METHOD
                self._member = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
            content = self._member.decompress(self._data, READ_BYTES)
            self._is_full = len(content) == READ_BYTES
            self._at_member_end = self._member.eof
            self._data = (
                self._member.unused_data if self._at_member_end else self._member.unconsumed_tail
            )
            if content:
                return content
        return b""

    def _start_next_member(self) -> bool:
        """Start the next gzip member; discard padding and anything else after the last one."""
        self._is_full = False
        self._data = self._data.lstrip(b"\0") if self._is_gzip else b""
        if not self._data.startswith(b"\x1f"):
            self._data = b""
            return False
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        return True

    def require_end(self) -> None:
        """Check that the input ended where the content ended.

        Raises:
            EOFError: The input ended within the compressed content.
        """
        if self._has_begun and not self._at_member_end:
            raise EOFError("the compressed body ends early")


def _block_reader(response: requests.Response) -> Callable[[], bytes]:
    body = _unencoded_body(response)
    if body is not None and body.is_chunked:
        return _ChunkedReader(body.buffer.read1).read
    return content_reader(response)


def _buffer_reader(response: requests.Response) -> Callable[[memoryview], int] | None:
    """Return a function that receives into a buffer; ``None`` if the body is encoded."""
    body = _unencoded_body(response)
    return None if body is None or body.is_chunked else body.buffer.readinto1


def _unencoded_body(response: requests.Response) -> BufferedBody | None:
    """Return the body, if it can be read from its buffer and has no content encoding."""
    is_plain = response.headers.get("Content-Encoding", "identity").strip().lower() == "identity"
    return buffered_body(response) if is_plain else None


class _ChunkedReader:
    """Decoder of a chunked body that returns several chunks at a time.

    Args:
        receive: Returns up to a number of raw bytes, b"" at the end of the connection.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._remaining = 0  # bytes of the current chunk, including its final CRLF
        self._partial_line = b""  # start of a size line whose end has not arrived
        self._ended = False

    def read(self) -> bytes:
        while not self._ended:
            received = self._receive(READ_BYTES)
            if not received:
                raise EOFError("the chunked body ends early")
            content = self._decode(received)
            if content:
                return content
        return b""

    def _decode(self, data: bytes) -> bytes:
        if self._remaining > 2 and len(data) <= self._remaining - 2:
            self._remaining -= len(data)
            return data
        if self._partial_line:
            data, self._partial_line = self._partial_line + data, b""
        parts: list[bytes] = []
        size = len(data)
        position = 0
        remaining = self._remaining
        while position < size:
            if remaining:
                end = position + remaining
                if remaining > 2:
                    parts.append(data[position : min(end - 2, size)])
                if end > size:
                    remaining = end - size
                    break
                position, remaining = end, 0
                continue
            line_end = data.find(b"\n", position)
            if line_end < 0:
                self._partial_line = data[position:]
                if len(self._partial_line) > _MAX_CHUNK_LINE_BYTES:
                    raise ValueError("a chunk size line is too long")
                break
            length = int(data[position:line_end].partition(b";")[0], 16)
            if length < 0:
                raise ValueError("a chunk has a negative size")
            if length == 0:
                # Trailers are ignored; the connection is not reused.
                self._ended = True
                break
            position, remaining = line_end + 1, length + 2
        self._remaining = remaining
        return b"".join(parts)
