"""Vertical layout of blocks: their rows, and the mapping between rows, blocks and events."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from tui.events.blocks import Block, BlockKey, BlockKind
from tui.log.render.layout import LogRow, RenderMarkdown, layout_block, needs_markdown
from tui.log.scroll_anchors import EventAnchor, RowAnchor

_REFINE_SECONDS: Final = 0.012
"""Maximum duration of rendering Markdown in one call of ``RowLayout.lay_out``."""
_NEAR_BLOCKS: Final = 120
"""Distance from the visible block up to which Markdown is rendered."""


class RowPosition(NamedTuple):
    """Position of a row: index of its block, and index of the row in the block."""

    block: int
    row: int


class BlockRows(NamedTuple):
    """Cached rows of a block.

    Attributes:
        state: Values that the rows were computed from; if they differ, the rows are outdated.
        rows: The rows.
        rough: Whether Markdown was laid out as plain text for now.
    """

    state: tuple[Any, ...]
    rows: list[LogRow]
    rough: bool


class RowLayout:
    """Rows of a sequence of blocks. Unchanged blocks are not laid out again.

    Args:
        markdown: Renderer of an agent's Markdown.

    Attributes:
        blocks: The blocks that are laid out.
        unfolded: Numbers of the first events of unfolded blocks.
        total: Number of rows.
        rough: Whether Markdown near the visible block is still laid out as plain text.
    """

    def __init__(self, markdown: RenderMarkdown) -> None:
        self.blocks: Sequence[Block] = ()
        self.unfolded: set[int] = set()
        self.total = 0
        self.rough = False
        self._markdown = markdown
        self._rows: list[list[LogRow]] = []
        self._starts: list[int] = []
        self._width = 0
        self._generation = object()

    def invalidate(self, markdown: RenderMarkdown) -> None:
        """Discard all cached rows, after the colours have changed."""
        self._markdown, self._generation = markdown, object()

    def lay_out(self, blocks: Sequence[Block], width: int, near: int | None = None) -> None:
        """Lay out ``blocks``.

        Plain text is laid out immediately. Markdown is rendered for the blocks around ``near``
        until the time limit; elsewhere it is laid out as plain text for now.

        Args:
            blocks: The blocks, in order.
            width: Maximum width of the rows, in cells.
            near: Index of the visible block; by default the last one.
        """
        self.blocks, self._width = blocks, width
        self._rows, rough = [], []
        for index, block in enumerate(blocks):
            state = (block.version, width, block.first in self.unfolded, self._generation)
            layout = block.layout
            if layout is None or layout.state != state:
                layout = block.layout = self._block_rows(block, state)
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

    def _block_rows(self, block: Block, state: tuple[Any, ...]) -> BlockRows:
        costly = needs_markdown(block)
        rows = layout_block(block, self._width, state[2], None if costly else self._markdown)
        return BlockRows(state, rows, costly)

    def _refine(self, rough: list[int], near: int) -> bool:
        """Render Markdown near the block ``near``; return True if the time was not sufficient."""
        deadline = time.monotonic() + _REFINE_SECONDS
        close = [index for index in rough if abs(index - near) <= _NEAR_BLOCKS]
        close.sort(key=lambda index: abs(index - near))
        for done, index in enumerate(close):
            if done and time.monotonic() > deadline:
                return True
            block = self.blocks[index]
            rows = layout_block(block, self._width, False, self._markdown)
            block.layout = BlockRows(block.layout.state, rows, False)
            self._rows[index] = rows
        return False

    def position(self, number: int) -> RowPosition | None:
        """Return the position of row ``number``, or ``None`` if there is no such row."""
        if not 0 <= number < self.total:
            return None
        index = bisect_right(self._starts, number) - 1
        return RowPosition(index, number - self._starts[index])

    def row(self, position: RowPosition) -> LogRow:
        """Return the row at ``position``."""
        return self._rows[position.block][position.row]

    def rows(self, index: int) -> list[LogRow]:
        """Return the rows of the block at ``index``."""
        return self._rows[index]

    def first_row(self, index: int) -> int:
        """Return the number of the first row of the block at ``index``."""
        return self._starts[index]

    def all_rows(self) -> Iterator[LogRow]:
        """Iterate over the rows of all blocks."""
        for rows in self._rows:
            yield from rows

    def index_of_key(self, key: BlockKey) -> int | None:
        """Return the index of the block with the key ``key``, or ``None``."""
        at = block_index(self.blocks, key)
        return at if at < len(self.blocks) and self.blocks[at].key == key else None

    def row_anchor(self, number: int) -> RowAnchor | None:
        """Return the anchor of row ``number`` by its block, or ``None`` without such a row."""
        position = self.position(number)
        if position is None:
            return None
        return RowAnchor(self.blocks[position.block].key, position.row, self.total - number)

    def event_anchor(self, number: int) -> EventAnchor | None:
        """Return the anchor of row ``number`` by its event, or ``None`` without such a row."""
        position = self.position(number)
        if position is None:
            return None
        event = self.event_at(position)
        return EventAnchor(event, min(-1, number - self._first_row_of_event(event + 1)))

    def _first_row_of_event(self, number: int) -> int:
        """Return the first row of event ``number``; for later events the number of rows."""
        if not self.blocks or self.blocks[-1].last < number:
            return self.total
        position = self.position_of_event(number)
        return self._starts[position.block] + position.row if position else 0

    def row_of_anchor(self, anchor: RowAnchor | EventAnchor) -> int:
        """Return the number of the row at ``anchor``.

        If the block of a ``RowAnchor`` no longer exists, the distance from the end is used.
        """
        if isinstance(anchor, EventAnchor):
            return max(0, self._first_row_of_event(anchor.number + (anchor.row < 0)) + anchor.row)
        index = self.index_of_key(anchor.key)
        if index is None:
            return max(0, self.total - anchor.below)
        return self._starts[index] + min(anchor.row, max(0, len(self._rows[index]) - 1))

    def event_at(self, position: RowPosition) -> int:
        """Return the number of a row's event: exact for output, else the block's first event."""
        block = self.blocks[position.block]
        if block.kind is not BlockKind.OUTPUT:
            return block.first
        rows = self._rows[position.block][1 : position.row + 1]
        line = sum(not row.continues_line for row in rows)
        return block.number_at(_line_start(block.text, line))

    def position_of_event(self, number: int) -> RowPosition | None:
        """Return the position of the first row of event ``number``, or of the next event."""
        if not self.blocks:
            return None
        index = bisect_left(self.blocks, number, key=lambda block: block.last)
        if index == len(self.blocks):
            index -= 1
        block, rows = self.blocks[index], self._rows[index]
        if block.kind is not BlockKind.OUTPUT or block.first >= number:
            return RowPosition(index, 0)
        line = block.text.count("\n", 0, block.offset_of(number))
        starts = [row for row in range(len(rows)) if row == 0 or not rows[row].continues_line]
        return RowPosition(index, starts[min(line, len(starts) - 1)])


def _line_start(text: str, line: int) -> int:
    at = 0
    for _ in range(line):
        at = text.find("\n", at) + 1
    return at


def nearest_block(blocks: Sequence[Block], anchor: RowAnchor | EventAnchor) -> int:
    """Return the index of a block at or near ``anchor``."""
    if isinstance(anchor, EventAnchor):
        return bisect_left(blocks, anchor.number, key=lambda block: block.last)
    return block_index(blocks, anchor.key)


def block_index(blocks: Sequence[Block], key: BlockKey) -> int:
    """Return the index of the last block whose key is at most ``key``."""
    return max(0, bisect_right(blocks, key, key=lambda block: block.key) - 1)
