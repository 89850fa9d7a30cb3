"""Window over a task's log: consecutive events and their blocks.

Events can be added and dropped at both ends. The blocks equal those of the whole log, as far as
that can be determined from the events in the window. This module has no side effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from beray.streaming.retraction import retracted_range
from tui.events.blocks import Block, BlockBuilder, retract

MAX_EVENTS: Final = 4000
"""Number of events beyond which some are dropped."""
MAX_WEIGHT: Final = 8000
"""Approximate number of rows beyond which some events are dropped."""
_KEEP_RATIO: Final = 0.75
"""Share of the limits that remains after dropping, so that drops are rare."""

Event = Mapping[str, Any]
NumberedEvent = tuple[int, Event]


def number_events(events: Iterable[Event], last: int) -> list[NumberedEvent]:
    """Return events with their numbers.

    The number is the event's ``seq`` if that increases; otherwise it is counted up.

    Args:
        events: Consecutive events.
        last: Number of the event before the first of ``events``.
    """
    result = []
    for event in events:
        seq = event.get("seq")
        last = seq if isinstance(seq, int) and seq > last else last + 1
        result.append((last, event))
    return result


def within_weight(
    events: list[NumberedEvent], max_weight: int, *, last: bool = False
) -> list[NumberedEvent]:
    """Return the first events, or the last ones, that together have about ``max_weight`` rows."""
    weight = 0
    for count, (_, event) in enumerate(reversed(events) if last else events, 1):
        text = event.get("text")
        weight += 1 + (text.count("\n") + len(text) // 80 if isinstance(text, str) else 0)
        if weight >= max_weight:
            return events[-count:] if last else events[:count]
    return events


class EventWindow:
    """Consecutive events ``first`` to ``last`` of a log, and their blocks.

    Args:
        after: Number of the event before the first one that will be added.
    """

    def __init__(self, after: int = 0) -> None:
        self.events: list[NumberedEvent] = []
        self._builder = BlockBuilder()
        self._after = after

    @property
    def blocks(self) -> list[Block]:
        """Blocks of the events in the window."""
        return self._builder.blocks

    @property
    def first(self) -> int:
        """Number of the first event; ``last`` + 1 if the window is empty."""
        return self.events[0][0] if self.events else self._after + 1

    @property
    def last(self) -> int:
        """Number of the last event."""
        return self.events[-1][0] if self.events else self._after

    @property
    def is_first_event_complete(self) -> bool:
        """True if the blocks contain the start of the first event."""
        return not self.blocks or self.blocks[0].starts_event

    @property
    def too_large(self) -> bool:
        """True if events should be dropped at one end."""
        return len(self.events) > MAX_EVENTS or (len(self.events) > 1 and self.weight > MAX_WEIGHT)

    @property
    def weight(self) -> int:
        """Approximate number of rows."""
        return sum(block.weight for block in self.blocks)

    def append(self, events: Iterable[NumberedEvent]) -> None:
        """Add the events that follow; events that are in the window already are ignored."""
        last = self.last
        for number, event in events:
            if number > last:
                self._builder.feed(event, number)
                self.events.append((number, event))
                last = number

    def prepend(self, events: list[NumberedEvent]) -> None:
        """Add the events that precede the window.

        The first block of the window may continue one of the added blocks. Therefore the
        window's events are processed again until they produce a block that exists already.
        """
        events = [pair for pair in events if pair[0] < self.first]
        builder = BlockBuilder()
        for number, event in events:
            builder.feed(event, number)
        own_indices = {block.key: index for index, block in enumerate(self.blocks)}
        joined = False
        for number, event in self.events:
            builder.feed(event, number)
            rebuilt = builder.blocks[-1] if builder.blocks else None
            index = own_indices.get(rebuilt.key) if rebuilt is not None else None
            if index is not None and rebuilt is not None:
                existing = self.blocks[index]
                if existing.context == rebuilt.context and existing.kind is rebuilt.kind:
                    self.blocks[:index] = builder.blocks[:-1]
                    joined = True
                    self._retract()
                    break
        if not joined:
            self._builder = builder
        self.events[:0] = events

    def _retract(self) -> None:
        """Remove the blocks of added events that events of the window retract."""
        for _, event in self.events:
            if (span := retracted_range(event)) is not None:
                retract(self.blocks, *span)

    def drop_top(self) -> None:
        """Drop the oldest events until the window is small enough."""
        blocks = self.blocks
        drop_count, number = self._count_excess(blocks), self.last - int(MAX_EVENTS * _KEEP_RATIO)
        while drop_count < len(blocks) - 1 and blocks[drop_count].first <= number:
            drop_count += 1
        if drop_count == 0:
            return
        first = blocks[drop_count].first
        del blocks[:drop_count]
        dropped_events = next(i for i, (number, _) in enumerate(self.events) if number >= first)
        del self.events[:dropped_events]

    def drop_bottom(self, keep: int = 0) -> None:
        """Drop the newest events until the window is small enough.

        Args:
            keep: Number of the last event that must not be dropped.
        """
        blocks = self.blocks
        keep_blocks = len(blocks) - self._count_excess(blocks[::-1])
        number = self.first + int(MAX_EVENTS * _KEEP_RATIO)
        while keep_blocks > 1 and blocks[keep_blocks - 1].first > number:
            keep_blocks -= 1
        while keep_blocks < len(blocks) and blocks[keep_blocks].first <= keep:
            keep_blocks += 1
        if keep_blocks in (0, len(blocks)):
            return
        dropped_block = blocks[keep_blocks]
        # The first event of the dropped block stays: a window ends with a complete event.
        keep_events = sum(1 for number, _ in self.events if number <= dropped_block.first)
        del self.events[keep_events:]
        number, event = self.events[-1]
        builder = BlockBuilder(dropped_block.context)
        builder.feed(event, number, dropped_block.remainder if dropped_block.remainder else None)
        builder.blocks[:0] = blocks[:keep_blocks]
        self._builder = builder

    @staticmethod
    def _count_excess(blocks: list[Block]) -> int:
        """Return how many of ``blocks``, in this order, must be dropped. The last one stays."""
        excess = sum(block.weight for block in blocks) - int(MAX_WEIGHT * _KEEP_RATIO)
        count = 0
        for block in islice(blocks, max(0, len(blocks) - 1)):
            if excess <= 0:
                break
            excess -= block.weight
            count += 1
        return count
