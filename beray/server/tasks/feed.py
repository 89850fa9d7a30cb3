"""The feed of all tasks of a user, for the watchers of the task list.

Changes of status are read from the database, where each has a place to resume from.
Between them comes how far the running tasks are: only the newest of each counts, so
it is kept in memory and told at most a few times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import select
from sqlalchemy.exc import DatabaseError
from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.schema import TERMINAL_STATUSES
from beray.server.storage import task_changes
from beray.server.storage.damage import DamagedPlaces
from beray.server.storage.store import Store
from beray.server.storage.tables import Task, TaskChange
from beray.server.tasks.task_pages import PAGE_BYTES, TaskPages, encoded, task_to_wire

PAGE_CHANGES: Final = 200
FRAME_TASKS: Final = 10_000
"""Tasks in one message at most."""
FRAME_BYTES: Final = 8 * 1024 * 1024
"""Bytes of the tasks in one message, unless its only task has more."""
_CHANGING: Final = (
    "held", "started_at", "ended_at", "last_seq", "last_line", "usage",
)  # fmt: skip
"""Keys of a task, besides its status and reason, that change while it exists."""
QUIET_SECONDS: Final = 0.1
"""The pause between two looks, in which what replaces each other gathers."""


class Progress(NamedTuple):
    """How far a task is."""

    task_id: int
    created_at: str
    last_seq: int
    last_line: str | None
    usage: dict[str, Any] | None = None
    """What it has taken of a model, where that is news."""


class _Changes(NamedTuple):
    """Some changes as text/event-stream.

    Attributes:
        last: The number of the last of them.
        ended: The tasks whose end or deletion is among them.
        is_full: Whether there may be more.
    """

    stream: bytes
    last: int
    ended: set[int]
    is_full: bool


async def is_set(changed: asyncio.Event, seconds: float | None) -> bool:
    """Wait until ``changed`` is set, or for so long; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return changed.is_set()
    return True


@dataclass(eq=False)
class _Watcher:
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    progress: dict[int, Progress] = field(default_factory=dict)

    def drop_ended(self, task_ids: set[int]) -> None:
        """Forget the progress of tasks whose end is sent next: the end includes it."""
        for task_id in task_ids:
            self.progress.pop(task_id, None)

    def take_progress(self) -> list[Progress]:
        taken, self.progress = list(self.progress.values()), {}
        return taken


class TaskFeed:
    """Used on one event loop."""

    def __init__(self, store: Store) -> None:
        self.pages = TaskPages(store)
        self.damaged = DamagedPlaces()
        """By user and ``Last-Event-ID``."""
        self._store = store
        self._watchers: dict[int, set[_Watcher]] = {}
        self._draining = False

    def wake(self, user_id: int) -> None:
        """The user's tasks have changed: there is more in the database."""
        for watcher in self._watchers.get(user_id, ()):
            watcher.changed.set()

    def advance(self, user_id: int, progress: Progress) -> None:
        for watcher in self._watchers.get(user_id, ()):
            before = watcher.progress.get(progress.task_id)
            if before is not None and progress.usage is None:
                progress = progress._replace(usage=before.usage)
            watcher.progress[progress.task_id] = progress
            watcher.changed.set()

    def drain(self) -> None:
        """From now on a watcher who has caught up is let go."""
        self._draining = True
        for user_id in self._watchers:
            self.wake(user_id)

    async def tail(
        self, user_id: int, after: int | None, *, idle_seconds: float | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the changes after ``after``, those on disk and those to come.

        They are text/event-stream, in pieces that may end within a message. The first are
        all tasks if ``after`` is None or too long ago, and otherwise the progress of the
        unfinished ones.

        Args:
            idle_seconds: Yield b"" whenever there was nothing for so long.
        """
        watcher = _Watcher()
        self._watchers.setdefault(user_id, set()).add(watcher)
        told = after
        try:
            if after is not None and await run_in_threadpool(self._follows, user_id, after):
                place = after
                async for piece in self._unfinished(user_id):
                    yield piece
            else:
                place = await self.pages.last_change(user_id)
                board = self.pages.board(
                    user_id, place, max_tasks=FRAME_TASKS, max_bytes=FRAME_BYTES
                )
                async for piece in board:
                    yield piece
                told = place
            while True:
                watcher.changed.clear()
                draining = self._draining
                found = await run_in_threadpool(self._behind, user_id, place)
                watcher.drop_ended(found.ended)
                place = found.last
                stream = found.stream
                if not found.is_full:
                    stream += b"".join(map(_advanced, watcher.take_progress()))
                if stream:
                    yield stream
                told = place
                if found.is_full:
                    continue
                if not stream and draining:
                    return
                if not draining:
                    while not await is_set(watcher.changed, idle_seconds):
                        yield b""
                    await asyncio.sleep(QUIET_SECONDS)
        except DatabaseError as error:
            self.damaged.note((user_id, told), error)
            raise
        finally:
            watchers = self._watchers[user_id]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[user_id]

    async def _unfinished(self, user_id: int) -> AsyncIterator[bytes]:
        """Yield the progress of the tasks that have not ended, some at a time."""
        after = 0
        while steps := await run_in_threadpool(self._progress, user_id, after):
            yield b"".join(map(_advanced, steps))
            after = steps[-1].task_id

    # In threads

    def _follows(self, user_id: int, after: int) -> bool:
        with self._store.reading() as session:
            return task_changes.covers(session, user_id, after)

    def _progress(self, user_id: int, after: int) -> list[Progress]:
        unfinished = (
            select(Task.id, Task.created_at, Task.last_seq, Task.last_line)
            .where(Task.user_id == user_id, Task.id > after)
            .where(Task.status.not_in(TERMINAL_STATUSES))
            .order_by(Task.id)
            .limit(PAGE_CHANGES)
        )
        with self._store.reading() as session:
            return [Progress(*row) for row in session.execute(unfinished)]

    def _behind(self, user_id: int, after: int) -> _Changes:
        """Return the changes after ``after`` that fit into a page, at least one."""
        messages: list[bytes] = []
        ended: set[int] = set()
        last, size, is_full = after, 0, False
        with (
            self._store.reading() as session,
            closing(task_changes.changes_after(session, user_id, after)) as rows,
        ):
            for change, task in rows:
                message = _changed(change, task)
                size += len(message)
                is_full = bool(messages) and (size > PAGE_BYTES or len(messages) == PAGE_CHANGES)
                if is_full:
                    break
                messages.append(message)
                last = change.seq
                if change.status is None or change.status in TERMINAL_STATUSES:
                    ended.add(change.task_id)
        return _Changes(b"".join(messages), last, ended, is_full)


def _advanced(step: Progress) -> bytes:
    fields = step._asdict()
    if step.usage is None:
        del fields["usage"]
    return b"data: %b\n\n" % encoded({"type": "TASK_PROGRESS"} | fields)


def _changed(change: TaskChange, task: Task | None) -> bytes:
    message: dict[str, Any] = {
        "seq": change.seq,
        "task_id": change.task_id,
        "created_at": change.created_at,
        "type": "TASK_DELETED" if change.status is None else "TASK_STATUS",
    }
    if change.status is not None:
        message["status"] = change.status
        if change.reason is not None:
            message["reason"] = change.reason
        if task is not None:
            message["task"] = _at_change(task_to_wire(task), change)
    return b"id: %d\ndata: %b\n\n" % (change.seq, encoded(message))


def _at_change(task: schema.Task, change: TaskChange) -> schema.Task:
    """Return the task as it was when it changed, as far as this is known.

    A change is read together with the current task, which may have changed again. Its status
    is then that of the change, and what may have been different at that time is left out.
    """
    if task["status"] == change.status or change.status is None:
        return task
    known = {key: value for key, value in task.items() if key not in _CHANGING}
    return cast(schema.Task, known | {"status": change.status, "reason": change.reason})
