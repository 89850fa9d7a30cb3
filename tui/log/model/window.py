"""A run of a task's events without a gap, and the blocks that they make.

It grows at both ends and lets go at both ends, and its blocks are those that the whole
log would have, as far as it can be told from within. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from beray.streaming.retraction import retracted_range
from tui.log.model.blocks import Block, Builder, retract

MOST_EVENTS: Final = 4000
MOST_WEIGHT: Final = 8000
_KEPT: Final = 0.75
"""What is left of a window that had become too large: it moves in large steps."""

Event = Mapping[str, Any]
Numbered = tuple[int, Event]


def numbered(events: Iterable[Event], last: int) -> list[Numbered]:
    """Events with their numbers, by their own ``seq`` where it goes up, else counted on."""
    result = []
    for event in events:
        seq = event.get("seq")
        last = seq if isinstance(seq, int) and seq > last else last + 1
        result.append((last, event))
    return result


def lightest(events: list[Numbered], most: int, *, last: bool = False) -> list[Numbered]:
    """As many of the first of ``events``, or of the last, as make ``most`` rows."""
    weight = 0
    for count, (_, event) in enumerate(reversed(events) if last else events, 1):
        text = event.get("text")
        weight += 1 + (text.count("\n") + len(text) // 80 if isinstance(text, str) else 0)
        if weight >= most:
            return events[-count:] if last else events[:count]
    return events


class Window:
    """Events ``first`` to ``last``.

    Args:
        after: the number before the first event that will be added.
    """

    def __init__(self, after: int = 0) -> None:
        self.events: list[Numbered] = []
        self._builder = Builder()
        self._after = after

    @property
    def blocks(self) -> list[Block]:
        return self._builder.blocks

    @property
    def first(self) -> int:
        """The number of the first event; one more than ``last`` in an empty window."""
        return self.events[0][0] if self.events else self._after + 1

    @property
    def last(self) -> int:
        return self.events[-1][0] if self.events else self._after

    @property
    def is_whole(self) -> bool:
        """Whether the first event is there from its beginning."""
        return not self.blocks or self.blocks[0].whole

    @property
    def too_large(self) -> bool:
        return len(self.events) > MOST_EVENTS or (
            len(self.events) > 1 and self.weight > MOST_WEIGHT
        )

    @property
    def weight(self) -> int:
        return sum(block.weight for block in self.blocks)

    def append(self, events: Iterable[Numbered]) -> None:
        """Add what comes right behind; what is there already is passed over."""
        last = self.last
        for number, event in events:
            if number > last:
                self._builder.feed(event, number)
                self.events.append((number, event))
                last = number

    def prepend(self, events: list[Numbered]) -> None:
        """Add what comes right before.

        Our own events are read on from there until they make the blocks that we have:
        the first of ours may go on with what has begun earlier.
        """
        events = [pair for pair in events if pair[0] < self.first]
        builder = Builder()
        for number, event in events:
            builder.feed(event, number)
        ours = {block.key: index for index, block in enumerate(self.blocks)}
        joined = False
        for number, event in self.events:
            builder.feed(event, number)
            made = builder.blocks[-1] if builder.blocks else None
            index = ours.get(made.key) if made is not None else None
            if index is not None and made is not None:
                same = self.blocks[index]
                if same.context == made.context and same.kind is made.kind:
                    self.blocks[:index] = builder.blocks[:-1]
                    joined = True
                    self._retract()
                    break
        if not joined:
            self._builder = builder
        self.events[:0] = events

    def _retract(self) -> None:
        """Remove what our events retract of blocks that were made of earlier ones."""
        for _, event in self.events:
            if (span := retracted_range(event)) is not None:
                retract(self.blocks, *span)

    def drop_top(self) -> None:
        """Let the oldest events go, until it is small enough."""
        blocks = self.blocks
        cut, number = self._overweight(blocks), self.last - int(MOST_EVENTS * _KEPT)
        while cut < len(blocks) - 1 and blocks[cut].first <= number:
            cut += 1
        if cut == 0:
            return
        first = blocks[cut].first
        del blocks[:cut]
        kept = next(i for i, (number, _) in enumerate(self.events) if number >= first)
        del self.events[:kept]

    def drop_bottom(self, keep: int = 0) -> None:
        """Let the newest events go, until it is small enough; none up to event ``keep``."""
        blocks = self.blocks
        cut = len(blocks) - self._overweight(blocks[::-1])
        number = self.first + int(MOST_EVENTS * _KEPT)
        while cut > 1 and blocks[cut - 1].first > number:
            cut -= 1
        while cut < len(blocks) and blocks[cut].first <= keep:
            cut += 1
        if cut in (0, len(blocks)):
            return
        begun = blocks[cut]
        # Its first event stays whole: a window ends with an event.
        kept = sum(1 for number, _ in self.events if number <= begun.first)
        del self.events[kept:]
        number, event = self.events[-1]
        builder = Builder(begun.context)
        builder.feed(event, number, begun.left if begun.left else None)
        builder.blocks[:0] = blocks[:cut]
        self._builder = builder

    @staticmethod
    def _overweight(blocks: list[Block]) -> int:
        """How many of ``blocks`` are too many, the last of which always stays."""
        excess = sum(block.weight for block in blocks) - int(MOST_WEIGHT * _KEPT)
        count = 0
        for block in islice(blocks, max(0, len(blocks) - 1)):
            if excess <= 0:
                break
            excess -= block.weight
            count += 1
        return count
