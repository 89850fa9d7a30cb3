"""Excel files (XLSX), by fastexcel."""

from __future__ import annotations

import re
import zipfile
import zlib
from datetime import date
from pathlib import Path

import fastexcel
import polars as pl

from table_excel_cells import lost_cells
from table_names import BadInput, renamed, unique

_MOST_BYTES = 512 << 20
"""When unpacked."""
_MOST_MEMBERS = 10_000
_MOST_CELLS = 30_000_000
_DAY_0 = date(1899, 12, 31)
_STEP = 1 << 20
_LAP = 64
_MADE = re.compile(r"^__UNNAMED__\d+$|_\d+$")
_PLACE = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")


def sheet_names(path: Path) -> list[str]:
    """Raises: BadInput: with the reason."""
    return list(_reader(path).sheet_names)


def read_sheet(path: Path, sheet: str, header: bool) -> tuple[str, pl.DataFrame, list[str]]:
    """The name of a sheet, the table in it, and what is not as it stands there.

    It is the first where ``sheet`` is empty.

    Raises:
        BadInput: with the reason.
    """
    names = sheet_names(path)
    if not names:
        raise BadInput(f"{path.name} has no sheets")
    if sheet and sheet not in names:
        raise BadInput(f"{path.name} has no sheet {sheet!r}; it has: {', '.join(names[:30])}")
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
        assert isinstance(frame, pl.DataFrame)  # one sheet, one table
        given = _header(path, name, frame.columns) if header else [""] * frame.width
    except (pl.exceptions.PolarsError, fastexcel.FastExcelError):
        raise BadInput(f"the sheet {name!r} of {path.name} cannot be read") from None
    frame.columns = unique(given)
    problems = renamed(given, frame.columns) if header else []
    return name, _times(frame), problems + lost_cells(path, name, header)


def _times(frame: pl.DataFrame) -> pl.DataFrame:
    """With times of day as such: in Excel they are times of its day 0."""
    return frame.with_columns(
        cells.dt.time()
        for cells in frame.iter_columns()
        if isinstance(cells.dtype, pl.Datetime)
        and cells.drop_nulls().dt.date().unique().to_list() == [_DAY_0]
    )


def _header(path: Path, sheet: str, names: list[str]) -> list[str]:
    """What the sheet has for the columns that fastexcel calls ``names``, some of its own making."""
    if not any(map(_MADE.search, names)):
        return names  # without laying the sheet out once more
    reader = _reader(path)
    places = {each.name: each.index for each in reader.load_sheet(sheet).available_columns()}
    row = reader.load_sheet(sheet, header_row=None, n_rows=1, dtypes="string").to_polars().row(0)
    return [row[places[each]] or "" for each in names]


def _reader(path: Path) -> fastexcel.ExcelReader:
    _check_size(path)
    try:
        return fastexcel.read_excel(path.read_bytes())
    except fastexcel.FastExcelError:
        raise BadInput(f"{path.name} is damaged, encrypted, or no Excel file") from None


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
    return rows, max((_number(column) for column in columns), default=0)


def _number(column: bytes) -> int:
    number = 0
    for letter in column:
        number = number * 26 + letter - 64
    return number
