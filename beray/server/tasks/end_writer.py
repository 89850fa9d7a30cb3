"""Reliable writing of the last events of runs and answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from beray.events import Event, MsgError, TaskStatusChanged
from beray.server.storage.database_errors import StorageError, error_text
from beray.server.storage.shortage import retry_delays
from beray.server.tasks.event_log import EventLog, TaskClosed

log = structlog.get_logger("beray.events")


MAX_WAIT_SECONDS: Final = 5.0
"""Maximum time that ``write`` waits. While other writes exceed it, ``write`` does not wait."""


class EndWriter:
    """Writer that repeats the last events of a run or an answer until they are logged.

    A full disk or a locked database must not leave a task without an end. Used on one event
    loop, until ``close``.
    """

    def __init__(self, *, event_log: EventLog) -> None:
        self._event_log = event_log
        self._pending: dict[int, asyncio.Task[bool]] = {}
        self._overdue: set[asyncio.Task[bool]] = set()

    @property
    def idle(self) -> bool:
        """True if all events are written."""
        return not self._pending

    def is_pending(self, task_id: int) -> bool:
        """Return True if last events of the task are not written yet."""
        return task_id in self._pending

    async def wait_written(self, task_id: int) -> None:
        """Wait until the pending events of the task are written."""
        if (pending := self._pending.get(task_id)) is not None:
            await asyncio.wait([pending])

    async def write(self, task_id: int, events: Sequence[Event]) -> bool:
        """Log ``events``, waiting at most ``MAX_WAIT_SECONDS``; continue in the background.

        Returns:
            False if the task has ended already or was deleted, so that no event was logged.
        """
        before = self._pending.get(task_id)
        seconds = 0.0 if self._overdue else MAX_WAIT_SECONDS
        writing = asyncio.create_task(
            self._write(task_id, list(events), before), name=f"end-{task_id}"
        )
        self._pending[task_id] = writing
        writing.add_done_callback(partial(self._forget, task_id))
        # The task is not awaited directly, because cancelling the caller must not cancel it.
        await asyncio.wait([writing], timeout=seconds)
        if writing.done():
            return writing.result()
        self._overdue.add(writing)
        return True

    async def close(self) -> None:
        """Cancel pending writes; the next server ends these tasks. Idempotent."""
        pending = list(self._pending.values())
        for writing in pending:
            writing.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _forget(self, task_id: int, writing: asyncio.Task[bool]) -> None:
        self._overdue.discard(writing)
        if self._pending.get(task_id) is writing:
            del self._pending[task_id]

    async def _write(
        self, task_id: int, remaining: list[Event], before: asyncio.Task[bool] | None
    ) -> bool:
        if before is not None:
            await asyncio.wait([before])
        for attempt, seconds in enumerate(retry_delays()):
            try:
                accepted = await self._append(task_id, remaining)
            except (StorageError, MemoryError) as error:
                if not attempt:
                    log.error(
                        "the end of a run cannot be written; the write is repeated",
                        task_id=task_id,
                        error=error_text(error) or "out of memory",
                    )
            else:
                if attempt:
                    log.info("the end of a run was written", task_id=task_id)
                return accepted
            await asyncio.sleep(seconds)
        raise AssertionError("delays have no end")

    async def _append(self, task_id: int, remaining: list[Event]) -> bool:
        """Log and remove the first event until none remains; return False if the task has ended."""
        while remaining:
            try:
                # Only small events may use the reserve: a user's message could exhaust it.
                recovers = isinstance(remaining[0], TaskStatusChanged | MsgError)
                await self._event_log.append(task_id, remaining[0], recovers=recovers)
            except TaskClosed:
                return False
            del remaining[0]
        return True
