"""Streaming responses, sent in small pieces so that a slow client uses little server memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from sse_starlette import EventSourceResponse
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from beray.server.settings import Settings

RETRY_MILLISECONDS: Final = 1000
"""Delay after which a client reopens an event stream (``retry`` field)."""
SLICE_BYTES: Final = 64 * 1024
"""Maximum number of bytes sent at once. A connection buffers what its client has not read."""
_HEARTBEAT: Final = b": alive\n\n"


def event_stream(
    pieces: AsyncIterator[bytes], settings: Settings, *, retry: bool = True
) -> EventSourceResponse:
    """Return a ``text/event-stream`` response.

    Args:
        pieces: The stream. A piece may end anywhere in a message; an empty one, between two
            messages, is sent as a heartbeat.
        settings: Settings with the timeout for slow clients.
        retry: Whether to send the delay after which a client may reopen the stream.
    """
    return EventSourceResponse(
        _slices(_with_heartbeats(pieces, retry=retry)),
        # The library could send a ping in the middle of a message.
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
        for start in range(0, len(piece), SLICE_BYTES):
            yield piece[start : start + SLICE_BYTES]


class JsonStream(StreamingResponse):
    """Streamed JSON response. Clients that do not read for too long are disconnected."""

    media_type = "application/json"

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        settings: Settings,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(_slices(pieces), headers=headers)
        self._send_timeout = settings.send_timeout_seconds

    async def stream_response(self, send: Send) -> None:
        """Send the response, with a timeout for each piece."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout):
                await send(message)

        await super().stream_response(send_in_time)
