"""Answers whose body is made in threads, and which part of it is asked for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack

from fastapi import HTTPException
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from beray.server import ranges

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


def requested_part(
    header: str | None, if_range: str | None, current: str, size: int
) -> range | None:
    """As ``ranges.requested``; raises ``HTTPException``: 416, with the size."""
    try:
        return ranges.requested(header, if_range, current, size)
    except ranges.RangeNotSatisfiable:
        raise HTTPException(
            416, f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"}
        ) from None
