"""Strict syntax checks of request heads, trailers and chunk headers.

If two programs can parse a request differently, its sender can hide a second request in it.
Everything ambiguous is therefore an error here, even if a parser could repair it.

Source: RFC 9110, 5.5 (field values) and 7.2 (Host); RFC 9112, 2.2 (line ends), 3 (request line),
5 (field syntax), 6 (body length) and 7.1 (chunked coding).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

HEAD_BYTES: Final = 32 * 1024
"""Limit of a request's head, and of the trailers after a chunked body."""
CHUNK_HEADER_BYTES: Final = 1024
"""Limit of the line before a chunk."""

_FORBIDDEN: Final = re.compile(rb"(?<!\r)\n|\r(?=[^\n])|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_REQUEST_LINE: Final = re.compile(rb"[^\s:]+ [^ ]+ HTTP/([0-9]\.[0-9])")
_NAME: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_HOST: Final = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[-._~!$&'()*+,;=%0-9A-Za-z]+)(:[0-9]{0,5})?")
_CHUNK_HEADER: Final = re.compile(rb"[0-9A-Fa-f]{1,16}([ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_FRAMING: Final = (b"content-length", b"transfer-encoding", b"host")


class RequestProblem(NamedTuple):
    """Reason for rejecting a request, and the HTTP status of the response."""

    status: int
    reason: str


def characters_problem(data: bytes | bytearray, start: int, stop: int) -> RequestProblem | None:
    """Return a problem if ``data[start:stop]`` contains bytes that are not allowed in a head.

    Those are line ends other than CR LF, and control characters.
    """
    found = _FORBIDDEN.search(data, start, stop)
    if found is None:
        return None
    if found[0] in (b"\n", b"\r"):
        return RequestProblem(400, "a line ends in a bare CR or LF; lines end in CR LF")
    return RequestProblem(400, f"the head contains the control character 0x{found[0][0]:02x}")


def section_problem(lines: Sequence[bytes | bytearray]) -> RequestProblem | None:
    """Return the problem of a complete head, or of the trailers after a chunked body, or None.

    Args:
        lines: Lines without their line ends, and without the empty line at the end.
    """
    request_line = _REQUEST_LINE.fullmatch(lines[0])
    fields: list[tuple[bytes, bytes]] = []
    for line in lines if request_line is None else lines[1:]:
        if line[:1] in (b" ", b"\t"):
            return RequestProblem(400, "a header line is folded; send each header on one line")
        name, colon, value = bytes(line).partition(b":")
        if request_line is not None and not (colon and _NAME.fullmatch(name)):
            return RequestProblem(400, f"{_quoted(name)} is not a header name followed by a colon")
        fields.append((name.lower(), value.strip(b" \t")))
    if request_line is not None:
        return _head_problem(request_line[1], fields)
    if not _NAME.fullmatch(fields[0][0]):
        return RequestProblem(
            400, f"{_quoted(bytes(lines[0]))} is neither a request line nor a header"
        )
    # The parser detects other errors in trailers.
    misplaced = [name for name, _ in fields if name in _FRAMING]
    return (
        RequestProblem(400, f"the trailers contain {_quoted(misplaced[0])}") if misplaced else None
    )


def chunk_header_problem(line: bytes | bytearray) -> RequestProblem | None:
    """Return the problem of the line before a chunk, or of the beginning of such a line, or None.

    Args:
        line: Line, with its line end if it is complete.
    """
    if line.endswith(b"\r\n"):
        is_valid = _CHUNK_HEADER.fullmatch(line) is not None
    else:
        is_valid = b"\n" not in line and len(line) <= CHUNK_HEADER_BYTES
    return None if is_valid else RequestProblem(400, "a chunk has an invalid size line")


def _head_problem(version: bytes, fields: list[tuple[bytes, bytes]]) -> RequestProblem | None:
    if version not in (b"1.0", b"1.1"):
        return RequestProblem(505, f"HTTP/{version.decode()} is not supported; send HTTP/1.1")
    values = dict(fields)
    counts = Counter(name for name, _ in fields)
    for name in _FRAMING:
        if counts[name] > 1:
            return RequestProblem(
                400, f"there are {counts[name]} headers {_quoted(name)}; send one"
            )
    return _framing_problem(version, values) or _host_problem(version, values)


def _framing_problem(version: bytes, values: dict[bytes, bytes]) -> RequestProblem | None:
    length, coding = values.get(b"content-length"), values.get(b"transfer-encoding")
    if length is not None and coding is not None:
        return RequestProblem(400, "it contains both Content-Length and Transfer-Encoding")
    if length is not None and not _LENGTH.fullmatch(length):
        return RequestProblem(400, f"Content-Length is not a number of bytes: {_quoted(length)}")
    if coding is not None and version == b"1.0":
        return RequestProblem(400, "Transfer-Encoding needs HTTP/1.1")
    if coding is not None and coding.lower() != b"chunked":
        return RequestProblem(400, f"Transfer-Encoding must be chunked, got {_quoted(coding)}")
    return None


def _host_problem(version: bytes, values: dict[bytes, bytes]) -> RequestProblem | None:
    host = values.get(b"host")
    if host is None:
        return None if version == b"1.0" else RequestProblem(400, "the header Host is missing")
    if not _HOST.fullmatch(host):
        return RequestProblem(400, f"Host is not a name or an address: {_quoted(host)}")
    return None


def _quoted(value: bytes) -> str:
    """Return at most 40 characters of ``value``, quoted, with unprintable characters escaped."""
    return ascii(value[:40].decode("latin-1"))
