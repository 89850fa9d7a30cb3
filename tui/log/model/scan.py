"""Search through the whole log, page by page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from beray.exceptions import InvalidResponseError
from beray.schema import TaskEvent
from tui.events.blocks import Block, BlockBuilder, BlockKind
from tui.events.window import NumberedEvent, number_events
from tui.log.model.query import Query

PAGE: Final = 2000
"""Number of events per page."""
_OVERLAP: Final = 64
"""Number of events that adjacent pages share, so that matches across the boundary are found."""
_PROGRESS_INTERVAL_SECONDS: Final = 0.1

PageReader = Callable[[int, int], list[TaskEvent]]
"""Function ``(after, limit)`` that returns events after event ``after``. It may block."""


class LogScan:
    """Search for the next match after event ``number``, or for the last one before it.

    Args:
        read_page: Reads a page of events.
        query: The query to match.
        step: 1 to search forward, -1 to search backward.
        number: Number of the event to start at, which itself does not match.
        on_progress: Called at intervals with the number of the event that was reached.
    """

    def __init__(
        self,
        *,
        read_page: PageReader,
        query: Query,
        step: int,
        number: int,
        on_progress: Callable[[int], None],
    ) -> None:
        self._read_page = read_page
        self._query = query
        self._step = step
        self._number = number
        self._on_progress = on_progress
        self._stopped = False
        self._progress_at = 0.0

    def stop(self) -> None:
        """Let ``find`` return before the next page. May be called from any thread."""
        self._stopped = True

    def find(self) -> int | None:
        """Return the number of the matching event, or ``None``.

        Raises:
            BeRayException: A page could not be read.
            OSError: A page could not be read.
        """
        pages = self._forward() if self._step > 0 else self._backward()
        for after, events in pages:
            numbers = (number for block in _blocks(events) for number in self._matches(block))
            if self._step > 0:
                found = next((number for number in numbers if number > self._number), None)
            else:
                found = max((number for number in numbers if number < self._number), default=None)
            if found is not None or self._stopped:
                return found
            if time.monotonic() >= self._progress_at + _PROGRESS_INTERVAL_SECONDS:
                self._progress_at = time.monotonic()
                self._on_progress(events[-1][0] if self._step > 0 else after + 1)
        return None

    def _forward(self) -> Iterator[tuple[int, Sequence[NumberedEvent]]]:
        after = max(0, self._number - _OVERLAP)
        while not self._stopped and (events := self._fetch_page(after, PAGE)):
            yield after, events
            last = events[-1][0]
            if len(events) < PAGE:
                return
            after = last - _OVERLAP

    def _backward(self) -> Iterator[tuple[int, Sequence[NumberedEvent]]]:
        last = self._number - 1
        while not self._stopped and last > 0:
            after = max(0, last - PAGE)
            events = self._fetch_page(after, last - after + _OVERLAP)
            if not events:
                return
            yield after, events
            last = after

    def _fetch_page(self, after: int, limit: int) -> list[NumberedEvent]:
        pairs = number_events(self._read_page(after, limit), after)
        if pairs and not after < pairs[0][0]:
            raise InvalidResponseError(
                f"the server returned event {pairs[0][0]} in a page after event {after}", body=""
            )
        return pairs

    def _matches(self, block: Block) -> Iterator[int]:
        """Yield the numbers of the events that match in ``block``."""
        if not self._query.accepts(block):
            return
        if block.kind is not BlockKind.OUTPUT or not self._query.patterns:
            if self._query.matches(block):
                yield (
                    block.first
                    if self._step < 0
                    else max(block.first, min(block.last, self._number + 1))
                )
            return
        at = 0
        for line in block.text.split("\n"):
            if self._query.matches_text(line):
                yield block.number_at(at)
            at += len(line) + 1


def _blocks(events: Sequence[NumberedEvent]) -> list[Block]:
    builder = BlockBuilder()
    for number, event in events:
        builder.feed(event, number)
    return builder.blocks
