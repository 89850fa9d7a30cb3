"""What happens to all tasks of a user, for those who watch them all.

Changes of status are read from the database, where each has a place to resume from.
Between them comes how far the running tasks are: only the newest of each counts, so
it is kept in memory and told at most a few times a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.schema import TERMINAL_STATUSES
from beray.server import changes
from beray.server.store import Store
from beray.server.tables import Task, TaskChange

PAGE_CHANGES: Final = 200
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


class FeedMessage(NamedTuple):
    """One message: its JSON, and its place where it can be resumed behind it."""

    seq: int | None
    body: str


@dataclass(eq=False)
class _Watcher:
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    progress: dict[int, Progress] = field(default_factory=dict)

    def drop_ended(self, rows: list[tuple[TaskChange, Task | None]]) -> None:
        """What is about to be told of a task's end includes how far it got."""
        for change, _ in rows:
            if change.status is None or change.status in TERMINAL_STATUSES:
                self.progress.pop(change.task_id, None)

    def take_progress(self) -> list[Progress]:
        taken, self.progress = list(self.progress.values()), {}
        return taken


class TaskFeed:
    """Used on one event loop."""

    def __init__(self, store: Store) -> None:
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

    async def tail(self, user_id: int, after: int | None) -> AsyncIterator[list[FeedMessage]]:
        """The changes behind ``after``, those on disk and those to come.

        Begins with all tasks where ``after`` is ``None`` or too long ago, and with how
        far the unfinished ones are where it is not.
        """
        watcher = _Watcher()
        self._watchers.setdefault(user_id, set()).add(watcher)
        try:
            place, first = await run_in_threadpool(self._begun, user_id, after)
            if first:
                yield first
            while True:
                watcher.changed.clear()
                draining = self._draining
                rows = await run_in_threadpool(self._behind, user_id, place)
                watcher.drop_ended(rows)
                batch = [_changed(change, task) for change, task in rows]
                if len(rows) < PAGE_CHANGES:
                    batch += [_advanced(step) for step in watcher.take_progress()]
                if batch:
                    yield batch
                if rows:
                    place = rows[-1][0].seq
                if len(rows) == PAGE_CHANGES:
                    continue
                if not batch and draining:
                    return
                if not draining:
                    await watcher.changed.wait()
                    await asyncio.sleep(QUIET_SECONDS)
        finally:
            watchers = self._watchers[user_id]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[user_id]

    def _begun(self, user_id: int, after: int | None) -> tuple[int, list[FeedMessage]]:
        if after is not None:
            with self._store.reading() as session:
                if changes.follows(session, user_id, after):
                    return after, self._unfinished(user_id)
        seq, tasks = self._store.board(user_id)
        board = {"seq": seq, "type": "TASKS", "tasks": [public(task) for task in tasks]}
        return seq, [FeedMessage(seq, _json(board))]

    def _unfinished(self, user_id: int) -> list[FeedMessage]:
        return [
            _advanced(Progress(task.id, task.created_at, task.last_seq, task.last_line))
            for task in self._store.unfinished_of(user_id)
        ]

    def _behind(self, user_id: int, after: int) -> list[tuple[TaskChange, Task | None]]:
        with self._store.reading() as session:
            return list(changes.behind(session, user_id, after, PAGE_CHANGES))


def _advanced(step: Progress) -> FeedMessage:
    told = step._asdict()
    if step.usage is None:
        del told["usage"]
    return FeedMessage(None, _json({"type": "TASK_PROGRESS"} | told))


def _changed(change: TaskChange, task: Task | None) -> FeedMessage:
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
            message["task"] = public(task)
    return FeedMessage(change.seq, _json(message))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def public(task: Task) -> schema.Task:
    """A task as the wire carries it."""
    return {
        "id": task.id,
        "goal": task.goal,
        "status": task.status,
        "reason": task.reason,
        "held": task.held,
        "tools": task.tools,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "ended_at": task.ended_at,
        "last_seq": task.last_seq,
        "last_line": task.last_line,
        "runner": task.runner,
        "model": task.model,
        "limits": task.limits,
        "tags": task.tags,
        "usage": task.usage,
        "chat": task.chat,
    }
