"""Last events of runs and answers: written, even if the log cannot be written for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from beray.events import Event
from beray.server.event_log import EventLog, TaskEnded
from beray.server.shortage import delays

log = structlog.get_logger("beray.events")


class EndWriter:
    """Writes the last events of a task or an answer, and repeats it until it has worked.

    A full disk or a locked database must not leave a task without an end. Used on one event
    loop, until ``close``.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._pending: dict[int, asyncio.Task[None]] = {}

    @property
    def idle(self) -> bool:
        """Whether everything is written."""
        return not self._pending

    def is_pending(self, task_id: int) -> bool:
        """Return whether last events of the task still have to be written."""
        return task_id in self._pending

    async def write(self, task_id: int, events: Sequence[Event]) -> None:
        """Log ``events``; return when they are written, or will be as soon as that is possible.

        A task that has ended already, or was deleted, takes none of them.
        """
        left = list(events)
        try:
            await self._append(task_id, left)
        except SQLAlchemyError as error:
            log.error(
                "the end of a run cannot be written; it will be tried again",
                task_id=task_id,
                error=str(getattr(error, "orig", error)),
            )
            retry = asyncio.create_task(self._retry(task_id, left), name=f"end-{task_id}")
            self._pending[task_id] = retry
            retry.add_done_callback(lambda _: self._pending.pop(task_id, None))

    async def close(self) -> None:
        """Give up what is pending; the next server ends these tasks. Idempotent."""
        retries = list(self._pending.values())
        for retry in retries:
            retry.cancel()
        await asyncio.gather(*retries, return_exceptions=True)

    async def _append(self, task_id: int, left: list[Any]) -> None:
        """Log the first of ``left``, and remove it, until none is left."""
        while left:
            try:
                await self._event_log.append(task_id, left[0])
            except TaskEnded:
                return
            del left[0]

    async def _retry(self, task_id: int, left: list[Any]) -> None:
        for seconds in delays():
            await asyncio.sleep(seconds)
            try:
                await self._append(task_id, left)
            except SQLAlchemyError:
                continue
            log.info("the end of a run was written", task_id=task_id)
            return
