"""Excel files (XLSX), by fastexcel."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path

import fastexcel
import polars as pl

from table_names import Unreadable, unique

_MOST_BYTES = 512 << 20
"""When unpacked."""
_MOST_MEMBERS = 10_000
_MOST_CELLS = 30_000_000
_STEP = 1 << 20
_LAP = 64
_UNNAMED = re.compile(r"^__UNNAMED__\d+$")
_PLACE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")


def sheet_names(path: Path) -> list[str]:
    """Raises: Unreadable: with the reason."""
    return list(_reader(path).sheet_names)


def read_sheet(path: Path, sheet: str, header: bool) -> tuple[str, pl.DataFrame]:
    """The name of a sheet, and the table in it; the first where ``sheet`` is empty.

    Raises:
        Unreadable: with the reason.
    """
    names = sheet_names(path)
    if not names:
        raise Unreadable(f"{path.name} has no sheets")
    if sheet and sheet not in names:
        raise Unreadable(f"{path.name} has no sheet {sheet!r}; it has: {', '.join(names[:30])}")
    name = sheet or names[0]
    try:
        frame = pl.read_excel(
            path.read_bytes(),
            sheet_name=name,
            engine="calamine",
            has_header=header,
            infer_schema_length=None,
            raise_if_empty=False,
        )
    except (pl.exceptions.PolarsError, fastexcel.FastExcelError):
        raise Unreadable(f"the sheet {name!r} of {path.name} cannot be read") from None
    assert isinstance(frame, pl.DataFrame)  # one sheet, one table
    frame.columns = unique([_UNNAMED.sub("", each) for each in frame.columns])
    return name, frame


def _reader(path: Path) -> fastexcel.ExcelReader:
    _check_size(path)
    try:
        return fastexcel.read_excel(path.read_bytes())
    except fastexcel.FastExcelError:
        raise Unreadable(f"{path.name} is damaged, encrypted, or no Excel file") from None


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
                raise Unreadable(f"{said}; {_MOST_BYTES:,} are read")
            for member in members:
                rows, columns = _extent(archive, member)
                if rows * columns > _MOST_CELLS:
                    said = f"a sheet of {path.name} reaches to row {rows:,} and column {columns:,}"
                    raise Unreadable(f"{said}; {_MOST_CELLS:,} cells are read")
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise Unreadable(f"{path.name} is damaged: {error}") from None
    except zlib.error:
        raise Unreadable(f"{path.name} is damaged") from None


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
    return rows, max((_number(column) for column in columns), default=0)


def _number(column: bytes) -> int:
    number = 0
    for letter in column:
        number = number * 26 + letter - 64
    return number
