"""Matches of a search in the rows of a log."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from tui.events.blocks import Block, BlockKey
from tui.events.text_stream import BlockKind
from tui.log.render.layout import LogRow
from tui.log.render.row_layout import RowLayout, RowPosition

_MAX_PER_LINE: Final = 200
"""Maximum number of matches that are highlighted in one line."""


class Match(NamedTuple):
    """Match in a block.

    Attributes:
        spans: For each row that the match covers: the row's index in the block, and the first
            and last column (exclusive).
    """

    spans: tuple[tuple[int, int, int], ...]

    @property
    def row(self) -> int:
        """Index of the first row in the block."""
        return self.spans[0][0]


class MatchHighlights:
    """Matches of a query in the rows of a layout, one of which is the current match.

    Attributes:
        pattern: Pattern of the matches.
        accepts: Condition on the blocks that are searched. Without a pattern, the first row of
            an accepted block is a match.
    """

    def __init__(self) -> None:
        self.pattern: re.Pattern[str] | None = None
        self.accepts: Callable[[Block], bool] | None = None
        self._current: tuple[BlockKey, Match] | None = None
        self._row_layout: RowLayout | None = None
        self._by_block: dict[int, tuple[list[LogRow], list[Match]]] = {}

    def search(
        self, pattern: re.Pattern[str] | None, accepts: Callable[[Block], bool] | None = None
    ) -> None:
        """Replace the query; without arguments nothing matches."""
        self.pattern, self.accepts, self._current = pattern, accepts, None
        self._by_block.clear()

    def lay_out(self, row_layout: RowLayout) -> None:
        """Use the rows of ``row_layout`` from now on."""
        self._row_layout = row_layout
        if len(self._by_block) > 2 * len(row_layout.blocks) + 100:
            self._by_block.clear()

    @property
    def current(self) -> RowPosition | None:
        """Position of the current match, or ``None``."""
        if self._current is None or self._row_layout is None:
            return None
        index = self._row_layout.index_of_key(self._current[0])
        return None if index is None else RowPosition(index, self._current[1].row)

    def in_row(self, position: RowPosition) -> list[tuple[int, int, bool]]:
        """Return the matches in a row: first and last column, and whether it is the current one."""
        if self.pattern is None or self._row_layout is None:
            return []
        key = self._row_layout.blocks[position.block].key
        return [
            (start, end, self._current == (key, match))
            for match in self._in_block(position.block)
            for row, start, end in match.spans
            if row == position.row
        ]

    def step(self, step: int, position: RowPosition | None) -> RowPosition | None:
        """Make the next match the current one.

        Args:
            step: 1 for the next match, -1 for the previous one.
            position: Start searching here instead of at the current match.

        Returns:
            The position of the match, or ``None`` if there is none in this direction.
        """
        row_layout = self._row_layout
        if row_layout is None:
            return None
        if position is None:
            current = self.current
            if current is None or self._current is None:
                return None
            matches = self._in_block(current.block)
            at = matches.index(self._current[1]) if self._current[1] in matches else 0
            ahead = matches[at + 1 :] if step > 0 else matches[:at]
            index = current.block
        else:
            index = position.block
            matches = self._in_block(index)
            if step > 0:
                ahead = [match for match in matches if match.row >= position.row]
            else:
                ahead = [match for match in matches if match.row < position.row]
        while not ahead:
            index += step
            if not 0 <= index < len(row_layout.blocks):
                return None
            ahead = self._in_block(index)
        match = ahead[0 if step > 0 else -1]
        self._current = (row_layout.blocks[index].key, match)
        return RowPosition(index, match.row)

    def _in_block(self, index: int) -> list[Match]:
        """Return the matches in the block at ``index``, in order."""
        assert self._row_layout is not None
        block, rows = self._row_layout.blocks[index], self._row_layout.rows(index)
        cached = self._by_block.get(id(block))
        if cached is None or cached[0] is not rows:
            cached = self._by_block[id(block)] = (rows, self._search(block, rows))
        return cached[1]

    def _search(self, block: Block, rows: list[LogRow]) -> list[Match]:
        if not rows or block.faint or block.kind is BlockKind.GAP:
            return []
        if self.accepts is not None and not self.accepts(block):
            return []
        if self.pattern is None:
            return [Match(((0, 0, 0),))] if self.accepts is not None else []
        if block.kind is BlockKind.TEXT:
            # Its rows are wrapped at spaces, which the rows do not contain.
            return self._in_line(rows, 0, len(rows), " ")
        matches: list[Match] = []
        first = 0
        for last in range(1, len(rows) + 1):
            if last == len(rows) or not rows[last].continues_line:
                matches += self._in_line(rows, first, last, "")
                first = last
        return matches

    def _in_line(self, rows: list[LogRow], first: int, last: int, between: str) -> list[Match]:
        """Return the matches in rows that together are one line."""
        assert self.pattern is not None
        texts = [row.text for row in rows[first:last]]
        starts, at = [], 0
        for text in texts:
            starts.append(at)
            at += len(text) + (0 if text.endswith(between) else len(between))
        line = "".join(text if text.endswith(between) else text + between for text in texts)
        matches = []
        for found in self.pattern.finditer(line):
            begin, end = found.span()
            spans = tuple(
                (first + i, max(0, begin - start), min(len(texts[i]), end - start))
                for i, start in enumerate(starts)
                if start < end and start + len(texts[i]) > begin
            )
            if spans:
                matches.append(Match(spans))
            if len(matches) == _MAX_PER_LINE:
                break
        return matches
