"""Answers whose body is made in threads: a file, or the part of it that is asked for.

Source: RFC 9110, 13 (conditions) and 14 (Range); RFC 9530 (Repr-Digest).
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


class Transfer(StreamingResponse):
    """A body that is made in threads; what it is made from is closed however it ends."""

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
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._blocks.close()
            self._opened.close()


class Asked(NamedTuple):
    """What the headers of a request want of a file."""

    if_none_match: str | None
    if_range: str | None
    range: str | None
    want_repr_digest: str | None


def _asked(
    if_none_match: Annotated[str | None, Header()] = None,
    if_range: Annotated[str | None, Header()] = None,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    want_repr_digest: Annotated[str | None, Header()] = None,
) -> Asked:
    return Asked(if_none_match, if_range, range_, want_repr_digest)


AskedOf = Annotated[Asked, Depends(_asked)]


@dataclass(frozen=True, slots=True)
class Representation:
    """A file that can be given.

    Attributes:
        size: in bytes.
        modified: in seconds since the epoch.
        sha256: finds the digest of the whole, which may mean to read it.
        mode: its permission bits; ``None`` if it has none.
    """

    file: BinaryIO
    name: str
    media_type: str
    size: int
    etag: str
    modified: float
    sha256: Callable[[], bytes]
    mode: int | None = None


def given(what: Representation, asked: Asked, *, head: bool = False) -> Response:
    """The bytes of a file, or the ``Range`` of them that is asked for. Closes the file.

    Args:
        head: only the headers; a range is of no meaning to them.

    Raises:
        HTTPException: 416, with the size: nothing of the range is in the file.
    """
    with ExitStack() as opened:
        opened.enter_context(what.file)
        headers = {
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
            "ETag": what.etag,
            "Last-Modified": formatdate(what.modified, usegmt=True),
            **file_modes.header(what.mode),
        }
        if http_ranges.has_current(asked.if_none_match, what.etag):
            return Response(status_code=304, headers=headers)
        name = quote(what.name, safe="")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
        headers["X-Content-Type-Options"] = "nosniff"
        if digest.wants_sha256(asked.want_repr_digest):
            headers["Repr-Digest"] = digest.repr_digest(what.sha256())
        if head:
            headers["Content-Length"] = str(what.size)
            return Response(headers=headers, media_type=what.media_type)
        part = _part(what, asked)
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{what.size}"
        positions = range(what.size) if part is None else part
        headers["Content-Length"] = str(len(positions))
        return Transfer(
            http_ranges.read(what.file, positions),
            opened.pop_all(),
            status_code=200 if part is None else 206,
            headers=headers,
            media_type=what.media_type,
        )


def _part(what: Representation, asked: Asked) -> range | None:
    try:
        return http_ranges.requested(asked.range, asked.if_range, what.etag, what.size)
    except http_ranges.RangeNotSatisfiable:
        raise HTTPException(
            416, f"The file has {what.size} bytes.", {"Content-Range": f"bytes */{what.size}"}
        ) from None
