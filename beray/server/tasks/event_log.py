"""The event log: append, replay, tail.

One thread writes. It takes everything that is waiting, commits it as one transaction
and only then shows it to the watchers, so nobody sees an event that a crash could take
back. Under load the batches grow by themselves; a lone event is on disk at once.

A task's status is the event that says it: both change in the same transaction, and
after a terminal one the log takes nothing more of that task.
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
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from beray.events import Event, TaskStatusChanged
from beray.schema import TERMINAL_STATUSES
from beray.server.runtime.shortage import delays, is_shortage
from beray.server.storage.damage import DamagedPlaces
from beray.server.storage.database_errors import is_locked
from beray.server.storage.store import LogPosition, Store, utc_now
from beray.server.tasks.event_pages import EventPage, EventPages
from beray.server.tasks.feed import Progress, TaskFeed, is_set
from beray.server.tasks.preview import LastLines
from beray.server.tasks.recent_events import LoggedEvent, NewestEvents

LOCK_SECONDS: Final = 1.0
"""Time that one attempt to commit waits for a lock. It is repeated until it succeeds."""
LOCK_PAUSE_SECONDS: Final = 0.1

log = structlog.get_logger("beray.events")


class TaskEnded(Exception):
    """The task has ended, or is gone: it takes no more events."""


@dataclass(slots=True)
class _Append:
    task_id: int
    event: Event
    fields: str
    done: asyncio.Future[int]
    recovers: bool


@dataclass(frozen=True, slots=True)
class _Commit:
    """What one transaction has written: the new ends of logs, last lines, and events."""

    at: str
    positions: dict[int, LogPosition]
    lines: dict[int, str]
    logged: list[tuple[_Append, LoggedEvent]]


@dataclass(slots=True)
class _Feed:
    """What the watchers of one task wait for. Lives on the event loop."""

    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class EventLog:
    """Used on one event loop, between ``start`` and ``close``."""

    def __init__(self, store: Store, feed: TaskFeed) -> None:
        self.pages = EventPages(store)
        self.damaged = DamagedPlaces()
        """By task and ``seq``."""
        self._store = store
        self._task_feed = feed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Append] = []
        self._probes: list[asyncio.Future[None]] = []
        self._wake = threading.Condition()
        self._closing = False
        self._draining = False
        self._feeds: dict[int, _Feed] = {}
        self._newest = NewestEvents()
        self._positions: dict[int, LogPosition] = {}
        self._last_lines = LastLines()
        self._usages: dict[int, dict[str, Any]] = {}
        self._writer = threading.Thread(target=self._write, name="event-log", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer.start()

    async def close(self) -> None:
        """Write what is waiting, then stop."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        await run_in_threadpool(self._writer.join)

    async def responds(self, seconds: float) -> bool:
        """Return whether the writing thread reacts within ``seconds``.

        It also reacts while it waits for the end of a shortage or a lock.
        """
        probe: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._wake:
            self._probes.append(probe)
            self._wake.notify()
        await asyncio.wait([probe], timeout=seconds)
        return probe.done()

    def forget(self, task_id: int) -> None:
        """Drop what is kept of a deleted task, and end its watchers."""
        self.pages.forget(task_id)
        self._newest.forget(task_id)
        feed = self._feeds.get(task_id)
        if feed is not None:
            feed.wake()

    def drain(self) -> None:
        """From now on a watcher who has caught up is let go: no more runs end here."""
        self._draining = True
        for feed in self._feeds.values():
            feed.wake()
        self._task_feed.drain()

    async def append(
        self, task_id: int, event: Event, fields: str | None = None, *, recovers: bool = False
    ) -> int:
        """Log an event and return its ``seq`` once it is on disk.

        Args:
            fields: what ``fields_of`` made of it, where that is known already.
            recovers: whether it may use the reserve of the disk.

        That a writer waits for this is what slows down a task that emits faster than
        the disk takes.

        Raises:
            TaskEnded: the task has ended or is gone.
            SQLAlchemyError, MemoryError: the event could not be saved.
            ValueError: the event holds what JSON cannot say.
        """
        return await self.enqueue(task_id, event, fields, recovers=recovers)

    def enqueue(
        self, task_id: int, event: Event, fields: str | None = None, *, recovers: bool = False
    ) -> asyncio.Future[int]:
        """As ``append``, for who goes on meanwhile: its place in the log is taken now."""
        fields = fields_of(event) if fields is None else fields
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        with self._wake:
            if self._closing:
                raise TaskEnded("the event log is closed")
            self._waiting.append(_Append(task_id, event, fields, done, recovers))
            self._wake.notify()
        return done

    def used(self, task_id: int, usage: dict[str, Any]) -> None:
        """What a running task has taken so far, to be told with its next event."""
        self._usages[task_id] = usage

    async def first_page(self, task_id: int, after: int) -> EventPage | None:
        """Return the page with which ``tail`` begins; None if that is in memory.

        Raises:
            DatabaseError: it cannot be read.
        """
        if self._newest.after(task_id, after) is not None:
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
        """Yield the events after ``after`` in pages: those on disk, then those to come.

        Ends after the task's last event; after the newest one once the log drains.

        Args:
            first: The page after ``after`` if it was read already; see ``first_page``.
            idle_seconds: Yield an empty page whenever no event came for so long.
        """
        feed = self._feeds.setdefault(task_id, _Feed())
        feed.watchers += 1
        try:
            while True:
                # Taken before the look: what comes after the look sets it.
                changed, draining = feed.changed, self._draining
                newest = self._newest.after(task_id, after)
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
                elif not await is_set(changed, idle_seconds):
                    yield page
        finally:
            feed.watchers -= 1
            if not feed.watchers and self._feeds.get(task_id) is feed:
                del self._feeds[task_id]
                self._newest.forget(task_id)

    # The writing thread

    def _write(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closing or self._probes)
                self._react()
                batch, self._waiting = self._waiting, []
                if not batch:
                    if self._closing:
                        return
                    continue
            try:
                self._commit_patiently(batch)
            except Exception as error:  # noqa: BLE001 - all tasks wait for this thread
                _report(error)
                self._commit_singly(batch, error)

    def _react(self) -> None:
        """Show that the thread is alive; ``_wake`` is held."""
        probes, self._probes = self._probes, []
        for probe in probes:
            self._call(probe.set_result, None)

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the log is closed."""
        end = time.monotonic() + seconds
        with self._wake:
            while (left := end - time.monotonic()) > 0 and not self._closing:
                self._react()
                self._wake.wait(left)

    def _commit_patiently(self, batch: list[_Append]) -> None:
        """Commit, again after each shortage or lock: neither is a failure of the tasks."""
        began = time.monotonic()
        for attempt, seconds in enumerate(delays()):
            try:
                self._commit(batch)
            except SQLAlchemyError as error:
                if not is_shortage(error) or self._closing:
                    raise
                if not attempt:
                    problem = str(getattr(error, "orig", error))
                    log.warning("events wait for the end of a shortage", error=problem)
                for append in batch:
                    self._last_lines.forget(append.task_id)  # it is read again
                self._pause(LOCK_PAUSE_SECONDS if is_locked(error) else seconds)
                continue
            if attempt:
                waited = round(time.monotonic() - began, 1)
                log.info("events are written again", waited_seconds=waited)
            return

    def _commit_singly(self, batch: list[_Append], error: Exception) -> None:
        """One that cannot be written must not take the others with it."""
        for append in batch:
            # Both are read again: a task may have been deleted.
            self._last_lines.forget(append.task_id)
            self._positions.pop(append.task_id, None)
        # After a shortage the log is being closed: there is no time for one after the other.
        if len(batch) == 1 or is_shortage(error):
            for append in batch:
                self._call(self._fail, append, error)
            return
        for append in batch:
            try:
                self._commit_patiently([append])
            except Exception as own_error:  # noqa: BLE001 - as in _write
                _report(own_error)
                self._call(self._fail, append, own_error)

    def _commit(self, batch: list[_Append]) -> None:
        store = self._store
        if all(append.recovers for append in batch):
            commit = store.write_with_reserve(
                lambda session: self._written(session, batch), LOCK_SECONDS
            )
        else:
            with store.writing(LOCK_SECONDS) as session:
                commit = self._written(session, batch)
        self._positions.update(commit.positions)
        for task_id, position in commit.positions.items():
            if position.ended:
                # Looked up again from here on, which is how a late event is refused.
                del self._positions[task_id]
                self._last_lines.forget(task_id)
        self._call(self._publish, commit.logged)
        self._call(self._advance, commit)

    def _written(self, session: Session, batch: list[_Append]) -> _Commit:
        """Write the events of a batch."""
        now = utc_now()
        positions: dict[int, LogPosition] = {}
        rows: list[dict[str, object]] = []
        logged: list[tuple[_Append, LoggedEvent]] = []
        lines: dict[int, str] = {}
        for append in batch:
            task_id, event = append.task_id, append.event
            position = positions.get(task_id) or self._position(session, task_id)
            if position.ended:
                raise TaskEnded(f"task {task_id} takes no more events")
            seq = position.last_seq + 1
            body = _body(seq, now, append)
            rows.append({"task_id": task_id, "seq": seq, "body": body, "type": event.type})
            is_last = False
            if isinstance(event, TaskStatusChanged):
                is_last = event.status in TERMINAL_STATUSES
                self._store.set_status(
                    session, position.user_id, task_id, event.status, event.reason, now
                )
            line = self._last_lines.read(task_id, event)
            if line:
                lines[task_id] = line
            positions[task_id] = LogPosition(seq, is_last, position.user_id)
            sent = body.encode()
            logged.append((append, LoggedEvent(seq, sent, len(sent), is_last)))
        self._store.add_events(session, rows)
        ends = {task: (at.last_seq, lines.get(task)) for task, at in positions.items()}
        self._store.set_log_ends(session, ends)
        return _Commit(now, positions, lines, logged)

    def _position(self, session: Session, task_id: int) -> LogPosition:
        known = self._positions.get(task_id) or self._store.log_position(session, task_id)
        if known is None:
            raise TaskEnded(f"task {task_id} is gone")
        return known

    # Back on the event loop

    def _call(self, function: object, *args: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)  # type: ignore[arg-type]
        except RuntimeError:
            # The loop is gone, and with it everybody who could be told.
            return

    def _publish(self, logged: Iterable[tuple[_Append, LoggedEvent]]) -> None:
        for append, event in logged:
            feed = self._feeds.get(append.task_id)
            if feed is not None:
                self._newest.add(append.task_id, event)
                feed.wake()
            if not append.done.done():
                append.done.set_result(event.seq)

    def _advance(self, commit: _Commit) -> None:
        """Tell those who watch all tasks of a user."""
        for task_id, end in commit.positions.items():
            usage = self._usages.pop(task_id, None)
            if end.ended:
                self._task_feed.wake(end.user_id)
            else:
                line = commit.lines.get(task_id)
                step = Progress(task_id, commit.at, end.last_seq, line, usage)
                self._task_feed.advance(end.user_id, step)

    def _fail(self, append: _Append, error: Exception) -> None:
        if not append.done.done():
            append.done.set_exception(error)


def _report(error: Exception) -> None:
    """Log an error that is no answer of the database, such as a lack of memory."""
    if not isinstance(error, SQLAlchemyError | TaskEnded):
        log.error("events could not be written", exc_info=error)


def fields_of(event: Event) -> str:
    """The JSON object of an event, without its envelope.

    Raises:
        ValueError: for what JSON cannot say, such as NaN.
    """
    fields = event.model_dump()
    said = {key: value for key, value in fields.items() if value is not None or key == "result"}
    text = json.dumps(
        {"type": event.type} | said, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode("utf-8", "replace").decode()


def _body(seq: int, created_at: str, append: _Append) -> str:
    envelope = f'"seq":{seq},"task_id":{append.task_id},"created_at":"{created_at}"'
    return f"{{{envelope},{append.fields[1:]}"
