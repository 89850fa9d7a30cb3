"""Sink for the events of a run, which redacts secrets and enforces limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Final, Protocol

from starlette.concurrency import run_in_threadpool

from beray.events import (
    Event,
    MsgEventTextChunk,
    MsgEventToolResult,
    MsgUserMessage,
    TaskStatusChanged,
)
from beray.server.runners.base import Usage
from beray.server.runners.event_positions import EventPositions
from beray.server.tasks.event_log import EventLog, event_fields
from beray.server.tasks.redaction import StreamRedactor
from beray.server.tasks.usage_limits import Budget
from beray.streaming.retraction import retracted_count

LINE_WAIT_SECONDS: Final = 1.0
"""Maximum time that an event of ``emit_between_lines`` waits for the end of a line."""

INLINE_CHARACTERS: Final = 64 * 1024
"""Larger events are encoded in a thread."""
_VALUE_CHARACTERS: Final = 8
"""Estimated size of a value that is not a string."""


class OutputLimitExceeded(Exception):
    """The events of a run exceed the output limit of a task."""


class StepObserver(Protocol):
    """Observer of the steps of a run."""

    def step_ended(self, seq: int) -> None:
        """Handle the end of a step, which the event ``seq`` reports."""

    async def settled(self) -> None:
        """Wait until the ends of all steps are handled."""


class TaskSink:
    """``Sink`` of one run.

    Args:
        event_log: Event log of the tasks.
        task_id: Id of the task.
        output_bytes: Maximum size of the events of the run.
        secrets: Redaction of secrets in the events.
        budget: Limits of the usage.
        last_seq: ``seq`` of the last event before the run.
        record_position: Called before each request to a model, while the runner waits, with the
            ``seq`` of the last event that the runner has emitted.

    Attributes:
        has_logged: Whether the run has logged an event, so that it cannot be restarted.
        last_seq: ``seq`` of the last event of the run that is on disk.
        steps: Observer of the steps of the run.
    """

    def __init__(
        self,
        *,
        event_log: EventLog,
        task_id: int,
        output_bytes: int,
        secrets: StreamRedactor,
        budget: Budget,
        last_seq: int = 0,
        record_position: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self.steps: StepObserver | None = None
        self.last_seq = last_seq
        self._runner_seq = last_seq
        self._record_position = record_position
        self._event_log = event_log
        self._task_id = task_id
        self._bytes_left = output_bytes
        self.has_logged = False
        self._secrets = secrets
        self._budget = budget
        self._order = asyncio.Lock()
        self._between_lines = asyncio.Event()
        self._between_lines.set()
        self._open_lines: set[str] = set()
        self._positions = EventPositions()

    async def emit(self, event: Event, count: int = 1) -> None:
        """Log an event.

        ``retracts`` of a text chunk is a number of the runner's events. It is logged as the range
        of these events in the log.

        Args:
            event: Event of the runner.
            count: Number of the runner's events that were joined to this one.

        Raises:
            OutputLimitExceeded: The events of the run exceed the output limit.
            TaskClosed: The task has ended or was deleted.
            ValueError: Runners may not emit events of this type.
        """
        if isinstance(event, TaskStatusChanged | MsgUserMessage):
            raise ValueError(f"a runner must not emit {event.type}")
        self._track_lines(event)
        if isinstance(event, MsgEventTextChunk) and "retracts" in (event.model_extra or {}):
            logged = await self._log_retraction(event)
        else:
            logged = await self._log(partial(self._secrets.redact, event), count)
        self._runner_seq = max(self._runner_seq, logged)
        if self.steps is not None and isinstance(event, MsgEventToolResult):
            self.steps.step_ended(self.last_seq)

    def _track_lines(self, event: Event) -> None:
        """Track the unfinished lines of text, one for each running command."""
        call_id = str((event.model_extra or {}).get("call_id", ""))
        # An event of another call, or of none, ends the lines of other calls.
        others = {other for other in self._open_lines if other not in ("", call_id)}
        self._open_lines = others if call_id else set()
        if isinstance(event, MsgEventTextChunk) and not event.text.endswith("\n"):
            self._open_lines.add(call_id)
        if self._open_lines:
            self._between_lines.clear()
        else:
            self._between_lines.set()

    async def emit_between_lines(self, event: Event) -> None:
        """Log an event that may be moved, avoiding the middle of a line of text; see ``emit``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINE_WAIT_SECONDS):
                await self._between_lines.wait()
        await self._log(partial(self._secrets.redact, event))

    def close_lines(self) -> None:
        """Mark unfinished lines as ended, because the runner emits no more text."""
        self._open_lines.clear()
        self._between_lines.set()

    async def flush(self) -> None:
        """Log text that was delayed because it could have been the start of a secret."""
        self._runner_seq = max(self._runner_seq, await self._log(self._secrets.flush))

    async def charge(self, usage: Usage) -> None:
        """Record the usage before a request to a model; see ``Budget.charge``."""
        # Later retractions do not include events before this request.
        await self.flush()
        if self.steps is not None:
            await self.steps.settled()
        self._positions.begin()
        self._event_log.set_usage(self._task_id, asdict(usage))
        await self.record_position()
        await self._budget.charge(usage)

    async def record_position(self) -> None:
        """Record that the runner has completed everything that it has begun.

        Events about files and checkpoints follow those of the runner and do not count. Otherwise
        the position would be after that of the checkpoint of the same step.

        Raises:
            OSError: The position cannot be recorded.
        """
        if self._record_position is not None:
            await self._record_position(self._runner_seq)

    async def record(self, usage: Usage) -> None:
        """Record the usage; see ``Budget.record``."""
        await self._budget.record(usage)

    async def _log_retraction(self, event: MsgEventTextChunk) -> int:
        """Log a text chunk that retracts earlier events, or plain text if these are unknown.

        Returns:
            The ``seq`` of the chunk.
        """
        fields = event.model_dump(exclude={"retracts"})
        async with self._order:
            # Delayed text is retracted, too.
            self._positions.add(0, self._enqueue_all(self._secrets.flush()))
            if (span := await self._positions.span(retracted_count(event))) is not None:
                fields["retracts"] = span
            chunk = MsgEventTextChunk.model_validate(fields)
            positions = self._enqueue_all([*self._secrets.redact(chunk), *self._secrets.flush()])
            self._positions.add(1, positions)
        return max(await asyncio.gather(*positions))

    async def _log(self, redact: Callable[[], Iterable[Event]], count: int = 0) -> int:
        """Log the events that ``redact`` returns, and wait until they are on disk.

        Events are redacted, encoded and enqueued one at a time, so that delayed text of one event
        precedes the next event.

        Args:
            redact: Returns the redacted events.
            count: Number of the runner's events that the event consists of.

        Returns:
            The ``seq`` of the last event; 0 if ``redact`` returned none.
        """
        async with self._order:
            events = list(redact())
            if any(_is_large(event) for event in events):
                fields = await run_in_threadpool(lambda: [event_fields(event) for event in events])
            else:
                fields = [event_fields(event) for event in events]
            positions = [self._enqueue(*pair) for pair in zip(events, fields, strict=True)]
            self._positions.add(count, positions)
        if len(positions) == 1:
            return await positions[0]
        return max(await asyncio.gather(*positions), default=0)

    def _enqueue_all(self, events: Iterable[Event]) -> list[asyncio.Future[int]]:
        return [self._enqueue(event, event_fields(event)) for event in events]

    def _enqueue(self, event: Event, fields: str) -> asyncio.Future[int]:
        self.has_logged = True
        self._bytes_left -= len(fields.encode())
        if self._bytes_left < 0:
            raise OutputLimitExceeded
        position = self._event_log.enqueue(self._task_id, event, fields)
        position.add_done_callback(self._track_position)
        return position

    def _track_position(self, position: asyncio.Future[int]) -> None:
        if not position.cancelled() and position.exception() is None:
            self.last_seq = max(self.last_seq, position.result())


def _is_large(event: Event) -> bool:
    """Return True if an event is so large that it must be encoded in a thread."""
    remaining = INLINE_CHARACTERS
    values: list[object] = list(vars(event).values())
    while values:
        value = values.pop()
        remaining -= len(value) if isinstance(value, str) else _VALUE_CHARACTERS
        if remaining < 0:
            return True
        if isinstance(value, dict):
            values += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            values += value
    return False
