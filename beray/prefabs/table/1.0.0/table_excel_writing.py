"""Tables as Excel files (XLSX), by XlsxWriter."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from table_names import BadInput, renamed, some, unique

_ROWS, _COLUMNS, _TEXT = 1_048_575, 16_384, 32_767
_INTEGER = 10**15
"""Excel keeps fifteen digits of a number."""
_FIRST_DAY = date(1900, 3, 1)
"""Before it, Excel has a day that never was (1900-02-29), and counts one too many, or none."""
_LAST_YEAR = 9999
_MILLISECOND = 1_000_000
"""In nanoseconds, which is what polars counts times of day in."""


def write_excel(frame: pl.DataFrame, path: Path) -> list[str]:
    """Write the table; what is not in the file as it was in the table.

    Raises:
        BadInput: Excel cannot hold it.
    """
    if frame.height > _ROWS or frame.width > _COLUMNS:
        size = f"{frame.height:,} rows of {frame.width:,} columns"
        raise BadInput(f"{size} do not fit into an Excel sheet")
    if frame.width == 0:
        raise BadInput("a table without columns does not fit into an Excel sheet")
    problems: list[str] = []
    columns, apart = [], dict[tuple[int, int], str]()
    for place, cells in enumerate(frame.iter_columns()):
        cells, texts = _held(cells, problems)
        columns.append(cells)
        apart |= {(row + 1, place): text for row, text in texts.items()}  # below the header
    frame = pl.DataFrame(columns)
    given = frame.columns
    frame.columns = unique([name[:255] for name in given])
    problems += renamed(given, frame.columns)
    # As text, what begins with = is no formula, and what looks like a link is none.
    import xlsxwriter

    options = {"strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(path, options) as workbook:
        frame.write_excel(workbook, "Sheet1", dtype_formats={pl.Float64: "General"})
        sheet = workbook.get_worksheet_by_name("Sheet1")
        for (row, column), text in apart.items():
            sheet.write_string(row, column, text)
    return problems


def _held(cells: pl.Series, problems: list[str]) -> tuple[pl.Series, dict[int, str]]:
    """A column as Excel can hold it, and, by their rows, the cells of it that become texts."""
    name, kind = cells.name, cells.dtype
    if kind == pl.String and (longest := cells.str.len_chars().max()) is not None:
        if int(str(longest)) > _TEXT:
            raise BadInput(f"{name}: Excel cells have at most {_TEXT:,} characters")
    elif kind.is_integer() and _beyond(cells):
        problems.append(f"{name}: written as text, for Excel keeps 15 digits of a number")
        return cells.cast(pl.String), {}
    elif kind.is_float():
        # As texts they would make texts of all the others when the column is read again.
        none = ~cells.is_finite().fill_null(True)
        if none.any():
            problems.append(
                f"{name}: written as empty, for Excel has no NaN and inf: {_rows(none)}"
            )
            return cells.zip_with(~none, pl.Series([None], dtype=kind)), {}
    elif kind == pl.Time:
        whole = (cells.to_physical() // _MILLISECOND * _MILLISECOND).cast(pl.Time)
        return _cut(cells, whole, problems), {}
    elif isinstance(kind, pl.Datetime):
        if kind.time_zone is not None:
            cells = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            problems.append(f"{name}: written in UTC, for Excel knows no time zones")
        cells, texts = _days(cells, problems)
        return _cut(cells, cells.dt.truncate("1ms"), problems), texts
    elif kind == pl.Date:
        return _days(cells, problems)
    return cells, {}


def _days(cells: pl.Series, problems: list[str]) -> tuple[pl.Series, dict[int, str]]:
    beyond = ((cells.dt.date() < _FIRST_DAY) | (cells.dt.year() > _LAST_YEAR)).fill_null(False)
    if not beyond.any():
        return cells, {}
    said = "written as text, for Excel counts days from 1900-03-01 to 9999-12-31"
    problems.append(f"{cells.name}: {said}: {_rows(beyond)}")
    rows = beyond.arg_true()
    texts = cells.gather(rows).dt.to_string("iso:strict").to_list()
    kept = cells.zip_with(~beyond, pl.Series([None], dtype=cells.dtype))
    return kept, dict(zip(rows, texts, strict=True))


def _cut(cells: pl.Series, whole: pl.Series, problems: list[str]) -> pl.Series:
    shorter = (cells != whole).fill_null(False)
    if shorter.any():
        said = "written without what is below a millisecond, which Excel does not keep"
        problems.append(f"{cells.name}: {said}: {_rows(shorter)}")
    return whole


def _rows(which: pl.Series) -> str:
    """Where in the table something is, its header not counted."""
    return some([f"row {row + 1:,}" for row in which.arg_true().to_list()])


def _beyond(cells: pl.Series) -> bool:
    low, high = cells.min(), cells.max()
    return any(abs(int(str(each))) >= _INTEGER for each in (low, high) if each is not None)
