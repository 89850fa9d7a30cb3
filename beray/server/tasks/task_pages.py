"""Pages of a user's tasks as JSON, newest first and limited by bytes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from beray import schema
from beray.server.storage.tasks import TaskExtent, TaskRepository

PAGE_BYTES: Final = 128 * 1024
"""Maximum size of the JSON of one page, unless its only task is larger."""
CONCURRENT_READS: Final = 2


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Consecutive tasks, as comma-separated elements of a JSON array.

    Attributes:
        last: Id of the last task.
        has_more: Whether there are older tasks.
    """

    body: bytes
    count: int
    last: int
    has_more: bool


class TaskPages:
    """Reader of task pages. Used on one event loop."""

    def __init__(self, *, tasks: TaskRepository) -> None:
        self._tasks = tasks
        self._reads = asyncio.Semaphore(CONCURRENT_READS)

    async def extent(self, user_id: int, before: int | None, limit: int) -> TaskExtent:
        """Return the extent of the newest ``limit`` tasks with an id below ``before``."""
        return await run_in_threadpool(self._tasks.extent, user_id, before, limit)

    async def json_array(self, user_id: int, extent: TaskExtent) -> AsyncIterator[bytes]:
        """Yield the JSON array of the tasks in ``extent``, in chunks.

        Tasks that are deleted meanwhile are omitted.
        """
        yield b"["
        before, comma = extent.newest + 1, b""
        while (page := await self.page(user_id, before, oldest=extent.oldest)).count:
            yield comma + page.body
            before, comma = page.last, b","
        yield b"]"

    async def task_messages(
        self, user_id: int, seq: int, *, max_tasks: int, max_bytes: int
    ) -> AsyncIterator[bytes]:
        """Yield all tasks as messages in text/event-stream format, in chunks.

        The first message is ``TASKS`` with the newest tasks. If there are more tasks, it has
        ``"more": true``, and older tasks follow as ``TASKS_MORE``.

        Args:
            user_id: Id of the user.
            seq: Number of a change that the tasks include. They may include later changes,
                which the stream then repeats.
            max_tasks: Maximum number of tasks in one message.
            max_bytes: Maximum size of the tasks in one message.
        """
        yield b'id: %d\ndata: {"seq":%d,"type":"TASKS"' % (seq, seq)
        before: int | None = None
        while True:
            yield b',"tasks":['
            count = size = 0
            while True:
                page = await self.page(
                    user_id, before,
                    max_tasks=max_tasks - count, max_bytes=min(PAGE_BYTES, max_bytes - size),
                )  # fmt: skip
                if page.count:
                    yield (b"," if count else b"") + page.body
                    before = page.last
                count += page.count
                size += len(page.body) + 1
                if not page.has_more or count >= max_tasks or size >= max_bytes:
                    break
            if not page.has_more:
                yield b"]}\n\n"
                return
            yield b'],"more":true}\n\ndata: {"type":"TASKS_MORE"'

    async def page(
        self,
        user_id: int,
        before: int | None,
        *,
        oldest: int = 0,
        max_tasks: int | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> TaskPage:
        """Return the newest tasks with an id below ``before``, at least one if there is one.

        Args:
            user_id: Id of the user.
            before: None starts with the newest task.
            oldest: Lowest id to return.
            max_tasks: Maximum number of tasks.
            max_bytes: Maximum size of the JSON.
        """
        async with self._reads:
            return await run_in_threadpool(
                self._page, user_id, before, oldest, max_tasks, max_bytes
            )

    # In threads

    def _page(
        self, user_id: int, before: int | None, oldest: int, max_tasks: int | None, max_bytes: int
    ) -> TaskPage:
        bodies: list[bytes] = []
        size, last, has_more = 0, 0, False
        with self._tasks.newest_first(user_id, before=before, oldest=oldest) as rows:
            for row in rows:
                body = to_json(task_to_wire(row))
                size += len(body) + 1
                has_more = bool(bodies) and (size > max_bytes or len(bodies) == max_tasks)
                if has_more:
                    break
                bodies.append(body)
                last = row.id
        return TaskPage(b",".join(bodies), len(bodies), last, has_more)


def to_json(value: Any) -> bytes:
    """Return ``value`` as JSON in UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def task_to_wire(task: Any) -> schema.Task:
    """Return a ``Task``, or a row with its columns, in the format of the API."""
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
        "tags": task.tags or [],
        "usage": task.usage,
        "chat": task.chat,
        "from": task.origin,
    }
