"""A WebSocket whose every wait has an end, also with a peer that keeps to nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed

CLOSE_SECONDS: Final = 2.0
"""How long the other end may take to close, once one of the two has said that it does."""


class Connection(ClientConnection):
    """A connection that is found dead by its silence, and is closed within a deadline.

    Attributes:
        lost_because: why this end gave it up; "" where it did not.
    """

    def __init__(self, protocol: ClientProtocol, **options: Any) -> None:
        super().__init__(protocol, **options)
        self.lost_because = ""
        self._heard_at = self.loop.time()
        self._closing: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._heard_at = self.loop.time()
        super().data_received(data)
        # The library leaves it to a later ping to notice that TCP is not closed as announced.
        if self._closing is None and self.protocol.close_expected():
            self._closing = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closing is not None:
            self._closing.cancel()
        super().connection_lost(exc)

    async def beat(self, seconds: float) -> None:
        """Ask every ``seconds`` whether the other end is there; without it, end the connection.

        The library's own heartbeat waits without end to write, where the other end has stopped
        to read. Whatever comes counts as an answer: a pong may have to wait behind a long frame.
        """
        while True:
            await asyncio.sleep(seconds)
            asked_at = self.loop.time()
            try:
                async with asyncio.timeout(seconds):
                    await (await self.ping())
            except ConnectionClosed:
                return
            except TimeoutError:
                if self._heard_at < asked_at:
                    self.lost_because = f"nothing was heard for {seconds:g} s"
                    self.transport.abort()
                    return

    async def finish(self, code: int = 1000, seconds: float = CLOSE_SECONDS) -> None:
        """Close; after ``seconds`` without the other end's consent. Idempotent."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.close(code)
        finally:
            self.transport.abort()
        await self.wait_closed()
