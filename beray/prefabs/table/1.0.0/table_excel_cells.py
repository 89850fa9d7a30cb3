"""Cells of an Excel sheet, typed one by one, before fastexcel reads its columns.

fastexcel rejects a whole sheet for one unknown error value, makes moments of 1899 of times
among texts, and does not report what it changes. So the sheet is rewritten for it: cells with
errors become empty, and in a column of several types every cell becomes text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import isfinite

from table_excel_formats import Kind, as_text, value_kind
from table_names import some

_ROW_OR_CELL = re.compile(
    # Most programs write cells in the first form, which is the fastest one to read.
    rb"""<c r="([A-Z]{1,3})(\d{1,7})"(?: s="(\d{1,6})")?(?: t="(\w+)")?>(.*?)</c>"""
    rb"""|<(?:\w+:)?(?:(row)\b([^>]*)>|c\b([^>]*?)(?:/>|>(.*?)</(?:\w+:)?c>))""",
    re.DOTALL,
)
_PLACE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")
_TYPE = re.compile(rb"""\bt=["'](\w+)["']""")
_STYLE = re.compile(rb"""\bs=["'](\d{1,6})["']""")
_VALUE = re.compile(rb"<(?:\w+:)?v\b[^>]*>([^<]*)<")
_INLINE = re.compile(rb"<(?:\w+:)?t\b[^>]*>([^<]+)<")
_FORMULA = re.compile(rb"<(?:\w+:)?f\b")
_REASONS = {
    "#DIV/0!": "division by zero",
    "#N/A": "value not available",
    "#NAME?": "unknown name in the formula",
    "#NULL!": "ranges without a common cell",
    "#NUM!": "invalid number",
    "#REF!": "reference to a cell that does not exist",
    "#VALUE!": "value of a wrong type",
    "#SPILL!": "the cells for the result are not empty",
    "#CALC!": "the formula cannot be calculated",
    "#GETTING_DATA": "external data not loaded",
}


@dataclass(frozen=True)
class Book:
    """Data of a workbook to which the cells of all sheets refer."""

    styles: Sequence[str]
    shared_texts: int
    """Number of shared strings."""
    blank_texts: frozenset[int]
    """The shared strings without anything but spaces: a cell with one is empty."""
    from_1904: bool


@dataclass
class Cells:
    """A sheet ready for fastexcel. Rows and columns count from 1, as in Excel."""

    data: bytes
    kinds: dict[int, Kind] = field(default_factory=dict)
    """Type of each column that has a value below the header; numbers include booleans."""
    rows: list[int] = field(default_factory=list)
    """The rows that have a value, in order."""
    first_row: int = 0
    """The first row that has a value in ``data``."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Cell:
    start: int
    end: int
    row: int
    column: int
    kind: Kind
    value: float | str | None
    """A number, or the text of a cell that fastexcel does not read as text; None: it does."""
    problem: str = ""

    @property
    def place(self) -> str:
        return f"{_letters(self.column)}{self.row}"


def typed_cells(data: bytes, book: Book, header: bool) -> Cells:
    """Find the type of each column of a sheet, and rewrite the cells that fastexcel misreads.

    Args:
        data: XML of the sheet.
        header: Whether the first row has the names of the columns.
    """
    reading = _Reading(header)
    for cell in _cells(data, book, reading):
        reading.add(cell)
    mixed = reading.mixed()
    if reading.changed or mixed:
        data = _rewritten(data, book, reading, set(mixed))
    kinds = {column: reading.kind(column) for column in reading.places}
    rows = sorted(set(reading.rows))
    return Cells(data, kinds, rows, reading.first_row, reading.problems(mixed))


class _Reading:
    """Findings of one pass through a sheet."""

    def __init__(self, header: bool) -> None:
        self.rows: list[int] = []
        self.first_row = 0
        self.places: dict[int, dict[Kind, str]] = {}
        """The first cell of each type, by column."""
        self.changed: set[int] = set()
        """The columns in which a cell has to be rewritten even if the column is not mixed."""
        self.without_value: list[str] = []
        self._header = header
        self._failed: list[str] = []
        self._failed_names: list[str] = []
        self._booleans: dict[int, list[str]] = {}

    def is_header(self, row: int) -> bool:
        return self._header and row == self.rows[0]

    def add(self, cell: _Cell) -> None:
        if not self.rows or self.rows[-1] != cell.row:
            self.rows.append(cell.row)
        if isinstance(cell.value, str) and cell.kind == Kind.TEXT:
            self.changed.add(cell.column)
        if cell.problem:
            is_name = self.is_header(cell.row)
            (self._failed_names if is_name else self._failed).append(f"{cell.place} {cell.problem}")
            if not is_name:
                return
        self.first_row = self.first_row or cell.row
        if self.is_header(cell.row):
            if cell.value is not None:
                self.changed.add(cell.column)
            return
        places = self.places.setdefault(cell.column, {})
        if cell.kind not in places:
            places[cell.kind] = cell.place
        if cell.kind == Kind.BOOLEAN:
            self._booleans.setdefault(cell.column, []).append(cell.place)

    def kind(self, column: int) -> Kind:
        kinds = set(self.places[column])
        if len(kinds) == 1:
            return next(iter(kinds))
        if kinds == {Kind.NUMBER, Kind.BOOLEAN}:
            return Kind.NUMBER
        if kinds == {Kind.DATE, Kind.DATETIME}:
            return Kind.DATETIME
        return Kind.DURATION if kinds == {Kind.TIME, Kind.DURATION} else Kind.TEXT

    def mixed(self) -> list[int]:
        """Return the columns of several types that have to be text."""
        return [
            column
            for column, places in sorted(self.places.items())
            if len(places) > 1 and self.kind(column) == Kind.TEXT
        ]

    def problems(self, mixed: Sequence[int]) -> list[str]:
        found = []
        if self._failed_names:
            found.append(f"errors are used as names of columns: {some(self._failed_names)}")
        if self._failed:
            found.append(f"cells with errors are empty: {some(self._failed)}")
        if self.without_value:
            cells = some(self.without_value)
            found.append(f"formulas without a saved result are empty: {cells} (save it in Excel)")
        ones = [
            place
            for column, places in self._booleans.items()
            if self.kind(column) == Kind.NUMBER
            for place in places
        ]
        if ones:
            found.append(f"booleans among numbers are read as 1 and 0: {some(ones)}")
        if mixed:
            columns = [
                f"{_letters(column)} ({', '.join(f'{kind} {place}' for kind, place in each)})"
                for column in mixed
                for each in [self.places[column].items()]
            ]
            found.append(f"columns of several types are read as text: {some(columns)}")
        return found


def _cells(
    data: bytes, book: Book, reading: _Reading | None, columns: set[int] | None = None
) -> Iterator[_Cell]:
    """Yield the cells that have a value.

    A row or a cell without a reference follows the one before it.

    Args:
        reading: Is given the formulas without a value.
        columns: Yield the cells of these columns only; None: of all.
    """
    row = column = 0
    for found in _ROW_OR_CELL.finditer(data):
        letters, number, style, type_, inside, is_row, of_row, of_cell, other = found.groups()
        if letters is None:
            place = _PLACE.search(of_row if is_row else of_cell)
            if is_row:
                row, column = int(place[2]) if place else row + 1, 0
                continue
            if place:
                letters, number = place[1], place[2]
            inside = other
            style = style_[1] if (style_ := _STYLE.search(of_cell)) else None
            type_ = named[1] if (named := _TYPE.search(of_cell)) else None
        if letters:
            row, column = int(number), column_number(letters)
        else:
            column += 1
        if not inside:
            continue
        if columns is not None and column not in columns:
            continue
        value = _value(type_ or b"n", int(style or 0), inside, book)
        if value is not None:
            yield _Cell(found.start(), found.end(), row, column, *value)
        elif reading is not None and type_ is None and _FORMULA.search(inside):
            reading.without_value.append(f"{_letters(column)}{row}")


def _value(
    type_: bytes, style: int, inside: bytes, book: Book
) -> tuple[Kind, float | str | None, str] | None:
    """Return a cell's type, value and problem; None if it is empty."""
    if type_ == b"inlineStr":
        return (Kind.TEXT, None, "") if _INLINE.search(inside) else None
    if inside.startswith(b"<v>") and inside.endswith(b"</v>"):
        raw = inside[3:-4].strip()
    else:
        found = _VALUE.search(inside)
        raw = found[1].strip() if found else b""
    if not raw:
        return None
    if type_ == b"s":
        if raw.isdigit() and int(raw) < book.shared_texts:
            return None if int(raw) in book.blank_texts else (Kind.TEXT, None, "")
        return _failed(raw, "no such shared string")
    if type_ == b"str":
        return Kind.TEXT, None, ""
    if type_ == b"d":
        return Kind.TEXT, html.unescape(raw.decode(errors="replace")), ""
    if type_ == b"b":
        if raw in (b"0", b"1", b"true", b"false"):
            return Kind.BOOLEAN, "true" if raw in (b"1", b"true") else "false", ""
        return _failed(raw, "not a boolean")
    if type_ == b"e":
        return _failed(raw, "")
    if type_ != b"n":
        return _failed(raw, f"unknown type of cell {type_.decode()!r}")
    try:
        number = float(raw.replace(b"_", b"?"))  # Python reads 1_000, fastexcel does not
    except ValueError:
        return _failed(raw, "not a number")
    if not isfinite(number):
        return _failed(raw, "not a finite number")
    shown_as = book.styles[style] if style < len(book.styles) else ""
    return value_kind(shown_as, number), number, ""


def _failed(raw: bytes, reason: str) -> tuple[Kind, float | str | None, str]:
    text = html.unescape(raw[:80].decode(errors="replace"))
    return Kind.TEXT, text, f"{text} ({reason or _REASONS.get(text, 'error value')})"


def _rewritten(data: bytes, book: Book, reading: _Reading, mixed: set[int]) -> bytes:
    """Return the XML with empty cells for errors, and texts in the header and ``mixed``."""
    pieces: list[bytes] = []
    done = 0
    for cell in _cells(data, book, None, mixed | reading.changed):
        is_name = reading.is_header(cell.row)
        if cell.problem and not is_name:
            new = f'<c r="{cell.place}"/>'
        elif cell.value is not None and (is_name or cell.column in mixed or cell.kind == Kind.TEXT):
            value = cell.value
            if not isinstance(value, str):
                value = as_text(cell.kind, value, from_1904=book.from_1904)
            new = f'<c r="{cell.place}" t="str"><v>{html.escape(value)}</v></c>'
        else:
            continue
        pieces += [data[done : cell.start], new.encode()]
        done = cell.end
    return b"".join([*pieces, data[done:]])


@cache
def column_number(letters: bytes) -> int:
    """Return the number of a column such as ``AA``, counted from 1."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
