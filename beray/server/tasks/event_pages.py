"""Pages of a task's stored events, limited by bytes and shared by those who read them.

A reader holds one page, however large the log and its events are: an event that is larger
than a page is read in pieces while it is sent. Few reads run at the same time, so that
readers of large logs do not take all threads and the memory that a read needs.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.server.storage import events as stored_events
from beray.server.storage.events import EventRange
from beray.server.storage.store import Store
from beray.server.tasks.recent_events import LoggedEvent

PAGE_BYTES: Final = 128 * 1024
"""Bytes of the bodies in one page, unless its only event has more."""
PAGE_EVENTS: Final = 1000
PIECE_BYTES: Final = 256 * 1024
"""Bytes of a large event that are read at once."""
CACHE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the pages that are kept for the next reader."""
READS_AT_ONCE: Final = 2


@dataclass(frozen=True)
class EventPage:
    """Consecutive events.

    Attributes:
        is_full: Whether more events followed on disk. Such a page never changes.
        ended: Whether the task has ended or was deleted.
    """

    events: Sequence[LoggedEvent]
    is_full: bool = False
    ended: bool = False

    @cached_property
    def stream(self) -> bytes:
        """The events as text/event-stream, made once for all readers of the page."""
        return b"".join(b"id: %d\ndata: %b\n\n" % (event.seq, event.body) for event in self.events)

    @property
    def large(self) -> LoggedEvent | None:
        """The only event of the page if its body has to be read by ``EventPages.body``."""
        return None if not self.events or self.events[0].is_whole else self.events[0]

    @property
    def size(self) -> int:
        """Bytes that the page takes at most."""
        return 2 * sum(len(event.body) for event in self.events)


class EventPages:
    """Used on one event loop."""

    def __init__(self, store: Store, cache_bytes: int = CACHE_BYTES) -> None:
        self.cached_bytes = 0
        self._store = store
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[tuple[int, int], EventPage] = OrderedDict()
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def page(self, task_id: int, after: int) -> EventPage:
        """Return the page of events after ``after``; an empty page before there are any."""
        key = (task_id, after)
        async with self._reads:
            found = self._cached.get(key)
            if found is not None:
                self._cached.move_to_end(key)
                return found
            found = await run_in_threadpool(self._read, task_id, after)
        if found.is_full:
            self._keep(key, found)
        return found

    async def body(self, task_id: int, event: LoggedEvent) -> AsyncIterator[bytes]:
        """Yield the body of an event, a large one in pieces.

        Raises:
            EventGone: The task was deleted meanwhile.
        """
        if event.is_whole:
            yield event.body
            return
        # Pieces are cut anywhere in the text; the decoder replaces only what is damaged.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        at = 0
        while at < event.size:
            async with self._reads:
                piece = await run_in_threadpool(self._piece, task_id, event.seq, at)
            if not piece:
                raise EventGone(f"event {event.seq} of task {task_id} was deleted")
            at += len(piece)
            yield decoder.decode(piece, at >= event.size).encode()

    async def newest(
        self, task_id: int, last: int, *, max_events: int, max_bytes: int
    ) -> EventRange:
        """Return which events up to ``last`` are the newest that fit."""

        def read() -> EventRange:
            with self._store.reading() as session:
                return stored_events.newest(
                    session, task_id, last, max_events=max_events, max_bytes=max_bytes
                )

        async with self._reads:
            return await run_in_threadpool(read)

    async def following(
        self, task_id: int, after: int, *, max_events: int, max_bytes: int
    ) -> tuple[EventRange, bool]:
        """Return which events after ``after`` fit, and whether bytes cut off some of them."""

        def read() -> tuple[EventRange, bool]:
            with self._store.reading() as session:
                return stored_events.following(
                    session, task_id, after, max_events=max_events, max_bytes=max_bytes
                )

        async with self._reads:
            return await run_in_threadpool(read)

    async def array(self, task_id: int, extent: EventRange) -> AsyncIterator[bytes]:
        """Yield the JSON array of the events in ``extent``, in pieces.

        Raises:
            EventGone: The task was deleted meanwhile.
        """
        yield b"["
        after = extent.first - 1
        while after < extent.last:
            page = await self.page(task_id, after)
            events = [event for event in page.events if event.seq <= extent.last]
            if not events:
                raise EventGone(f"event {after + 1} of task {task_id} was deleted")
            yield (b"," if after >= extent.first else b"") + b",".join(
                event.body for event in events
            )
            after = events[-1].seq
            if page.large is not None:
                async for piece in self.body(task_id, page.large):
                    yield piece
        yield b"]"

    def forget(self, task_id: int) -> None:
        """Drop the pages of a task that was deleted."""
        for key in [key for key in self._cached if key[0] == task_id]:
            self._drop(key)

    def _keep(self, key: tuple[int, int], page: EventPage) -> None:
        if key in self._cached or page.size > self._cache_bytes:
            return
        self._cached[key] = page
        self.cached_bytes += page.size
        while self.cached_bytes > self._cache_bytes:
            self._drop(next(iter(self._cached)))

    def _drop(self, key: tuple[int, int]) -> None:
        self.cached_bytes -= self._cached.pop(key).size

    # In threads

    def _read(self, task_id: int, after: int) -> EventPage:
        with self._store.reading() as session:
            place = self._store.log_position(session, task_id)
            if place is None:
                return EventPage([], ended=True)
            rows, is_full = stored_events.page(
                session, task_id, after,
                max_events=PAGE_EVENTS, max_bytes=PAGE_BYTES, large=PIECE_BYTES,
            )  # fmt: skip
        last = place.last_seq if place.ended else None
        events = [LoggedEvent(seq, body, size, seq == last) for seq, size, body in rows]
        return EventPage(events, is_full, place.ended)

    def _piece(self, task_id: int, seq: int, start: int) -> bytes:
        with self._store.reading() as session:
            return stored_events.body_part(session, task_id, seq, start, PIECE_BYTES)


class EventGone(Exception):
    """An event was deleted while it was being sent."""
