"""How many functions run at once, and who is next: callers in turn, not the longest queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """Used on one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        # In the order of whose turn it is; nobody is in it without somebody who waits.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, subject: str) -> AsyncIterator[None]:
        """Wait for a slot, and give it back at the end.

        Args:
            subject: who wants it; each has one turn after another.
        """
        await self._take(subject)
        try:
            yield
        finally:
            self._free += 1
            self._give()

    async def _take(self, subject: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(subject, deque()).append(turn)
        self._give()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It was given just as nobody wanted it any more.
                self._free += 1
                self._give()
            raise

    def _give(self) -> None:
        while self._free and self._waiting:
            subject, turns = next(iter(self._waiting.items()))
            del self._waiting[subject]
            turn = turns.popleft()
            if turns:
                self._waiting[subject] = turns
            if not turn.cancelled():
                turn.set_result(None)
                self._free -= 1
