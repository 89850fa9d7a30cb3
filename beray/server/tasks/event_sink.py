"""Where the events of one run go: past the secrets and the limits, into the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.events import Event, MsgEventTextChunk, MsgUserMessage, TaskStatusChanged
from beray.server.runners.base import Usage
from beray.server.runners.event_positions import EventPositions
from beray.server.tasks.event_log import EventLog, event_fields
from beray.server.tasks.redaction import StreamRedactor
from beray.server.tasks.usage_limits import Budget
from beray.streaming.retraction import retracted_count

LINE_WAIT_SECONDS: Final = 1.0
"""How long what is said aside waits for the end of a line."""

INLINE_CHARACTERS: Final = 64 * 1024
"""Events of more are encoded in a thread."""
_VALUE_CHARACTERS: Final = 8
"""Of a value that is not a string, roughly."""


class OutputLimitExceeded(Exception):
    """A run has said more than one task may."""


class TaskSink:
    """A ``Sink`` for one run."""

    def __init__(
        self,
        event_log: EventLog,
        task_id: int,
        *,
        output_bytes: int,
        secrets: StreamRedactor,
        budget: Budget,
    ) -> None:
        self._event_log = event_log
        self._task_id = task_id
        self._bytes_left = output_bytes
        self.has_logged = False
        """Whether the run has logged anything: then it cannot begin again."""
        self._secrets = secrets
        self._budget = budget
        self._order = asyncio.Lock()
        self._between_lines = asyncio.Event()
        self._between_lines.set()
        self._open_lines: set[str] = set()
        self._positions = EventPositions()

    async def emit(self, event: Event, count: int = 1) -> None:
        """Log an event.

        ``retracts`` of a text chunk, a number of the runner's events, is logged as the range of
        these events in the log.

        Raises:
            OutputLimitExceeded: there is too much of them.
            TaskClosed: the task takes no more.
            ValueError: it is not for a runner to say.
        """
        if isinstance(event, TaskStatusChanged | MsgUserMessage):
            raise ValueError(f"a runner has said {event.type}")
        self._track_lines(event)
        if isinstance(event, MsgEventTextChunk) and "retracts" in (event.model_extra or {}):
            await self._log_retraction(event)
        else:
            await self._log(partial(self._secrets.redact, event), count)

    def _track_lines(self, event: Event) -> None:
        """Keep track of the lines that have begun, one for each command that runs."""
        call_id = str((event.model_extra or {}).get("call_id", ""))
        # The end of a call, or an event that belongs to none, ends other lines.
        others = {other for other in self._open_lines if other not in ("", call_id)}
        self._open_lines = others if call_id else set()
        if isinstance(event, MsgEventTextChunk) and not event.text.endswith("\n"):
            self._open_lines.add(call_id)
        if self._open_lines:
            self._between_lines.clear()
        else:
            self._between_lines.set()

    async def emit_between_lines(self, event: Event) -> None:
        """As ``emit``, of what has no place of its own: not in the middle of a line of text."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LINE_WAIT_SECONDS):
                await self._between_lines.wait()
        await self._log(partial(self._secrets.redact, event))

    def close_lines(self) -> None:
        """Nothing more is going to be said in the lines that are open."""
        self._open_lines.clear()
        self._between_lines.set()

    async def flush(self) -> None:
        """Log what was kept back, because it might have been the beginning of a secret."""
        await self._log(self._secrets.flush)

    async def charge(self, usage: Usage) -> None:
        # A request to a model follows: what is retracted later begins here.
        await self.flush()
        self._positions.begin()
        self._event_log.set_usage(self._task_id, asdict(usage))
        await self._budget.charge(usage)

    async def record(self, usage: Usage) -> None:
        await self._budget.record(usage)

    async def _log_retraction(self, event: MsgEventTextChunk) -> None:
        """Log a text chunk that retracts events before it; if these are unknown, as a text."""
        fields = event.model_dump(exclude={"retracts"})
        async with self._order:
            # What was kept back is retracted, too.
            self._positions.add(0, self._enqueue_all(self._secrets.flush()))
            if (span := await self._positions.span(retracted_count(event))) is not None:
                fields["retracts"] = span
            chunk = MsgEventTextChunk.model_validate(fields)
            positions = self._enqueue_all([*self._secrets.redact(chunk), *self._secrets.flush()])
            self._positions.add(1, positions)
        await asyncio.gather(*positions)

    async def _log(self, cut: Callable[[], Iterable[Event]], count: int = 0) -> None:
        """Log what ``cut`` makes of an event, and wait until it is on disk.

        One event at a time is cut, encoded and given its place in the log: what the filter
        of secrets keeps back of one comes before the next.

        Args:
            count: How many events of the runner the event is made of.
        """
        async with self._order:
            events = list(cut())
            if any(_is_large(event) for event in events):
                fields = await run_in_threadpool(lambda: [event_fields(event) for event in events])
            else:
                fields = [event_fields(event) for event in events]
            positions = [self._enqueue(*pair) for pair in zip(events, fields, strict=True)]
            self._positions.add(count, positions)
        if len(positions) == 1:
            await positions[0]
        elif positions:
            await asyncio.gather(*positions)

    def _enqueue_all(self, events: Iterable[Event]) -> list[asyncio.Future[int]]:
        return [self._enqueue(event, event_fields(event)) for event in events]

    def _enqueue(self, event: Event, fields: str) -> asyncio.Future[int]:
        self.has_logged = True
        self._bytes_left -= len(fields.encode())
        if self._bytes_left < 0:
            raise OutputLimitExceeded
        return self._event_log.enqueue(self._task_id, event, fields)


def _is_large(event: Event) -> bool:
    """Return whether to encode an event takes so long that it is done in a thread."""
    left = INLINE_CHARACTERS
    values: list[object] = list(vars(event).values())
    while values:
        value = values.pop()
        left -= len(value) if isinstance(value, str) else _VALUE_CHARACTERS
        if left < 0:
            return True
        if isinstance(value, dict):
            values += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            values += value
    return False
