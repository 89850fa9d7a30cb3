"""Fair scheduling of tasks, chat answers and prefab calls (round robin among users).

In a first-in-first-out queue, one user with many tasks would delay all other users. Here each user
with waiting items has one place in a ring, and a free slot goes to the next user in it. A limit of
slots per user prevents commands that never end from occupying all of them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Final

QUEUE_RETRY_SECONDS: Final = 5
"""``Retry-After`` of the 429 for a full queue: some items may have started by then."""
_MIN_HEAP_TO_COMPACT: Final = 64


class QueueFull(Exception):
    """The user has reached the maximum number of waiting items.

    Args:
        item_noun: Plural noun for the items in the message.
        limit: The maximum.
    """

    def __init__(self, item_noun: str, limit: int) -> None:
        super().__init__(
            f"{limit:,} of your {item_noun} are already waiting, which is this server's limit per "
            "user (BERAY_USER_QUEUED). Wait until some have started, or stop some."
        )
        self.limit = limit


class FairQueue:
    """Queue of numbered items that serves its subjects in turn.

    The items of one subject are taken in ascending order. All operations cost O(log n) in the
    number of items of one subject, whatever the number of subjects.

    Args:
        slots: Maximum number of items in use at a time.
        subject_slots: Maximum number of slots of one subject; ``None`` means all.
    """

    def __init__(self, slots: int, subject_slots: int | None = None) -> None:
        self._free = slots
        self._subject_slots = subject_slots or slots
        self._subjects: dict[int, Hashable] = {}  # of the waiting items
        self._waiting: dict[Hashable, _Waiting] = {}
        # Subjects that have waiting items and may use another slot. The first is next.
        self._ring: dict[Hashable, None] = {}
        self._used: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._subjects)

    def used(self, subject: Hashable) -> int:
        """Return the number of slots that ``subject`` uses."""
        return self._used.get(subject, 0)

    def add(self, subject: Hashable, item: int) -> None:
        """Add a waiting item, unless it is already waiting."""
        if item in self._subjects:
            return
        self._subjects[item] = subject
        self._waiting.setdefault(subject, _Waiting()).add(item)
        self._admit(subject)

    def remove(self, item: int) -> bool:
        """Remove a waiting item; return False if it is not waiting."""
        if item not in self._subjects:
            return False
        subject = self._subjects.pop(item)
        waiting = self._waiting[subject]
        waiting.count -= 1
        self._forget_empty(subject)
        if waiting.count and len(waiting.heap) > max(_MIN_HEAP_TO_COMPACT, 2 * waiting.count):
            waiting.heap = [queued for queued in waiting.heap if queued in self._subjects]
            heapq.heapify(waiting.heap)
        return True

    def take(self) -> tuple[Hashable, int] | None:
        """Take the next item, whose subject then uses a slot until ``release``.

        Returns:
            The subject and the item; ``None`` if no slot is free, or no waiting item may use one.
        """
        if not self._free or not self._ring:
            return None
        subject = next(iter(self._ring))
        del self._ring[subject]
        waiting = self._waiting[subject]
        item = heapq.heappop(waiting.heap)
        while item not in self._subjects:  # removed meanwhile
            item = heapq.heappop(waiting.heap)
        del self._subjects[item]
        waiting.count -= 1
        self._free -= 1
        self._used[subject] = self._used.get(subject, 0) + 1
        self._forget_empty(subject)
        self._admit(subject)
        return subject, item

    def release(self, subject: Hashable) -> None:
        """Release a slot that ``subject`` uses."""
        self._free += 1
        self._used[subject] -= 1
        if not self._used[subject]:
            del self._used[subject]
        self._admit(subject)

    def _admit(self, subject: Hashable) -> None:
        """Append a subject to the ring if it has waiting items and may use another slot."""
        if subject in self._waiting and self._used.get(subject, 0) < self._subject_slots:
            self._ring.setdefault(subject)

    def _forget_empty(self, subject: Hashable) -> None:
        if not self._waiting[subject].count:
            del self._waiting[subject]
            self._ring.pop(subject, None)


class _Waiting:
    """Waiting items of one subject. The heap may still contain items that were removed."""

    def __init__(self) -> None:
        self.heap: list[int] = []
        self.count = 0

    def add(self, item: int) -> None:
        heapq.heappush(self.heap, item)
        self.count += 1


class FairSlots:
    """Slots that coroutines wait for. Used on one event loop.

    Args:
        slots: Maximum number of coroutines that hold a slot at a time.
        subject_slots: Maximum number of slots of one subject; ``None`` means all.
        subject_waiting: Maximum number of waiting coroutines of one subject; ``None`` means no
            limit.
        item_noun: Plural noun for the message of ``QueueFull``.
    """

    def __init__(
        self,
        slots: int,
        subject_slots: int | None = None,
        *,
        subject_waiting: int | None = None,
        item_noun: str = "calls",
    ) -> None:
        self._queue = FairQueue(slots, subject_slots)
        self._subject_waiting = subject_waiting
        self._item_noun = item_noun
        self._tickets = count()
        self._turns: dict[int, asyncio.Future[None]] = {}
        self._members: Counter[Hashable] = Counter()

    def require_place(self, subject: Hashable, places: int = 1) -> None:
        """Check that ``places`` more coroutines of ``subject`` may wait.

        Raises:
            QueueFull: This would exceed the limit.
        """
        limit = self._subject_waiting
        waiting = self._members.get(subject, 0) - self._queue.used(subject)
        if limit is not None and waiting + places > limit:
            raise QueueFull(self._item_noun, limit)

    def count(self, subject: Hashable, task: asyncio.Task[Any]) -> None:
        """Count ``task``, which is going to take a slot, as waiting from now on.

        A task counts from its creation, not from its first step: otherwise, many that are
        created in one step of the loop would all pass ``require_place``.
        """
        self._members[subject] += 1
        task.add_done_callback(lambda _: self._discount(subject))

    def _discount(self, subject: Hashable) -> None:
        self._members[subject] -= 1
        if not self._members[subject]:
            del self._members[subject]

    @asynccontextmanager
    async def slot(self, subject: Hashable) -> AsyncIterator[None]:
        """Wait for a slot, and hold it during the block."""
        await self._take(subject)
        try:
            yield
        finally:
            self._release(subject)

    async def _take(self, subject: Hashable) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = next(self._tickets)
        self._turns[ticket] = turn
        self._queue.add(subject, ticket)
        self._assign()
        try:
            await turn
        except asyncio.CancelledError:
            if self._queue.remove(ticket):
                del self._turns[ticket]
            else:  # the slot was assigned in the same step of the loop
                self._release(subject)
            raise

    def _release(self, subject: Hashable) -> None:
        self._queue.release(subject)
        self._assign()

    def _assign(self) -> None:
        while (taken := self._queue.take()) is not None:
            turn = self._turns.pop(taken[1])
            if not turn.cancelled():
                turn.set_result(None)
