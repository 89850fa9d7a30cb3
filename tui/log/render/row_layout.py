"""Blocks laid out one below the other, and where each of their rows is."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from tui.log.model.blocks import Block, Kind
from tui.log.render.layout import RenderMarkdown, Row, is_costly, rows_of

_REFINE_SECONDS: Final = 0.012
_NEAR_BLOCKS: Final = 120

Key = tuple[int, int]


class Place(NamedTuple):
    """A row, as an index of its block and of itself in there."""

    block: int
    row: int


class Anchor(NamedTuple):
    """A row that is to be found again when the blocks have changed."""

    key: Key
    row: int
    below: int
    """How many rows there were from it to the end."""


class Spot(NamedTuple):
    """A row by the event it was made of, which holds however the blocks are cut."""

    number: int
    row: int = 0
    """Which row of that event: from 0, or below that counted from its end, which is there
    even where its beginning is not."""


class Layout(NamedTuple):
    """The rows of a block, and what they were made of."""

    state: tuple[Any, ...]
    rows: list[Row]
    rough: bool


class Sheet:
    """The rows of a list of blocks. What has not changed is not laid out again.

    Args:
        markdown: renders what an agent writes.
    """

    def __init__(self, markdown: RenderMarkdown) -> None:
        self.blocks: Sequence[Block] = ()
        self.unfolded: set[int] = set()
        """The first events of the blocks that are unfolded."""
        self.total = 0
        self.rough = False
        """Whether something near the reader is still laid out roughly."""
        self._markdown = markdown
        self._rows: list[list[Row]] = []
        self._starts: list[int] = []
        self._width = 0
        self._generation = object()

    def forget(self, markdown: RenderMarkdown) -> None:
        """Lay out everything anew, for the colours have changed."""
        self._markdown, self._generation = markdown, object()

    def lay_out(self, blocks: Sequence[Block], width: int, near: int | None = None) -> None:
        """Lay out ``blocks``: what is cheap at once, the rest around the block ``near``.

        What takes too long now is laid out roughly, until it comes near.

        Args:
            near: an index; by default that of the last block.
        """
        self.blocks, self._width = blocks, width
        self._rows, rough = [], []
        for index, block in enumerate(blocks):
            state = (block.version, width, block.first in self.unfolded, self._generation)
            layout = block.layout
            if layout is None or layout.state != state:
                layout = block.layout = self._laid_out(block, state)
            if layout.rough:
                rough.append(index)
            self._rows.append(layout.rows)
        self.rough = bool(rough) and self._refine(rough, len(blocks) - 1 if near is None else near)
        self._starts = []
        total = 0
        for rows in self._rows:
            self._starts.append(total)
            total += len(rows)
        self.total = total

    def _laid_out(self, block: Block, state: tuple[Any, ...]) -> Layout:
        costly = is_costly(block)
        rows = rows_of(block, self._width, state[2], None if costly else self._markdown)
        return Layout(state, rows, costly)

    def _refine(self, rough: list[int], near: int) -> bool:
        """Lay out properly what is near; whether there is more of it."""
        deadline = time.monotonic() + _REFINE_SECONDS
        close = [index for index in rough if abs(index - near) <= _NEAR_BLOCKS]
        close.sort(key=lambda index: abs(index - near))
        for done, index in enumerate(close):
            if done and time.monotonic() > deadline:
                return True
            block = self.blocks[index]
            rows = rows_of(block, self._width, False, self._markdown)
            block.layout = Layout(block.layout.state, rows, False)
            self._rows[index] = rows
        return False

    def place(self, number: int) -> Place | None:
        """Where row ``number`` is; ``None`` behind the last."""
        if not 0 <= number < self.total:
            return None
        index = bisect_right(self._starts, number) - 1
        return Place(index, number - self._starts[index])

    def row(self, place: Place) -> Row:
        return self._rows[place.block][place.row]

    def rows(self, index: int) -> list[Row]:
        """The rows of the block at ``index``."""
        return self._rows[index]

    def start(self, index: int) -> int:
        """The number of the first row of the block at ``index``."""
        return self._starts[index]

    def all_rows(self) -> Iterator[Row]:
        for rows in self._rows:
            yield from rows

    def index(self, key: Key) -> int | None:
        """Which block begins at ``key``."""
        at = index_of(self.blocks, key)
        return at if at < len(self.blocks) and self.blocks[at].key == key else None

    def anchor(self, number: int) -> Anchor | None:
        place = self.place(number)
        if place is None:
            return None
        return Anchor(self.blocks[place.block].key, place.row, self.total - number)

    def spot(self, number: int) -> Spot | None:
        """Row ``number`` by its event."""
        place = self.place(number)
        if place is None:
            return None
        event = self.event_at(place)
        return Spot(event, min(-1, number - self._first_row(event + 1)))

    def _first_row(self, number: int) -> int:
        """The first row of event ``number``; behind the last event, that behind all rows."""
        if not self.blocks or self.blocks[-1].last < number:
            return self.total
        place = self.place_of(number)
        return self._starts[place.block] + place.row if place else 0

    def find(self, anchor: Anchor | Spot) -> int:
        """The row of ``anchor``; by its distance from the end where its block has become
        another one."""
        if isinstance(anchor, Spot):
            return max(0, self._first_row(anchor.number + (anchor.row < 0)) + anchor.row)
        index = self.index(anchor.key)
        if index is None:
            return max(0, self.total - anchor.below)
        return self._starts[index] + min(anchor.row, max(0, len(self._rows[index]) - 1))

    def event_at(self, place: Place) -> int:
        """The event that a row was made of: exactly for output, else its block's first."""
        block = self.blocks[place.block]
        if block.kind is not Kind.OUTPUT:
            return block.first
        rows = self._rows[place.block][1 : place.row + 1]
        line = sum(not row.joined for row in rows)
        return block.number_at(_line_start(block.text, line))

    def place_of(self, number: int) -> Place | None:
        """The first row that was made of event ``number``, or of the one behind it."""
        if not self.blocks:
            return None
        index = bisect_left(self.blocks, number, key=lambda block: block.last)
        if index == len(self.blocks):
            index -= 1
        block, rows = self.blocks[index], self._rows[index]
        if block.kind is not Kind.OUTPUT or block.first >= number:
            return Place(index, 0)
        line = block.text.count("\n", 0, block.offset_of(number))
        starts = [row for row in range(len(rows)) if row == 0 or not rows[row].joined]
        return Place(index, starts[min(line, len(starts) - 1)])


def _line_start(text: str, line: int) -> int:
    at = 0
    for _ in range(line):
        at = text.find("\n", at) + 1
    return at


def near(blocks: Sequence[Block], anchor: Anchor | Spot) -> int:
    """The index of a block that is about where ``anchor`` is."""
    if isinstance(anchor, Spot):
        return bisect_left(blocks, anchor.number, key=lambda block: block.last)
    return index_of(blocks, anchor.key)


def index_of(blocks: Sequence[Block], key: Key) -> int:
    """The index of the last block that begins at ``key`` or before."""
    return max(0, bisect_right(blocks, key, key=lambda block: block.key) - 1)
