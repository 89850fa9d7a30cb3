"""Writing of tables to files in all supported formats."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal

import polars as pl

from table_columns import TableInputError

Format = Literal["csv", "tsv", "parquet", "xlsx"]

_MAX_STEM_CHARACTERS = 120
_INVALID_CHARACTERS = re.compile("[\x00-\x1f\x7f/\\\\\ud800-\udfff]")
_FORMULA = r"^\s*[=+\-@]"
_HARMLESS = r"^\s*[+-]?[\d.,]*\s*%?$|^-+$"


class TableNames:
    """Allocator of output file names that are unique, also on case-insensitive file systems."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def unique_name(self, stem: str, suffix: str) -> str:
        """Return a new name such as ``stem.csv``, or ``stem-2.csv`` if that is used."""
        base = _INVALID_CHARACTERS.sub("", stem)[:_MAX_STEM_CHARACTERS].strip() or "table"
        for number in count(1):
            name = f"{base}-{number}.{suffix}" if number > 1 else f"{base}.{suffix}"
            if name.casefold() not in self._used:
                break
        self._used.add(name.casefold())
        return name


def write_table(
    frame: pl.DataFrame,
    path: Path,
    format: Format,
    *,
    header: Mapping[str, str] | None = None,
    escape: bool = False,
) -> list[str]:
    """Write a table, and return messages about values that had to be changed.

    Args:
        frame: The table.
        path: Output file.
        format: Output format.
        header: Names to write in the header of CSV and TSV files, by the names of the columns.
        escape: Put ``'`` before cells of CSV and TSV files that spreadsheet programs would run as
            formulas.

    Raises:
        TableInputError: The format cannot represent the table.
    """
    try:
        return _write_format(frame, path, format, header or {}, escape)
    except pl.exceptions.PolarsError as error:
        raise TableInputError(f"{path.name} cannot be written: {error}") from None


def _write_format(
    frame: pl.DataFrame, path: Path, format: Format, header: Mapping[str, str], escape: bool
) -> list[str]:
    if format == "parquet":
        frame.write_parquet(path)
        return []
    frame = _flattened(frame)
    if format == "xlsx":
        from table_excel_writing import write_excel

        return write_excel(frame, path)
    frame = _with_time_text(frame)
    problems = []
    strings = [name for name, kind in frame.schema.items() if kind == pl.String]
    formulas = {name: _are_formulas(frame[name]) for name in strings}
    found = sum(int(cells.sum() or 0) for cells in formulas.values())
    if escape:
        frame = frame.with_columns(
            pl.when(cells.fill_null(False))
            .then("'" + pl.col(name))
            .otherwise(pl.col(name))
            .alias(name)
            for name, cells in formulas.items()
        )
    elif found:
        reason = "spreadsheet programs may run them; set escape_formulas to prevent this"
        problems.append(f"cells that begin like formulas: {found:,} ({reason})")
    _write_text(frame, path, "\t" if format == "tsv" else ",", header)
    return problems


def _write_text(frame: pl.DataFrame, path: Path, separator: str, header: Mapping[str, str]) -> None:
    titles = [header.get(name, name) for name in frame.columns]
    if titles == frame.columns:
        frame.write_csv(path, separator=separator)
        return
    # The header is written as a row, because column names of a frame are unique. The empty name of
    # a single column stays a string, which is written with quotes and not as an empty line.
    cells = titles if frame.width == 1 else [title or None for title in titles]
    row = pl.DataFrame([cells], schema=dict.fromkeys(frame.columns, pl.String), orient="row")
    with path.open("wb") as file:
        row.write_csv(file, separator=separator, include_header=False)
        frame.write_csv(file, separator=separator, include_header=False)


def _are_formulas(cells: pl.Series) -> pl.Series:
    return cells.str.contains(_FORMULA) & ~cells.str.contains(_HARMLESS)


def _with_time_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert times to text such as ``08:00:00``, with a fraction only if it is not zero."""
    return frame.with_columns(
        frame[name].dt.to_string("%H:%M:%S%.f" if kind == pl.Time else "%Y-%m-%dT%H:%M:%S%.f")
        for name, kind in frame.schema.items()
        if kind == pl.Time or (isinstance(kind, pl.Datetime) and kind.time_zone is None)
    )


def _flattened(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert lists and records to JSON, bytes to Base64, and durations to ISO 8601."""
    changed = []
    for name, kind in frame.schema.items():
        cells = frame[name]
        if kind.is_nested():
            converted = [None if cell is None else _json(cell) for cell in cells.to_list()]
            changed.append(pl.Series(name, converted, dtype=pl.String))
        elif kind == pl.Binary:
            changed.append(cells.bin.encode("base64"))
        elif kind == pl.Duration:
            changed.append(cells.dt.to_string("iso"))
        elif isinstance(kind, pl.Categorical | pl.Enum):
            changed.append(cells.cast(pl.String))
    return frame.with_columns(changed)


def _json(cell: Any) -> str:
    def encode(value: object) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    return json.dumps(cell, default=encode, ensure_ascii=False)
