"""Reader for Excel files (XLSX), based on fastexcel."""

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

from table_columns import TableInputError, rename_messages, suggestion, unique_names
from table_excel_cells import TypedSheet, WorkbookData, column_number, prepare_sheet
from table_excel_formats import CellKind, attributes, cell_styles, epoch_days

_MAX_BYTES = 512 << 20
"""Maximum size of all files in the archive, unpacked."""
_MAX_ENTRIES = 10_000
_MAX_CELLS = 30_000_000
"""Maximum number of cells up to the last row and column of a sheet, empty ones included."""
_MAX_COLUMNS = 16_384
_DAY_MILLISECONDS = 86_400_000
_CHUNK_BYTES = 1 << 20
_OVERLAP_BYTES = 64
"""Bytes of a chunk that are searched again with the next one, for references that are split."""
_REFERENCE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")
_SHEET = re.compile(r"<(?:\w+:)?sheet\s[^>]*>")
_RELATIONSHIP = re.compile(r"<(?:\w+:)?Relationship\s[^>]*>")
_PROPERTIES = re.compile(r"<(?:\w+:)?workbookPr\b[^>]*>")
_SHARED_STRING = re.compile(rb"<(?:\w+:)?si\b[^>]*?(?:/>|>(.*?)</(?:\w+:)?si>)", re.DOTALL)
_NOT_BLANK = re.compile(rb"<(?:\w+:)?t\b[^>/]*>\s*[^\s<]")
_WORKBOOK, _LINKS = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
_TEXTS, _STYLES = "xl/sharedStrings.xml", "xl/styles.xml"
_NEEDED = {"[Content_Types].xml", "_rels/.rels", _WORKBOOK, _LINKS, _TEXTS}
_DTYPES = {CellKind.TEXT: "string", CellKind.BOOLEAN: "boolean"}
"""Data types of fastexcel by type of cell; all other types are read as numbers."""


def sheet_names(path: Path) -> list[str]:
    """Return the names of the sheets, hidden ones included.

    Raises:
        TableInputError: The file is not a readable workbook.
    """
    _check_size(path)
    return _names(path, path.read_bytes())


def read_sheet(path: Path, sheet: str, header: bool) -> tuple[str, pl.DataFrame, list[str]]:
    """Read a sheet.

    Args:
        path: The Excel file.
        sheet: Name of the sheet; empty for the first one.
        header: Whether the first row contains the names of the columns.

    Returns:
        Name of the sheet, its table, and messages about differences from the sheet.

    Raises:
        TableInputError: The file is not a readable workbook, or has no such sheet.
    """
    _check_size(path)
    names = _names(path, path.read_bytes())
    if not names:
        raise TableInputError(f"{path.name} has no sheets")
    if sheet and sheet not in names:
        raise TableInputError(
            f"{path.name} has no sheet {sheet!r}; {suggestion(sheet, names, 'sheets')}"
        )
    name = sheet or names[0]
    book, cells, workbook = _rewritten_workbook(path, name, header)
    try:
        frame, original = _load(workbook, name, cells, header)
    except (pl.exceptions.PolarsError, fastexcel.FastExcelError) as error:
        cause = " ".join(str(error).split())[:200]
        raise TableInputError(
            f"the sheet {name!r} of {path.name} cannot be read: {cause}"
        ) from None
    frame = frame.with_columns(
        _converted(column, cells.kinds.get(int(column.name)), book.from_1904)
        for column in frame.iter_columns()
    )
    frame.columns = unique_names(original)
    problems = rename_messages(original, frame.columns) if header else []
    return name, frame, problems + [f"sheet {name!r}: {problem}" for problem in cells.problems]


def _names(path: Path, data: bytes) -> list[str]:
    try:
        return list(fastexcel.read_excel(data).sheet_names)
    except fastexcel.FastExcelError:
        raise TableInputError(
            f"{path.name} is damaged, encrypted, or not an Excel file (XLSX)"
        ) from None


def _rewritten_workbook(
    path: Path, sheet: str, header: bool
) -> tuple[WorkbookData, TypedSheet, bytes]:
    """Return the cells of a sheet, and a workbook with only this sheet for fastexcel.

    The workbook has no styles, because fastexcel converts cells with time formats to datetimes
    in 1899.
    """
    with zipfile.ZipFile(path) as archive:
        parts = set(archive.namelist())
        part = _part(archive, sheet)
        if part not in parts:
            raise TableInputError(
                f"{path.name} is damaged: the cells of sheet {sheet!r} are missing"
            )
        texts = archive.read(_TEXTS) if _TEXTS in parts else b""
        shared = _SHARED_STRING.findall(texts)
        properties = _PROPERTIES.search(archive.read(_WORKBOOK).decode(errors="replace"))
        date_1904 = attributes(properties[0]).get("date1904", "0") if properties else "0"
        book = WorkbookData(
            styles=cell_styles(archive, _STYLES),
            shared_strings=len(shared),
            blank_strings=frozenset(
                at for at, text in enumerate(shared) if not _NOT_BLANK.search(text)
            ),
            from_1904=date_1904.lower() in ("1", "true", "on"),
        )
        data = archive.read(part)
        _check_xml(data, path, sheet)
        cells = prepare_sheet(data, book, header)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as copy:
            for name in _NEEDED & parts:
                copy.writestr(name, archive.read(name))
            copy.writestr(part, cells.data)
    return book, cells, buffer.getvalue()


def _check_xml(data: bytes, path: Path, sheet: str) -> None:
    """Raise TableInputError for invalid XML, whose cells fastexcel may skip without an error."""
    try:
        expat.ParserCreate().Parse(data, True)
    except expat.ExpatError as error:
        raise TableInputError(f"the sheet {sheet!r} of {path.name} is damaged: {error}") from None


def _load(
    workbook: bytes, sheet: str, cells: TypedSheet, header: bool
) -> tuple[pl.DataFrame, list[str]]:
    """Return the rows and columns with values, and the original names of the columns.

    The columns of the returned table are named by their numbers in the sheet.
    """
    reader = fastexcel.read_excel(workbook)
    # The keys are indices of columns in the sheet, including columns that are not loaded.
    types: dict[int | str, Any] = dict.fromkeys(range(_MAX_COLUMNS), "string")
    types |= {column - 1: _DTYPES.get(kind, "float") for column, kind in cells.kinds.items()}
    loaded = reader.load_sheet(sheet, header_row=None, dtypes=types)
    frame = loaded.to_polars()
    columns = [each.absolute_index + 1 for each in loaded.available_columns()]
    frame.columns = [str(column) for column in columns]
    names = [""] * len(columns)
    if header and frame.height:
        first = reader.load_sheet(sheet, header_row=None, n_rows=1, dtypes="string")
        names = [cell or "" for cell in first.to_polars().row(0)]
    used = [i for i, column in enumerate(columns) if names[i] or column in cells.kinds]
    # Rows that contain only errors may precede or follow the rows that fastexcel loads.
    offsets = [row - cells.first_row for row in (cells.rows[1:] if header else cells.rows)]
    rows = pl.Series([i if 0 <= i < frame.height else None for i in offsets], dtype=pl.UInt32)
    frame = frame.select(pl.nth(used).gather(rows)) if used else pl.DataFrame()
    return frame, [names[i] for i in used]


def _converted(cells: pl.Series, kind: CellKind | None, from_1904: bool) -> pl.Series:
    """Convert serial numbers of Excel to dates and times, and whole numbers to integers."""
    if kind == CellKind.NUMBER:
        are_whole = ((cells == cells.floor()) & (cells.abs() < 2**53)).all()
        return cells.cast(pl.Int64) if are_whole else cells
    if kind in (CellKind.TIME, CellKind.DURATION):
        milliseconds = (cells * _DAY_MILLISECONDS).round().cast(pl.Int64)
        if kind == CellKind.DURATION:
            return milliseconds.cast(pl.Duration("ms"))
        return (milliseconds.clip(0, _DAY_MILLISECONDS - 1) * 1_000_000).cast(pl.Time)
    if kind in (CellKind.DATE, CellKind.DATETIME):
        days = cells if from_1904 else cells + (cells < 60).cast(pl.Float64)
        since_1970 = ((days + epoch_days(from_1904)) * _DAY_MILLISECONDS).round()
        datetimes = since_1970.cast(pl.Int64).cast(pl.Datetime("ms"))
        return datetimes.dt.date() if kind == CellKind.DATE else datetimes
    return cells


def _part(archive: zipfile.ZipFile, sheet: str) -> str:
    """Return the path of a sheet in the archive; empty if the workbook does not contain it."""
    try:
        book = archive.read(_WORKBOOK).decode(errors="replace")
        links = archive.read(_LINKS).decode(errors="replace")
    except KeyError:
        return ""
    for tag in _SHEET.findall(book):
        sheet_attributes = attributes(tag)
        if sheet_attributes.get("name") == sheet:
            ids = (value for name, value in sheet_attributes.items() if name.endswith(":id"))
            relationship_id = next(ids, "")
            for each in map(attributes, _RELATIONSHIP.findall(links)):
                if each.get("Id") == relationship_id:
                    return posixpath.join("/xl", each.get("Target", "")).lstrip("/")
    return ""


def _check_size(path: Path) -> None:
    """Raise TableInputError if the file expands to more than the limits.

    The limit of cells includes empty ones, because fastexcel allocates all cells up to the last
    row and column: 17 thousand million for a sheet with a value in its very last cell.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > _MAX_BYTES:
                reason = f"expands to {size:,} bytes; the limit is {_MAX_BYTES:,}"
                raise TableInputError(f"{path.name} {reason}")
            if len(members) > _MAX_ENTRIES:
                reason = f"contains {len(members):,} files; the limit is {_MAX_ENTRIES:,}"
                raise TableInputError(f"{path.name} {reason}")
            for member in members:
                rows, columns = _extent(archive, member)
                if rows * columns > _MAX_CELLS:
                    extent = f"row {rows:,} and column {columns:,}"
                    reason = f"extends to {extent}; the limit is {_MAX_CELLS:,} cells"
                    raise TableInputError(f"a sheet of {path.name} {reason}")
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise TableInputError(f"{path.name} is damaged: {error}") from None
    except zlib.error:
        raise TableInputError(f"{path.name} is damaged") from None


def _extent(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Return the last row and column of a sheet.

    Reading the member also raises an error if its declared size is wrong.
    """
    rows, columns = 0, set[bytes]()
    is_sheet = "worksheets/" in member.filename.lower()
    overlap = b""
    with archive.open(member) as file:
        while data := file.read(_CHUNK_BYTES):
            if not is_sheet:
                continue
            for column, row in _REFERENCE.findall(overlap + data):
                rows = max(rows, int(row))
                columns.add(column)
            overlap = data[-_OVERLAP_BYTES:]
    return rows, max((column_number(column) for column in columns), default=0)
