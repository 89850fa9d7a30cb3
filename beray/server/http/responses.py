"""Responses that are sent in small pieces, so that a slow reader costs little memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from sse_starlette import EventSourceResponse
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from beray.server.settings import Settings

RETRY_MILLISECONDS: Final = 1000
SLICE_BYTES: Final = 64 * 1024
"""Bytes that are sent at once. A connection buffers what its reader has not taken."""
_HEARTBEAT: Final = b": alive\n\n"


def event_stream(
    pieces: AsyncIterator[bytes], settings: Settings, *, retry: bool = True
) -> EventSourceResponse:
    """Return a response of text/event-stream.

    Args:
        retry: Whether to send the delay after which a client may open the stream again.
        pieces: The stream; a piece may end anywhere in a message. b"", between messages,
            sends a heartbeat.
    """
    return EventSourceResponse(
        _slices(_with_heartbeats(pieces, retry=retry)),
        # A ping of the library may come in the middle of a message.
        ping=0,
        send_timeout=settings.send_timeout_seconds,
    )


async def _with_heartbeats(pieces: AsyncIterator[bytes], *, retry: bool) -> AsyncIterator[bytes]:
    if retry:
        yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
    async for piece in pieces:
        yield piece or _HEARTBEAT


async def _slices(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if len(piece) <= SLICE_BYTES:
            yield piece
            continue
        for at in range(0, len(piece), SLICE_BYTES):
            yield piece[at : at + SLICE_BYTES]


class JsonStream(StreamingResponse):
    """JSON that is sent while it is read. A reader that takes nothing is cut off."""

    media_type = "application/json"

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        settings: Settings,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_slices(pieces), headers=headers)
        self._send_timeout = settings.send_timeout_seconds

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout):
                await send(message)

        await super().stream_response(send_in_time)
