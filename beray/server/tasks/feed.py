"""Feed of all tasks of a user, for watchers of the task list.

Changes of status are read from the database, where each has a number to resume from. The progress
of running tasks is sent in between. Only the newest progress of each task matters, so it is kept
in memory and sent a few times per second at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.schema import TERMINAL_STATUSES
from beray.server.storage.damage import DamagedPlaces
from beray.server.storage.database_errors import StorageError
from beray.server.storage.tables import Task, TaskChange
from beray.server.storage.task_changes import TaskChangeRepository
from beray.server.storage.tasks import TaskRepository
from beray.server.tasks.task_pages import PAGE_BYTES, TaskPages, task_to_wire, to_json

PAGE_CHANGES: Final = 200
"""Maximum number of changes in one read."""
MAX_MESSAGE_TASKS: Final = 10_000
"""Maximum number of tasks in one message."""
MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""Maximum size of the tasks in one message, unless its only task is larger."""
_MUTABLE_KEYS: Final = (
    "held", "started_at", "ended_at", "last_seq", "last_line", "usage",
)  # fmt: skip
"""Keys of a task, besides its status and reason, whose values change."""
COALESCE_SECONDS: Final = 0.1
"""Pause between two reads, in which newer progress replaces older."""


class TaskProgress(NamedTuple):
    """Progress of a task."""

    task_id: int
    created_at: str
    last_seq: int
    last_line: str | None
    usage: dict[str, Any] | None = None
    """Usage of models, if it has changed."""


class _Changes(NamedTuple):
    """Consecutive changes in text/event-stream format.

    Attributes:
        last: Number of the last change.
        ended: Tasks that the changes end or delete.
        is_full: Whether there may be more changes.
    """

    stream: bytes
    last: int
    ended: set[int]
    is_full: bool


async def wait_until_set(changed: asyncio.Event, seconds: float | None) -> bool:
    """Wait until ``changed`` is set, for at most ``seconds``; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return changed.is_set()
    return True


@dataclass(eq=False)
class _Watcher:
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    progress: dict[int, TaskProgress] = field(default_factory=dict)

    def drop_ended(self, task_ids: set[int]) -> None:
        """Discard the progress of tasks whose end is sent next, because the end includes it."""
        for task_id in task_ids:
            self.progress.pop(task_id, None)

    def take_progress(self) -> list[TaskProgress]:
        """Return and clear the progress."""
        progress, self.progress = list(self.progress.values()), {}
        return progress


class TaskFeed:
    """Feeds of all users. Used on one event loop.

    Args:
        tasks: Repository of tasks.
        changes: Repository of the changes of tasks.

    Attributes:
        damaged: Damaged positions, by user and ``Last-Event-ID``.
    """

    def __init__(self, *, tasks: TaskRepository, changes: TaskChangeRepository) -> None:
        self.pages = TaskPages(tasks=tasks)
        self.damaged = DamagedPlaces()
        self._tasks = tasks
        self._changes = changes
        self._watchers: dict[int, set[_Watcher]] = {}
        self._draining = False

    def wake(self, user_id: int) -> None:
        """Wake the watchers of a user, because the database has new changes."""
        for watcher in self._watchers.get(user_id, ()):
            watcher.changed.set()

    def publish_progress(self, user_id: int, progress: TaskProgress) -> None:
        """Send the progress of a task to the watchers of its user."""
        for watcher in self._watchers.get(user_id, ()):
            before = watcher.progress.get(progress.task_id)
            if before is not None and progress.usage is None:
                progress = progress._replace(usage=before.usage)
            watcher.progress[progress.task_id] = progress
            watcher.changed.set()

    def drain(self) -> None:
        """End each watcher once it has received all changes, because the server stops."""
        self._draining = True
        for user_id in self._watchers:
            self.wake(user_id)

    async def tail(
        self, user_id: int, after: int | None, *, idle_seconds: float | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the stored and the future changes after ``after``.

        They are in text/event-stream format, in chunks that may end within a message. The stream
        starts with all tasks if ``after`` is None or too old, and otherwise with the progress of
        the unfinished tasks.

        Args:
            user_id: Id of the user.
            after: ``Last-Event-ID`` of the watcher.
            idle_seconds: Yield b"" after each period of this length without changes.
        """
        watcher = _Watcher()
        self._watchers.setdefault(user_id, set()).add(watcher)
        last_sent = after
        try:
            if after is not None and await run_in_threadpool(self._changes.covers, user_id, after):
                position = after
                async for chunk in self._unfinished(user_id):
                    yield chunk
            else:
                position = await run_in_threadpool(self._changes.last_seq, user_id)
                messages = self.pages.task_messages(
                    user_id, position, max_tasks=MAX_MESSAGE_TASKS, max_bytes=MAX_MESSAGE_BYTES
                )
                async for chunk in messages:
                    yield chunk
                last_sent = position
            while True:
                watcher.changed.clear()
                draining = self._draining
                found = await run_in_threadpool(self._changes_after, user_id, position)
                watcher.drop_ended(found.ended)
                position = found.last
                stream = found.stream
                if not found.is_full:
                    stream += b"".join(map(_progress_message, watcher.take_progress()))
                if stream:
                    yield stream
                last_sent = position
                if found.is_full:
                    continue
                if not stream and draining:
                    return
                if not draining:
                    while not await wait_until_set(watcher.changed, idle_seconds):
                        yield b""
                    await asyncio.sleep(COALESCE_SECONDS)
        except StorageError as error:
            self.damaged.note((user_id, last_sent), error)
            raise
        finally:
            watchers = self._watchers[user_id]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[user_id]

    async def _unfinished(self, user_id: int) -> AsyncIterator[bytes]:
        """Yield the progress of the unfinished tasks, in batches."""
        after = 0
        while batch := await run_in_threadpool(self._progress, user_id, after):
            yield b"".join(map(_progress_message, batch))
            after = batch[-1].task_id

    # In threads

    def _progress(self, user_id: int, after: int) -> list[TaskProgress]:
        stored = self._tasks.list_progress(user_id, after, PAGE_CHANGES)
        return [TaskProgress(*progress) for progress in stored]

    def _changes_after(self, user_id: int, after: int) -> _Changes:
        """Return the changes after ``after`` that fit into a page, but at least one."""
        messages: list[bytes] = []
        ended: set[int] = set()
        last, size, is_full = after, 0, False
        with self._changes.following(user_id, after) as rows:
            for change, task in rows:
                message = _change_message(change, task)
                size += len(message)
                is_full = bool(messages) and (size > PAGE_BYTES or len(messages) == PAGE_CHANGES)
                if is_full:
                    break
                messages.append(message)
                last = change.seq
                if change.status is None or change.status in TERMINAL_STATUSES:
                    ended.add(change.task_id)
        return _Changes(b"".join(messages), last, ended, is_full)


def _progress_message(progress: TaskProgress) -> bytes:
    fields = progress._asdict()
    if progress.usage is None:
        del fields["usage"]
    return b"data: %b\n\n" % to_json({"type": "TASK_PROGRESS"} | fields)


def _change_message(change: TaskChange, task: Task | None) -> bytes:
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
    return b"id: %d\ndata: %b\n\n" % (change.seq, to_json(message))


def _at_change(task: schema.Task, change: TaskChange) -> schema.Task:
    """Return the task at the time of a change, as far as it is known.

    A change is read together with the current task, which may have changed again. The result
    then has the status of the change, and omits values that may have been different.
    """
    if task["status"] == change.status or change.status is None:
        return task
    known = {key: value for key, value in task.items() if key not in _MUTABLE_KEYS}
    return cast(schema.Task, known | {"status": change.status, "reason": change.reason})
