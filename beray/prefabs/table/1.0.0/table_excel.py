"""Excel files (XLSX), read by fastexcel."""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any
from xml.parsers import expat

import fastexcel
import polars as pl

from table_excel_cells import Book, Cells, column_number, typed_cells
from table_excel_formats import Kind, attributes, cell_styles, epoch_days
from table_names import BadInput, renamed, suggestion, unique

_MOST_BYTES = 512 << 20
"""When unpacked."""
_MOST_MEMBERS = 10_000
_MOST_CELLS = 30_000_000
_MOST_COLUMNS = 16_384
_DAY_MILLISECONDS = 86_400_000
_STEP = 1 << 20
_LAP = 64
_PLACE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")
_SHEET = re.compile(r"<(?:\w+:)?sheet\s[^>]*>")
_LINK = re.compile(r"<(?:\w+:)?Relationship\s[^>]*>")
_PROPERTIES = re.compile(r"<(?:\w+:)?workbookPr\b[^>]*>")
_SHARED = re.compile(rb"<(?:\w+:)?si\b[^>]*?(?:/>|>(.*?)</(?:\w+:)?si>)", re.DOTALL)
_SHOWN = re.compile(rb"<(?:\w+:)?t\b[^>/]*>\s*[^\s<]")
_WORKBOOK, _LINKS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
_TEXTS, _STYLES = "xl/sharedStrings.xml", "xl/styles.xml"
_NEEDED = {"[Content_Types].xml", "_rels/.rels", _WORKBOOK, _LINKS, _TEXTS}
_TYPES = {Kind.TEXT: "string", Kind.BOOLEAN: "boolean"}
"""Types of fastexcel; all others are read as numbers."""


def sheet_names(path: Path) -> list[str]:
    """Return the names of the sheets, hidden ones included.

    Raises:
        BadInput: The file is not a readable workbook.
    """
    _check_size(path)
    return _names(path, path.read_bytes())


def read_sheet(path: Path, sheet: str, header: bool) -> tuple[str, pl.DataFrame, list[str]]:
    """Read a sheet.

    Args:
        sheet: Its name; the first sheet if it is empty.
        header: Whether the first row has the names of the columns.

    Returns:
        The sheet's name, its table, and what differs from the sheet.

    Raises:
        BadInput: The file is not a readable workbook, or has no such sheet.
    """
    _check_size(path)
    names = _names(path, path.read_bytes())
    if not names:
        raise BadInput(f"{path.name} has no sheets")
    if sheet and sheet not in names:
        raise BadInput(f"{path.name} has no sheet {sheet!r}; {suggestion(sheet, names, 'sheets')}")
    name = sheet or names[0]
    book, cells, workbook = _prepared(path, name, header)
    try:
        frame, given = _loaded(workbook, name, cells, header)
    except (pl.exceptions.PolarsError, fastexcel.FastExcelError) as error:
        cause = " ".join(str(error).split())[:200]
        raise BadInput(f"the sheet {name!r} of {path.name} cannot be read: {cause}") from None
    frame = frame.with_columns(
        _converted(cells_of, cells.kinds.get(int(cells_of.name)), book.from_1904)
        for cells_of in frame.iter_columns()
    )
    frame.columns = unique(given)
    problems = renamed(given, frame.columns) if header else []
    return name, frame, problems + [f"sheet {name!r}: {problem}" for problem in cells.problems]


def _names(path: Path, data: bytes) -> list[str]:
    try:
        return list(fastexcel.read_excel(data).sheet_names)
    except fastexcel.FastExcelError:
        raise BadInput(f"{path.name} is damaged, encrypted, or not an Excel file (XLSX)") from None


def _prepared(path: Path, sheet: str, header: bool) -> tuple[Book, Cells, bytes]:
    """Return the cells of a sheet, and a workbook of this sheet alone for fastexcel.

    It is without styles: by its formats, fastexcel makes moments of 1899 of times.
    """
    with zipfile.ZipFile(path) as archive:
        parts = set(archive.namelist())
        part = _part(archive, sheet)
        if part not in parts:
            raise BadInput(f"{path.name} is damaged: it has no cells for the sheet {sheet!r}")
        texts = archive.read(_TEXTS) if _TEXTS in parts else b""
        shared = _SHARED.findall(texts)
        properties = _PROPERTIES.search(archive.read(_WORKBOOK).decode(errors="replace"))
        given = attributes(properties[0]).get("date1904", "0") if properties else "0"
        book = Book(
            styles=cell_styles(archive, _STYLES),
            shared_texts=len(shared),
            blank_texts=frozenset(at for at, text in enumerate(shared) if not _SHOWN.search(text)),
            from_1904=given.lower() in ("1", "true", "on"),
        )
        data = archive.read(part)
        _check_xml(data, path, sheet)
        cells = typed_cells(data, book, header)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as copy:
            for name in _NEEDED & parts:
                copy.writestr(name, archive.read(name))
            copy.writestr(part, cells.data)
    return book, cells, buffer.getvalue()


def _check_xml(data: bytes, path: Path, sheet: str) -> None:
    """Raise BadInput if the XML is damaged: fastexcel may leave out cells without an error."""
    try:
        expat.ParserCreate().Parse(data, True)
    except expat.ExpatError as error:
        raise BadInput(f"the sheet {sheet!r} of {path.name} is damaged: {error}") from None


def _loaded(
    workbook: bytes, sheet: str, cells: Cells, header: bool
) -> tuple[pl.DataFrame, list[str]]:
    """Return the rows and columns that have values, and the names of the columns.

    The columns of the table are named by their numbers in the sheet.
    """
    reader = fastexcel.read_excel(workbook)
    # The types are keyed by the place in the sheet, the columns by their place among those read.
    types: dict[int | str, Any] = dict.fromkeys(range(_MOST_COLUMNS), "string")
    types |= {column - 1: _TYPES.get(kind, "float") for column, kind in cells.kinds.items()}
    loaded = reader.load_sheet(sheet, header_row=None, dtypes=types)
    frame = loaded.to_polars()
    columns = [each.absolute_index + 1 for each in loaded.available_columns()]
    frame.columns = [str(column) for column in columns]
    names = [""] * len(columns)
    if header and frame.height:
        first = reader.load_sheet(sheet, header_row=None, n_rows=1, dtypes="string")
        names = [cell or "" for cell in first.to_polars().row(0)]
    kept = [at for at, column in enumerate(columns) if names[at] or column in cells.kinds]
    # A row of nothing but errors may lie before or after all that fastexcel sees.
    places = [row - cells.first_row for row in (cells.rows[1:] if header else cells.rows)]
    rows = pl.Series([at if 0 <= at < frame.height else None for at in places], dtype=pl.UInt32)
    frame = frame.select(pl.nth(kept).gather(rows)) if kept else pl.DataFrame()
    return frame, [names[at] for at in kept]


def _converted(cells: pl.Series, kind: Kind | None, from_1904: bool) -> pl.Series:
    """Return serial numbers of Excel as dates and times, and whole numbers as integers."""
    if kind == Kind.NUMBER:
        whole = ((cells == cells.floor()) & (cells.abs() < 2**53)).all()
        return cells.cast(pl.Int64) if whole else cells
    if kind in (Kind.TIME, Kind.DURATION):
        passed = (cells * _DAY_MILLISECONDS).round().cast(pl.Int64)
        if kind == Kind.DURATION:
            return passed.cast(pl.Duration("ms"))
        return (passed.clip(0, _DAY_MILLISECONDS - 1) * 1_000_000).cast(pl.Time)
    if kind in (Kind.DATE, Kind.DATETIME):
        days = cells if from_1904 else cells + (cells < 60).cast(pl.Float64)
        passed = ((days + epoch_days(from_1904)) * _DAY_MILLISECONDS).round().cast(pl.Int64)
        at = passed.cast(pl.Datetime("ms"))
        return at.dt.date() if kind == Kind.DATE else at
    return cells


def _part(archive: zipfile.ZipFile, sheet: str) -> str:
    """Return the name of the file of a sheet; empty if the workbook does not name it."""
    try:
        book = archive.read(_WORKBOOK).decode(errors="replace")
        links = archive.read(_LINKS).decode(errors="replace")
    except KeyError:
        return ""
    for tag in _SHEET.findall(book):
        given = attributes(tag)
        if given.get("name") == sheet:
            link = next((value for name, value in given.items() if name.endswith(":id")), "")
            for each in map(attributes, _LINK.findall(links)):
                if each.get("Id") == link:
                    return posixpath.join("/xl", each.get("Target", "")).lstrip("/")
    return ""


def _check_size(path: Path) -> None:
    """Refuse what unpacks to too much, or has a cell so far out that all before it is too much.

    A sheet is laid out whole: one cell in the last row and column makes it 17 thousand million.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > _MOST_BYTES or len(members) > _MOST_MEMBERS:
                said = f"{path.name} unpacks to {size:,} bytes"
                raise BadInput(f"{said}; {_MOST_BYTES:,} are read")
            for member in members:
                rows, columns = _extent(archive, member)
                if rows * columns > _MOST_CELLS:
                    said = f"a sheet of {path.name} reaches to row {rows:,} and column {columns:,}"
                    raise BadInput(f"{said}; {_MOST_CELLS:,} cells are read")
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{path.name} is damaged: {error}") from None
    except zlib.error:
        raise BadInput(f"{path.name} is damaged") from None


def _extent(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, int]:
    """The last row and column that a sheet names. What lies of its size raises on the way."""
    rows, columns = 0, set[bytes]()
    is_sheet = "worksheets/" in member.filename.lower()
    rest = b""
    with archive.open(member) as file:
        while data := file.read(_STEP):
            if not is_sheet:
                continue
            for column, row in _PLACE.findall(rest + data):
                rows = max(rows, int(row))
                columns.add(column)
            rest = data[-_LAP:]
    return rows, max((column_number(column) for column in columns), default=0)
