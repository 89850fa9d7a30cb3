"""Writer for Excel files (XLSX), based on XlsxWriter."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl

from table_columns import TableInputError, abbreviated_list, rename_messages, unique_names

_MAX_ROWS, _MAX_COLUMNS, _MAX_CELL_CHARACTERS = 1_048_575, 16_384, 32_767
_INTEGER_LIMIT = 10**15
"""Excel keeps 15 digits of a number. Integers from this value on are written as text."""
_FIRST_DAY = date(1900, 3, 1)
"""First date with a correct serial number: Excel also counts 1900-02-29, which did not exist."""
_LAST_YEAR = 9999
_MILLISECOND = 1_000_000
"""One millisecond in nanoseconds, the unit of times in Polars."""


def write_excel(frame: pl.DataFrame, path: Path) -> list[str]:
    """Write a table, and return messages about values that had to be changed.

    Raises:
        TableInputError: The table has no columns, or exceeds the limits of an Excel sheet.
    """
    if frame.height > _MAX_ROWS or frame.width > _MAX_COLUMNS:
        size = f"{frame.height:,} rows of {frame.width:,} columns"
        limits = f"{_MAX_ROWS:,} rows and {_MAX_COLUMNS:,} columns"
        raise TableInputError(f"{size} exceed the limits of an Excel sheet ({limits})")
    if frame.width == 0:
        raise TableInputError("a table without columns cannot be written to an Excel sheet")
    problems: list[str] = []
    columns, text_cells = [], dict[tuple[int, int], str]()
    for index, cells in enumerate(frame.iter_columns()):
        cells, texts = _supported_cells(cells, problems)
        columns.append(cells)
        text_cells |= {(row + 1, index): text for row, text in texts.items()}  # below the header
    frame = pl.DataFrame(columns)
    original = frame.columns
    frame.columns = unique_names([name[:255] for name in original])
    problems += rename_messages(original, frame.columns)
    # Strings that begin with = or look like URLs are written as text.
    import xlsxwriter

    options = {"strings_to_formulas": False, "strings_to_urls": False}
    with xlsxwriter.Workbook(path, options) as workbook:
        frame.write_excel(workbook, "Sheet1", dtype_formats={pl.Float64: "General"})
        sheet = workbook.get_worksheet_by_name("Sheet1")
        for (row, column), text in text_cells.items():
            sheet.write_string(row, column, text)
    return problems


def _supported_cells(cells: pl.Series, problems: list[str]) -> tuple[pl.Series, dict[int, str]]:
    """Return a column that Excel can store, and the cells to write as text, by their rows."""
    name, kind = cells.name, cells.dtype
    if kind == pl.String and (longest := cells.str.len_chars().max()) is not None:
        if int(str(longest)) > _MAX_CELL_CHARACTERS:
            limit = f"{_MAX_CELL_CHARACTERS:,} characters"
            raise TableInputError(f"{name}: Excel cells have at most {limit}")
    elif kind.is_integer() and _has_long_integers(cells):
        problems.append(f"{name}: written as text, because Excel keeps 15 digits of a number")
        return cells.cast(pl.String), {}
    elif kind.is_float():
        # Not written as text, because the whole column would be read back as text.
        not_finite = ~cells.is_finite().fill_null(True)
        if not_finite.any():
            reason = "written as empty cells, because Excel does not support NaN and infinity"
            problems.append(f"{name}: {reason}: {_row_list(not_finite)}")
            return cells.zip_with(~not_finite, pl.Series([None], dtype=kind)), {}
    elif kind == pl.Time:
        truncated = (cells.to_physical() // _MILLISECOND * _MILLISECOND).cast(pl.Time)
        return _report_truncation(cells, truncated, problems), {}
    elif isinstance(kind, pl.Datetime):
        if kind.time_zone is not None:
            cells = cells.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
            problems.append(f"{name}: written in UTC, because Excel does not support time zones")
        cells, texts = _supported_dates(cells, problems)
        return _report_truncation(cells, cells.dt.truncate("1ms"), problems), texts
    elif kind == pl.Date:
        return _supported_dates(cells, problems)
    return cells, {}


def _supported_dates(cells: pl.Series, problems: list[str]) -> tuple[pl.Series, dict[int, str]]:
    outside = ((cells.dt.date() < _FIRST_DAY) | (cells.dt.year() > _LAST_YEAR)).fill_null(False)
    if not outside.any():
        return cells, {}
    reason = "written as text, because Excel supports dates from 1900-03-01 to 9999-12-31"
    problems.append(f"{cells.name}: {reason}: {_row_list(outside)}")
    rows = outside.arg_true()
    texts = cells.gather(rows).dt.to_string("iso:strict").to_list()
    supported = cells.zip_with(~outside, pl.Series([None], dtype=cells.dtype))
    return supported, dict(zip(rows, texts, strict=True))


def _report_truncation(cells: pl.Series, truncated: pl.Series, problems: list[str]) -> pl.Series:
    """Return ``truncated``, and report the rows that differ from ``cells``."""
    changed = (cells != truncated).fill_null(False)
    if changed.any():
        reason = "written with milliseconds, because Excel does not support smaller fractions"
        problems.append(f"{cells.name}: {reason}: {_row_list(changed)}")
    return truncated


def _row_list(mask: pl.Series) -> str:
    """Return the first rows for which ``mask`` is true, counted from 1 without the header."""
    return abbreviated_list([f"row {row + 1:,}" for row in mask.arg_true().to_list()])


def _has_long_integers(cells: pl.Series) -> bool:
    low, high = cells.min(), cells.max()
    return any(abs(int(str(each))) >= _INTEGER_LIMIT for each in (low, high) if each is not None)
