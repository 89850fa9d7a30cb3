"""Pages of a task's stored events, limited by bytes and shared by all readers.

A reader keeps one page in memory, however large the log and its events are: an event that is
larger than a page is read in chunks while it is sent. The number of concurrent reads is limited,
so that readers of large logs do not use all threads and much memory.
"""

from __future__ import annotations

import asyncio
import codecs
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.server.storage.events import EventRange, EventRepository
from beray.server.tasks.recent_events import LoggedEvent

PAGE_BYTES: Final = 128 * 1024
"""Maximum size of the bodies in one page, unless its only event is larger."""
PAGE_EVENTS: Final = 1000
"""Maximum number of events in one page."""
CHUNK_BYTES: Final = 256 * 1024
"""Size of the chunks of a large event."""
CACHE_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of the cached pages."""
CONCURRENT_READS: Final = 2


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
        """Events in text/event-stream format, encoded once for all readers of the page."""
        return b"".join(b"id: %d\ndata: %b\n\n" % (event.seq, event.body) for event in self.events)

    @property
    def large_event(self) -> LoggedEvent | None:
        """Only event of the page, if its body must be read by ``EventPages.body``; else None."""
        return None if not self.events or self.events[0].has_body else self.events[0]

    @property
    def size(self) -> int:
        """Upper bound of the page's memory, in bytes."""
        return 2 * sum(len(event.body) for event in self.events)


class EventPages:
    """Reader and cache of event pages. Used on one event loop."""

    def __init__(self, *, events: EventRepository, cache_bytes: int = CACHE_BYTES) -> None:
        self.cached_bytes = 0
        self._events = events
        self._cache_bytes = cache_bytes
        self._cached: OrderedDict[tuple[int, int], EventPage] = OrderedDict()
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def page(self, task_id: int, after: int) -> EventPage:
        """Return the page of events after ``after``, which is empty if there are none yet."""
        key = (task_id, after)
        async with self._reads:
            cached = self._cached.get(key)
            if cached is not None:
                self._cached.move_to_end(key)
                return cached
            found = await run_in_threadpool(self._read, task_id, after)
        if found.is_full:
            self._keep(key, found)
        return found

    async def body(self, task_id: int, event: LoggedEvent) -> AsyncIterator[bytes]:
        """Yield the body of an event, in chunks if it is large.

        Raises:
            EventDeleted: The task was deleted meanwhile.
        """
        if event.has_body:
            yield event.body
            return
        # Chunks may end within a character; the decoder replaces only invalid bytes.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        at = 0
        while at < event.size:
            async with self._reads:
                chunk = await run_in_threadpool(
                    self._events.body_part, task_id, event.seq, at, CHUNK_BYTES
                )
            if not chunk:
                raise EventDeleted(f"event {event.seq} of task {task_id} was deleted")
            at += len(chunk)
            yield decoder.decode(chunk, at >= event.size).encode()

    async def newest_extent(
        self, task_id: int, last: int, *, max_events: int, max_bytes: int
    ) -> EventRange:
        """Return the extent of the newest events up to ``last`` that fit the limits."""
        newest = partial(self._events.newest, max_events=max_events, max_bytes=max_bytes)
        async with self._reads:
            return await run_in_threadpool(newest, task_id, last)

    async def following_extent(
        self, task_id: int, after: int, *, max_events: int, max_bytes: int
    ) -> tuple[EventRange, bool]:
        """Return the extent of the events after ``after`` that fit the limits.

        Returns:
            The extent, and whether ``max_bytes`` excluded events.
        """
        following = partial(self._events.following, max_events=max_events, max_bytes=max_bytes)
        async with self._reads:
            return await run_in_threadpool(following, task_id, after)

    async def json_array(self, task_id: int, extent: EventRange) -> AsyncIterator[bytes]:
        """Yield the JSON array of the events in ``extent``, in chunks.

        Raises:
            EventDeleted: The task was deleted meanwhile.
        """
        yield b"["
        after = extent.first - 1
        while after < extent.last:
            page = await self.page(task_id, after)
            events = [event for event in page.events if event.seq <= extent.last]
            if not events:
                raise EventDeleted(f"event {after + 1} of task {task_id} was deleted")
            yield (b"," if after >= extent.first else b"") + b",".join(
                event.body for event in events
            )
            after = events[-1].seq
            if page.large_event is not None:
                async for chunk in self.body(task_id, page.large_event):
                    yield chunk
        yield b"]"

    def forget(self, task_id: int) -> None:
        """Discard the pages of a deleted task."""
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
        found = self._events.page(
            task_id, after, max_events=PAGE_EVENTS, max_bytes=PAGE_BYTES, large=CHUNK_BYTES
        )
        if found is None:
            return EventPage([], ended=True)
        position = found.position
        last = position.last_seq if position.ended else None
        events = [LoggedEvent(seq, body, size, seq == last) for seq, size, body in found.rows]
        return EventPage(events, found.has_more, position.ended)


class EventDeleted(Exception):
    """An event was deleted while it was being sent."""
