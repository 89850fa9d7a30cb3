"""Last events of runs and answers: written, even if the log cannot be written for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from beray.events import Event, MsgError, TaskStatusChanged
from beray.server.runtime.shortage import delays
from beray.server.tasks.event_log import EventLog, TaskClosed

log = structlog.get_logger("beray.events")


MAX_WAIT_SECONDS: Final = 5.0
"""Time that ``write`` waits for its events. While others take longer, it does not wait."""


class EndWriter:
    """Writes the last events of a task or an answer, and repeats it until it has worked.

    A full disk or a locked database must not leave a task without an end. Used on one event
    loop, until ``close``.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._event_log = event_log
        self._pending: dict[int, asyncio.Task[bool]] = {}
        self._late: set[asyncio.Task[bool]] = set()

    @property
    def idle(self) -> bool:
        """Whether everything is written."""
        return not self._pending

    def is_pending(self, task_id: int) -> bool:
        """Return whether last events of the task still have to be written."""
        return task_id in self._pending

    async def wait_written(self, task_id: int) -> None:
        """Return once no events of the task are pending."""
        if (pending := self._pending.get(task_id)) is not None:
            await asyncio.wait([pending])

    async def write(self, task_id: int, events: Sequence[Event]) -> bool:
        """Log ``events``; return when they are written, or will be as soon as that is possible.

        Returns:
            False if the task has ended already, or was deleted, and takes none of them.
        """
        before = self._pending.get(task_id)
        seconds = 0.0 if self._late else MAX_WAIT_SECONDS
        writing = asyncio.create_task(
            self._write(task_id, list(events), before), name=f"end-{task_id}"
        )
        self._pending[task_id] = writing
        writing.add_done_callback(partial(self._forget, task_id))
        # Not awaited itself: to cancel the caller must not lose the events.
        await asyncio.wait([writing], timeout=seconds)
        if writing.done():
            return writing.result()
        self._late.add(writing)
        return True

    async def close(self) -> None:
        """Give up what is pending; the next server ends these tasks. Idempotent."""
        pending = list(self._pending.values())
        for writing in pending:
            writing.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _forget(self, task_id: int, writing: asyncio.Task[bool]) -> None:
        self._late.discard(writing)
        if self._pending.get(task_id) is writing:
            del self._pending[task_id]

    async def _write(
        self, task_id: int, left: list[Event], before: asyncio.Task[bool] | None
    ) -> bool:
        if before is not None:
            await asyncio.wait([before])
        for attempt, seconds in enumerate(delays()):
            try:
                taken = await self._append(task_id, left)
            except (SQLAlchemyError, MemoryError) as error:
                if not attempt:
                    log.error(
                        "the end of a run cannot be written; it will be tried again",
                        task_id=task_id,
                        error=str(getattr(error, "orig", error)) or "out of memory",
                    )
            else:
                if attempt:
                    log.info("the end of a run was written", task_id=task_id)
                return taken
            await asyncio.sleep(seconds)
        raise AssertionError("delays have no end")

    async def _append(self, task_id: int, left: list[Event]) -> bool:
        """Log the first of ``left``, and remove it, until none is left; False: it has ended."""
        while left:
            try:
                # Small events only: a user's message must not use up the reserve.
                recovers = isinstance(left[0], TaskStatusChanged | MsgError)
                await self._event_log.append(task_id, left[0], recovers=recovers)
            except TaskClosed:
                return False
            del left[0]
        return True
