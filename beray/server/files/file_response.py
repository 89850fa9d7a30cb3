"""Responses with the content of a file, or a range of it.

Source: RFC 9110, sections 13 (conditions) and 14 (Range); RFC 9530 (Repr-Digest).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from email.utils import formatdate
from typing import Annotated, BinaryIO, NamedTuple
from urllib.parse import quote

from fastapi import Depends, Header, HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from beray.server.files import http_ranges
from beray.transfers import digest, file_modes

Blocks = Generator[bytes, None, None]


class ThreadedResponse(StreamingResponse):
    """Response whose body is produced in threads; it closes its sources in any case."""

    def __init__(
        self,
        blocks: Blocks,
        opened: ExitStack,
        *,
        status_code: int = 200,
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(blocks, status_code, headers, media_type)
        self._blocks = blocks
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response and close its sources."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._blocks.close()
            self._opened.close()


class FileRequestHeaders(NamedTuple):
    """Request headers that affect the response with a file."""

    if_none_match: str | None
    if_range: str | None
    range: str | None
    want_repr_digest: str | None


def _request_headers(
    if_none_match: Annotated[
        str | None, Header(description="Known `ETag`s; 304 if the file is unchanged.")
    ] = None,
    if_range: Annotated[str | None, Header(description="`ETag` for which `Range` applies.")] = None,
    range_: Annotated[
        str | None, Header(alias="Range", description="Requested part, such as `bytes=100-`.")
    ] = None,
    want_repr_digest: Annotated[
        str | None,
        Header(description="`sha-256=1` requests the digest of the file (RFC 9530)."),
    ] = None,
) -> FileRequestHeaders:
    return FileRequestHeaders(if_none_match, if_range, range_, want_repr_digest)


FileRequestHeadersParam = Annotated[FileRequestHeaders, Depends(_request_headers)]


@dataclass(frozen=True, slots=True)
class Representation:
    """File that is sent in a response.

    Attributes:
        size: Bytes.
        modified: Seconds since the epoch.
        sha256: Returns the digest of the whole file, which may require reading it.
        mode: Permission bits; None if the file has none.
    """

    file: BinaryIO
    name: str
    media_type: str
    size: int
    etag: str
    modified: float
    sha256: Callable[[], bytes]
    mode: int | None = None


def file_response(
    representation: Representation, request_headers: FileRequestHeaders, *, head: bool = False
) -> Response:
    """Return the response with a file, or with the requested range of it.

    The response closes the file.

    Args:
        representation: File to send.
        request_headers: Conditions, range and digest that the client requests.
        head: Send only the headers; a range is ignored.

    Raises:
        HTTPException: The range begins after the end of the file (416, with its size).
    """
    with ExitStack() as opened:
        opened.enter_context(representation.file)
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "ETag": representation.etag,
            "Last-Modified": formatdate(representation.modified, usegmt=True),
            **file_modes.header(representation.mode),
        }
        if http_ranges.matches_if_none_match(request_headers.if_none_match, representation.etag):
            return Response(status_code=304, headers=headers)
        name = quote(representation.name, safe="")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
        headers["X-Content-Type-Options"] = "nosniff"
        if digest.wants_sha256(request_headers.want_repr_digest):
            headers["Repr-Digest"] = digest.repr_digest(representation.sha256())
        if head:
            headers["Content-Length"] = str(representation.size)
            return Response(headers=headers, media_type=representation.media_type)
        part = _part(representation, request_headers)
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{representation.size}"
        positions = range(representation.size) if part is None else part
        headers["Content-Length"] = str(len(positions))
        return ThreadedResponse(
            http_ranges.read_range(representation.file, positions),
            opened.pop_all(),
            status_code=200 if part is None else 206,
            headers=headers,
            media_type=representation.media_type,
        )


def _part(representation: Representation, request_headers: FileRequestHeaders) -> range | None:
    try:
        return http_ranges.parse_range(
            request_headers.range,
            request_headers.if_range,
            representation.etag,
            representation.size,
        )
    except http_ranges.RangeNotSatisfiable:
        raise HTTPException(
            416,
            f"The range begins after the end of the file, which has {representation.size} bytes.",
            {"Content-Range": f"bytes */{representation.size}"},
        ) from None
