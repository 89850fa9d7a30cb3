"""Event log of tasks: append, replay and tail.

One thread writes. It commits all waiting events in one transaction and publishes them to the
watchers afterwards, so no watcher receives an event that a crash could remove. Batches grow under
load, and a single event is written immediately.

The status of a task and the event that reports it are written in the same transaction. After a
terminal status, the log rejects further events of the task.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import Event, TaskStatusChanged
from beray.schema import TERMINAL_STATUSES
from beray.server.storage.damage import DamagedPlaces
from beray.server.storage.database_errors import StorageError, error_text, is_locked
from beray.server.storage.events import EventRepository
from beray.server.storage.log_transaction import LogPosition, LogTransaction, NewEvent
from beray.server.storage.shortage import is_shortage, retry_delays
from beray.server.storage.times import utc_now
from beray.server.tasks.event_pages import EventPage, EventPages
from beray.server.tasks.feed import TaskFeed, TaskProgress, wait_until_set
from beray.server.tasks.preview import LastLines
from beray.server.tasks.recent_events import LoggedEvent, RecentEvents

LOCK_SECONDS: Final = 1.0
"""Maximum time that one attempt to commit waits for a lock. Attempts are repeated."""
LOCK_PAUSE_SECONDS: Final = 0.1

log = structlog.get_logger("beray.events")


class TaskClosed(Exception):
    """The task has ended or was deleted, so no more events can be logged."""


@dataclass(slots=True)
class _PendingEvent:
    """Event that waits for the writing thread."""

    task_id: int
    event: Event
    fields: str
    done: asyncio.Future[int]
    recovers: bool


@dataclass(frozen=True, slots=True)
class _Commit:
    """Result of one transaction: new last positions and last lines by task, and the events."""

    at: str
    positions: dict[int, LogPosition]
    lines: dict[int, str]
    logged: list[tuple[_PendingEvent, LoggedEvent]]


@dataclass(slots=True)
class _TaskWatchers:
    """Watchers of one task, and the signal that they wait for. Used on the event loop."""

    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Wake all watchers."""
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class EventLog:
    """Event log of all tasks. Used on one event loop, between ``start`` and ``close``.

    Args:
        events: Repository of the events.
        feed: Feed of all tasks, which is woken by changes and progress.

    Attributes:
        damaged: Damaged positions, by task and ``seq``.
    """

    def __init__(self, *, events: EventRepository, feed: TaskFeed) -> None:
        self.pages = EventPages(events=events)
        self.damaged = DamagedPlaces()
        self._events = events
        self._task_feed = feed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_PendingEvent] = []
        self._probes: list[asyncio.Future[None]] = []
        self._wake = threading.Condition()
        self._closing = False
        self._draining = False
        self._watchers: dict[int, _TaskWatchers] = {}
        self._recent = RecentEvents()
        self._positions: dict[int, LogPosition] = {}
        self._last_lines = LastLines()
        self._usages: dict[int, dict[str, Any]] = {}
        self._writer = threading.Thread(target=self._run_writer, name="event-log", daemon=True)

    def start(self) -> None:
        """Start the writing thread."""
        self._loop = asyncio.get_running_loop()
        self._writer.start()

    async def close(self) -> None:
        """Write the waiting events, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await run_in_threadpool(self._writer.join)

    @property
    def waiting_events(self) -> int:
        """Number of events that no batch contains yet."""
        return len(self._waiting)

    async def responds(self, seconds: float) -> bool:
        """Return True if the writing thread responds within ``seconds``.

        It also responds while it waits for the end of a shortage or a lock.
        """
        probe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._probes.append(probe)
            self._wake.notify()
        await asyncio.wait([probe], timeout=seconds)
        return probe.done()

    def forget(self, task_id: int) -> None:
        """Discard cached events of a deleted task, and wake its watchers, which end."""
        self.pages.forget(task_id)
        self._recent.forget(task_id)
        feed = self._watchers.get(task_id)
        if feed is not None:
            feed.wake()

    def drain(self) -> None:
        """End each watcher once it has received all events, because the server stops."""
        self._draining = True
        for feed in self._watchers.values():
            feed.wake()
        self._task_feed.drain()

    async def append(
        self, task_id: int, event: Event, fields: str | None = None, *, recovers: bool = False
    ) -> int:
        """Log an event and return its ``seq`` once it is on disk.

        Args:
            task_id: Id of the task.
            event: Event to log.
            fields: Result of ``event_fields`` for the event, if it is known already.
            recovers: Whether the event may use the reserved disk space.

        Waiting for this method slows down tasks that emit events faster than the disk can
        store them.

        Raises:
            TaskClosed: The task has ended or was deleted.
            StorageError: The event cannot be saved.
            MemoryError: The event cannot be saved.
            ValueError: The event has values that JSON cannot represent.
        """
        return await self.enqueue(task_id, event, fields, recovers=recovers)

    def enqueue(
        self, task_id: int, event: Event, fields: str | None = None, *, recovers: bool = False
    ) -> asyncio.Future[int]:
        """Enqueue an event and return a future of its ``seq``; see ``append``.

        The order of the calls determines the order of the events in the log.
        """
        fields = event_fields(event) if fields is None else fields
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closing:
                raise TaskClosed("the event log is closed")
            self._waiting.append(_PendingEvent(task_id, event, fields, done, recovers))
            self._wake.notify()
        return done

    def set_usage(self, task_id: int, usage: dict[str, Any]) -> None:
        """Set the usage of a running task, which is published with its next event."""
        self._usages[task_id] = usage

    async def first_page(self, task_id: int, after: int) -> EventPage | None:
        """Return the first page of ``tail``, or None if its events are in memory.

        Raises:
            StorageError: The page cannot be read.
        """
        if self._recent.after(task_id, after) is not None:
            return None
        return await self.pages.page(task_id, after)

    async def tail(
        self,
        task_id: int,
        after: int = 0,
        *,
        first: EventPage | None = None,
        idle_seconds: float | None = None,
    ) -> AsyncIterator[EventPage]:
        """Yield the stored and the future events after ``after``, in pages.

        Ends after the task's last event, or after the newest event once the log drains.

        Args:
            task_id: Id of the task.
            after: ``seq`` of the last event that the watcher has.
            first: First page, if it was read already; see ``first_page``.
            idle_seconds: Yield an empty page after each period of this length without events.
        """
        feed = self._watchers.setdefault(task_id, _TaskWatchers())
        feed.watchers += 1
        try:
            while True:
                # Read before the events: events that are published later set it.
                changed, draining = feed.changed, self._draining
                newest = self._recent.after(task_id, after)
                if first is not None and first.events:
                    page = first
                elif newest is None:
                    page = await self.pages.page(task_id, after)
                else:
                    page = EventPage(newest)
                first = None
                if page.events:
                    last = page.events[-1]
                    yield page
                    after = last.seq
                    if last.last:
                        return
                elif page.ended or draining:
                    return
                elif not await wait_until_set(changed, idle_seconds):
                    yield page
        finally:
            feed.watchers -= 1
            if not feed.watchers and self._watchers.get(task_id) is feed:
                del self._watchers[task_id]
                self._recent.forget(task_id)

    # The writing thread

    def _run_writer(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closing or self._probes)
                self._answer_probes()
                batch, self._waiting = self._waiting, []
                if not batch:
                    if self._closing:
                        return
                    continue
            try:
                self._commit_with_retries(batch)
            except Exception as error:  # noqa: BLE001 - all tasks wait for this thread
                _log_unexpected(error)
                self._commit_one_by_one(batch, error)

    def _answer_probes(self) -> None:
        """Answer the probes of ``responds``. Requires the lock of ``_wake``."""
        probes, self._probes = self._probes, []
        for probe in probes:
            self._call(probe.set_result, None)

    def _pause(self, seconds: float) -> None:
        """Wait for ``seconds``, or until the log is closed."""
        end = time.monotonic() + seconds
        with self._wake:
            while (left := end - time.monotonic()) > 0 and not self._closing:
                self._answer_probes()
                self._wake.wait(left)

    def _commit_with_retries(self, batch: list[_PendingEvent]) -> None:
        """Commit a batch, repeating it after shortages and locks, which are not errors of tasks."""
        started = time.monotonic()
        for attempt, seconds in enumerate(retry_delays()):
            try:
                self._commit(batch)
            except StorageError as error:
                if not is_shortage(error) or self._closing:
                    raise
                if not attempt:
                    log.warning("events wait for the end of a shortage", error=error_text(error))
                for append in batch:
                    self._last_lines.forget(append.task_id)  # the event will be read again
                self._pause(LOCK_PAUSE_SECONDS if is_locked(error) else seconds)
                continue
            if attempt:
                waited = round(time.monotonic() - started, 1)
                log.info("events are written again", waited_seconds=waited)
            return

    def _commit_one_by_one(self, batch: list[_PendingEvent], error: Exception) -> None:
        """Commit each event on its own, so that one invalid event does not affect the others."""
        for append in batch:
            # Both are looked up again: the task may have been deleted.
            self._last_lines.forget(append.task_id)
            self._positions.pop(append.task_id, None)
        # A shortage is reported only while the log closes, which leaves no time for retries.
        if len(batch) == 1 or is_shortage(error):
            for append in batch:
                self._call(self._fail, append, error)
            return
        for append in batch:
            try:
                self._commit_with_retries([append])
            except Exception as own_error:  # noqa: BLE001 - see _run_writer
                _log_unexpected(own_error)
                self._call(self._fail, append, own_error)

    def _commit(self, batch: list[_PendingEvent]) -> None:
        commit = self._events.transact(
            lambda transaction: self._insert(transaction, batch),
            wait=LOCK_SECONDS,
            with_reserve=all(append.recovers for append in batch),
        )
        self._positions.update(commit.positions)
        for task_id, position in commit.positions.items():
            if position.ended:
                # The position is looked up for later events, which are then rejected.
                del self._positions[task_id]
                self._last_lines.forget(task_id)
        self._call(self._publish, commit.logged)
        self._call(self._publish_progress, commit)

    def _insert(self, transaction: LogTransaction, batch: list[_PendingEvent]) -> _Commit:
        """Insert the events of a batch and update their tasks."""
        now = utc_now()
        positions: dict[int, LogPosition] = {}
        events: list[NewEvent] = []
        logged: list[tuple[_PendingEvent, LoggedEvent]] = []
        lines: dict[int, str] = {}
        for append in batch:
            task_id, event = append.task_id, append.event
            position = positions.get(task_id) or self._position(transaction, task_id)
            if position.ended:
                raise TaskClosed(f"task {task_id} has ended")
            seq = position.last_seq + 1
            body = _body(seq, now, append)
            events.append(NewEvent(task_id, seq, event.type, body))
            is_last = False
            if isinstance(event, TaskStatusChanged):
                is_last = event.status in TERMINAL_STATUSES
                transaction.set_status(position.user_id, task_id, event.status, event.reason, now)
            line = self._last_lines.update(task_id, event)
            if line:
                lines[task_id] = line
            positions[task_id] = LogPosition(seq, is_last, position.user_id)
            sent = body.encode()
            logged.append((append, LoggedEvent(seq, sent, len(sent), is_last)))
        transaction.insert(events)
        ends = {task: (at.last_seq, lines.get(task)) for task, at in positions.items()}
        transaction.set_ends(ends)
        return _Commit(now, positions, lines, logged)

    def _position(self, transaction: LogTransaction, task_id: int) -> LogPosition:
        known = self._positions.get(task_id) or transaction.position(task_id)
        if known is None:
            raise TaskClosed(f"task {task_id} was deleted")
        return known

    # Back on the event loop

    def _call(self, function: object, *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)  # type: ignore[arg-type]
        except RuntimeError:
            # The event loop is closed, so nothing waits for the result.
            return

    def _publish(self, logged: Iterable[tuple[_PendingEvent, LoggedEvent]]) -> None:
        for append, event in logged:
            feed = self._watchers.get(append.task_id)
            if feed is not None:
                self._recent.add(append.task_id, event)
                feed.wake()
            if not append.done.done():
                append.done.set_result(event.seq)

    def _publish_progress(self, commit: _Commit) -> None:
        """Publish the progress of the tasks to the task feed."""
        for task_id, end in commit.positions.items():
            usage = self._usages.pop(task_id, None)
            if end.ended:
                self._task_feed.wake(end.user_id)
            else:
                line = commit.lines.get(task_id)
                step = TaskProgress(task_id, commit.at, end.last_seq, line, usage)
                self._task_feed.publish_progress(end.user_id, step)

    def _fail(self, append: _PendingEvent, error: Exception) -> None:
        if not append.done.done():
            append.done.set_exception(error)


def _log_unexpected(error: Exception) -> None:
    """Log an error that is not from the database, such as a lack of memory."""
    if not isinstance(error, StorageError | TaskClosed):
        log.error("events could not be written", exc_info=error)


def event_fields(event: Event) -> str:
    """Return an event as a JSON object, without its envelope.

    Raises:
        ValueError: The event has values that JSON cannot represent, such as NaN.
    """
    fields = event.model_dump()
    known = {key: value for key, value in fields.items() if value is not None or key == "result"}
    text = json.dumps(
        {"type": event.type} | known, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode("utf-8", "replace").decode()


def _body(seq: int, created_at: str, append: _PendingEvent) -> str:
    envelope = f'"seq":{seq},"task_id":{append.task_id},"created_at":"{created_at}"'
    return f"{{{envelope},{append.fields[1:]}"
