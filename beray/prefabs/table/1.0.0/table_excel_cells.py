"""Type detection for the cells of an Excel sheet, before fastexcel reads its columns.

fastexcel rejects a whole sheet because of one unknown error value, converts times in text columns
to datetimes in 1899, and does not report its changes. Therefore the XML of the sheet is rewritten
first: cells with errors become empty, and in a column of several types every cell becomes text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import isfinite

from table_columns import abbreviated_list
from table_excel_formats import CellKind, format_value, value_kind

_ROW_OR_CELL = re.compile(
    # Most programs write cells in the first form, which is the fastest one to match.
    rb"""<c r="([A-Z]{1,3})(\d{1,7})"(?: s="(\d{1,6})")?(?: t="(\w+)")?>(.*?)</c>"""
    rb"""|<(?:\w+:)?(?:(row)\b([^>]*)>|c\b([^>]*?)(?:/>|>(.*?)</(?:\w+:)?c>))""",
    re.DOTALL,
)
_REFERENCE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")
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
class WorkbookData:
    """Data of a workbook to which the cells of all sheets refer."""

    styles: Sequence[str]
    """Kind of number format of each cell style, as returned by ``cell_styles``."""
    shared_strings: int
    """Number of shared strings."""
    blank_strings: frozenset[int]
    """Indices of the shared strings that contain only whitespace. Cells with them are empty."""
    from_1904: bool
    """True if serial numbers of dates count from 1904 instead of 1900."""


@dataclass
class TypedSheet:
    """Sheet prepared for fastexcel. Rows and columns are numbered from 1, as in Excel."""

    data: bytes
    """XML of the sheet."""
    kinds: dict[int, CellKind] = field(default_factory=dict)
    """Type of each column with a value below the header. Columns of numbers may have booleans."""
    rows: list[int] = field(default_factory=list)
    """Rows with a value, in ascending order."""
    first_row: int = 0
    """First row with a value in ``data``; 0 for an empty sheet."""
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Cell:
    start: int
    end: int
    row: int
    column: int
    kind: CellKind
    value: float | str | None
    """Number, or text of a cell that fastexcel does not read as text; None if it does."""
    problem: str = ""

    @property
    def reference(self) -> str:
        """Reference such as ``B3``."""
        return f"{_column_letters(self.column)}{self.row}"


def prepare_sheet(data: bytes, book: WorkbookData, header: bool) -> TypedSheet:
    """Detect the type of each column of a sheet, and rewrite the cells that fastexcel misreads.

    Args:
        data: XML of the sheet.
        book: Styles and shared strings of the workbook.
        header: Whether the first row contains the names of the columns.
    """
    scan = _SheetScan(header)
    for cell in _cells(data, book, scan):
        scan.add(cell)
    mixed = scan.mixed_columns()
    if scan.changed or mixed:
        data = _rewrite(data, book, scan, set(mixed))
    kinds = {column: scan.kind(column) for column in scan.first_cells}
    rows = sorted(set(scan.rows))
    return TypedSheet(data, kinds, rows, scan.first_row, scan.problems(mixed))


class _SheetScan:
    """Results of one pass through the cells of a sheet."""

    def __init__(self, header: bool) -> None:
        self.rows: list[int] = []
        self.first_row = 0
        self.first_cells: dict[int, dict[CellKind, str]] = {}
        """References of the first cell of each type, by column."""
        self.changed: set[int] = set()
        """Columns with a cell that must be rewritten even if the column has a single type."""
        self.formulas_without_result: list[str] = []
        self._header = header
        self._errors: list[str] = []
        self._header_errors: list[str] = []
        self._booleans: dict[int, list[str]] = {}

    def is_header(self, row: int) -> bool:
        """Return True if the row contains the names of the columns."""
        return self._header and row == self.rows[0]

    def add(self, cell: _Cell) -> None:
        """Record a cell. Cells must be added in the order of the sheet."""
        if not self.rows or self.rows[-1] != cell.row:
            self.rows.append(cell.row)
        if isinstance(cell.value, str) and cell.kind == CellKind.TEXT:
            self.changed.add(cell.column)
        if cell.problem:
            in_header = self.is_header(cell.row)
            errors = self._header_errors if in_header else self._errors
            errors.append(f"{cell.reference} {cell.problem}")
            if not in_header:
                return
        self.first_row = self.first_row or cell.row
        if self.is_header(cell.row):
            if cell.value is not None:
                self.changed.add(cell.column)
            return
        first_cells = self.first_cells.setdefault(cell.column, {})
        if cell.kind not in first_cells:
            first_cells[cell.kind] = cell.reference
        if cell.kind == CellKind.BOOLEAN:
            self._booleans.setdefault(cell.column, []).append(cell.reference)

    def kind(self, column: int) -> CellKind:
        """Return the type of a column, which all of its cells can be converted to."""
        kinds = set(self.first_cells[column])
        if len(kinds) == 1:
            return next(iter(kinds))
        if kinds == {CellKind.NUMBER, CellKind.BOOLEAN}:
            return CellKind.NUMBER
        if kinds == {CellKind.DATE, CellKind.DATETIME}:
            return CellKind.DATETIME
        return CellKind.DURATION if kinds == {CellKind.TIME, CellKind.DURATION} else CellKind.TEXT

    def mixed_columns(self) -> list[int]:
        """Return the columns of several types that must be read as text."""
        return [
            column
            for column, first_cells in sorted(self.first_cells.items())
            if len(first_cells) > 1 and self.kind(column) == CellKind.TEXT
        ]

    def problems(self, mixed: Sequence[int]) -> list[str]:
        """Return messages about errors, formulas without a result, and conversions."""
        messages = []
        if self._header_errors:
            errors = abbreviated_list(self._header_errors)
            messages.append(f"errors are used as names of columns: {errors}")
        if self._errors:
            messages.append(f"cells with errors are empty: {abbreviated_list(self._errors)}")
        if self.formulas_without_result:
            cells = abbreviated_list(self.formulas_without_result)
            messages.append(
                f"formulas without a saved result are empty: {cells} (save it in Excel)"
            )
        booleans = [
            reference
            for column, references in self._booleans.items()
            if self.kind(column) == CellKind.NUMBER
            for reference in references
        ]
        if booleans:
            cells = abbreviated_list(booleans)
            messages.append(f"booleans among numbers are read as 1 and 0: {cells}")
        if mixed:
            columns = [
                f"{_column_letters(column)} ({', '.join(f'{kind} {cell}' for kind, cell in cells)})"
                for column in mixed
                for cells in [self.first_cells[column].items()]
            ]
            listed = abbreviated_list(columns)
            messages.append(f"columns of several types are read as text: {listed}")
        return messages


def _cells(
    data: bytes, book: WorkbookData, scan: _SheetScan | None, columns: set[int] | None = None
) -> Iterator[_Cell]:
    """Yield the cells that have a value.

    A row or a cell without a reference follows the one before it.

    Args:
        data: XML of the sheet.
        book: Styles and shared strings of the workbook.
        scan: Receives the references of formulas without a result.
        columns: Columns whose cells to yield; None for all.
    """
    row = column = 0
    for found in _ROW_OR_CELL.finditer(data):
        letters, number, style, type_, content, is_row, row_tag, cell_tag, other = found.groups()
        if letters is None:
            reference = _REFERENCE.search(row_tag if is_row else cell_tag)
            if is_row:
                row, column = int(reference[2]) if reference else row + 1, 0
                continue
            if reference:
                letters, number = reference[1], reference[2]
            content = other
            style = style_match[1] if (style_match := _STYLE.search(cell_tag)) else None
            type_ = type_match[1] if (type_match := _TYPE.search(cell_tag)) else None
        if letters:
            row, column = int(number), column_number(letters)
        else:
            column += 1
        if not content:
            continue
        if columns is not None and column not in columns:
            continue
        value = _value(type_ or b"n", int(style or 0), content, book)
        if value is not None:
            yield _Cell(found.start(), found.end(), row, column, *value)
        elif scan is not None and type_ is None and _FORMULA.search(content):
            scan.formulas_without_result.append(f"{_column_letters(column)}{row}")


def _value(
    type_: bytes, style: int, content: bytes, book: WorkbookData
) -> tuple[CellKind, float | str | None, str] | None:
    """Return a cell's type, value and problem; None if it is empty."""
    if type_ == b"inlineStr":
        return (CellKind.TEXT, None, "") if _INLINE.search(content) else None
    if content.startswith(b"<v>") and content.endswith(b"</v>"):
        raw = content[3:-4].strip()
    else:
        found = _VALUE.search(content)
        raw = found[1].strip() if found else b""
    if not raw:
        return None
    if type_ == b"s":
        if raw.isdigit() and int(raw) < book.shared_strings:
            return None if int(raw) in book.blank_strings else (CellKind.TEXT, None, "")
        return _error_value(raw, "no such shared string")
    if type_ == b"str":
        return CellKind.TEXT, None, ""
    if type_ == b"d":
        return CellKind.TEXT, html.unescape(raw.decode(errors="replace")), ""
    if type_ == b"b":
        if raw in (b"0", b"1", b"true", b"false"):
            return CellKind.BOOLEAN, "true" if raw in (b"1", b"true") else "false", ""
        return _error_value(raw, "not a boolean")
    if type_ == b"e":
        return _error_value(raw, "")
    if type_ != b"n":
        return _error_value(raw, f"unknown type of cell {type_.decode()!r}")
    try:
        number = float(raw.replace(b"_", b"?"))  # Python accepts 1_000, fastexcel does not
    except ValueError:
        return _error_value(raw, "not a number")
    if not isfinite(number):
        return _error_value(raw, "not a finite number")
    format_kind = book.styles[style] if style < len(book.styles) else ""
    return value_kind(format_kind, number), number, ""


def _error_value(raw: bytes, reason: str) -> tuple[CellKind, float | str | None, str]:
    text = html.unescape(raw[:80].decode(errors="replace"))
    return CellKind.TEXT, text, f"{text} ({reason or _REASONS.get(text, 'error value')})"


def _rewrite(data: bytes, book: WorkbookData, scan: _SheetScan, mixed: set[int]) -> bytes:
    """Return the XML with errors removed, and with text in the header and the columns ``mixed``."""
    pieces: list[bytes] = []
    done = 0
    for cell in _cells(data, book, None, mixed | scan.changed):
        in_header = scan.is_header(cell.row)
        if cell.problem and not in_header:
            new = f'<c r="{cell.reference}"/>'
        elif cell.value is not None and (
            in_header or cell.column in mixed or cell.kind == CellKind.TEXT
        ):
            value = cell.value
            if not isinstance(value, str):
                value = format_value(cell.kind, value, from_1904=book.from_1904)
            new = f'<c r="{cell.reference}" t="str"><v>{html.escape(value)}</v></c>'
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


def _column_letters(number: int) -> str:
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
