"""Where in the rows of a sheet a search has found something."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from tui.log.model.blocks import Block
from tui.log.model.text_stream import Kind
from tui.log.render.layout import Row
from tui.log.render.row_layout import Key, Place, Sheet

_MOST_ON_A_LINE: Final = 200


class Mark(NamedTuple):
    """A match: of each row that it covers, the row's index in the block, from, to."""

    spans: tuple[tuple[int, int, int], ...]

    @property
    def row(self) -> int:
        return self.spans[0][0]


class Marks:
    """The matches of a query in the rows that are laid out."""

    def __init__(self) -> None:
        self.pattern: re.Pattern[str] | None = None
        self.accepts: Callable[[Block], bool] | None = None
        """Which blocks are looked into; with no pattern, the first row of one is the match."""
        self._found: tuple[Key, Mark] | None = None
        self._sheet: Sheet | None = None
        self._of: dict[int, tuple[list[Row], list[Mark]]] = {}

    def search(
        self, pattern: re.Pattern[str] | None, accepts: Callable[[Block], bool] | None = None
    ) -> None:
        """Mark something else, or nothing."""
        self.pattern, self.accepts, self._found = pattern, accepts, None
        self._of.clear()

    def lay_out(self, sheet: Sheet) -> None:
        self._sheet = sheet
        if len(self._of) > 2 * len(sheet.blocks) + 100:
            self._of.clear()

    @property
    def found(self) -> Place | None:
        """Where the match that is on show begins."""
        if self._found is None or self._sheet is None:
            return None
        index = self._sheet.index(self._found[0])
        return None if index is None else Place(index, self._found[1].row)

    def on(self, place: Place) -> list[tuple[int, int, bool]]:
        """The marked characters of a row, and whether they are of the match that is on show."""
        if self.pattern is None or self._sheet is None:
            return []
        key = self._sheet.blocks[place.block].key
        return [
            (start, end, self._found == (key, mark))
            for mark in self._in(place.block)
            for row, start, end in mark.spans
            if row == place.row
        ]

    def step(self, step: int, place: Place | None) -> Place | None:
        """Go to the next match behind the one on show, or at or behind ``place``.

        Args:
            step: 1, or -1 for the one before.
        """
        sheet = self._sheet
        if sheet is None:
            return None
        if place is None:
            here = self.found
            if here is None or self._found is None:
                return None
            marks = self._in(here.block)
            at = marks.index(self._found[1]) if self._found[1] in marks else 0
            ahead = marks[at + 1 :] if step > 0 else marks[:at]
            index = here.block
        else:
            index = place.block
            marks = self._in(index)
            if step > 0:
                ahead = [mark for mark in marks if mark.row >= place.row]
            else:
                ahead = [mark for mark in marks if mark.row < place.row]
        while not ahead:
            index += step
            if not 0 <= index < len(sheet.blocks):
                return None
            ahead = self._in(index)
        mark = ahead[0 if step > 0 else -1]
        self._found = (sheet.blocks[index].key, mark)
        return Place(index, mark.row)

    def _in(self, index: int) -> list[Mark]:
        """The matches in the block at ``index``, in their order."""
        assert self._sheet is not None
        block, rows = self._sheet.blocks[index], self._sheet.rows(index)
        known = self._of.get(id(block))
        if known is None or known[0] is not rows:
            known = self._of[id(block)] = (rows, self._search(block, rows))
        return known[1]

    def _search(self, block: Block, rows: list[Row]) -> list[Mark]:
        if not rows or block.faint or block.kind is Kind.GAP:
            return []
        if self.accepts is not None and not self.accepts(block):
            return []
        if self.pattern is None:
            return [Mark(((0, 0, 0),))] if self.accepts is not None else []
        if block.kind is Kind.TEXT:
            # Its rows are broken at spaces, which are gone there.
            return self._on_line(rows, 0, len(rows), " ")
        marks: list[Mark] = []
        first = 0
        for last in range(1, len(rows) + 1):
            if last == len(rows) or not rows[last].joined:
                marks += self._on_line(rows, first, last, "")
                first = last
        return marks

    def _on_line(self, rows: list[Row], first: int, last: int, between: str) -> list[Mark]:
        """The matches in rows that are one line."""
        assert self.pattern is not None
        texts = [row.text for row in rows[first:last]]
        starts, at = [], 0
        for text in texts:
            starts.append(at)
            at += len(text) + (0 if text.endswith(between) else len(between))
        whole = "".join(text if text.endswith(between) else text + between for text in texts)
        marks = []
        for found in self.pattern.finditer(whole):
            begin, end = found.span()
            spans = tuple(
                (first + i, max(0, begin - start), min(len(texts[i]), end - start))
                for i, start in enumerate(starts)
                if start < end and start + len(texts[i]) > begin
            )
            if spans:
                marks.append(Mark(spans))
            if len(marks) == _MOST_ON_A_LINE:
                break
        return marks
