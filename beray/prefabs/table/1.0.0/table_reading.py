"""Files as tables, whatever their format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from beray.prefab import library_cause
from table_names import BadInput, require
from table_types import typed_columns

_MOST_BYTES = 256 << 20
_MOST_CELLS = 100_000_000
"""Of what a Parquet file claims to have: a tiny one can claim to have all there is."""


@dataclass(frozen=True)
class Options:
    """Options for reading a file."""

    sheet: str = ""
    delimiter: str = ""
    header: bool = True


@dataclass
class Table:
    """Table as in its file; the cells of text files are all text."""

    name: str
    format: Literal["csv", "tsv", "parquet", "xlsx"]
    raw: pl.DataFrame
    sheet: str | None = None
    problems: list[str] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    """Names in the header of a text file, by the names of the columns."""

    def typed(self) -> pl.DataFrame:
        """Return the table with typed columns, and add messages about them to ``problems``."""
        if self.format not in ("csv", "tsv"):
            return self.raw
        frame, problems = typed_columns(self.raw)
        self.problems += problems
        return frame

    def require(self, column: str) -> None:
        """Raise BadInput if the table has no such column."""
        require(self.raw, column)


def opened(path: Path, options: Options) -> Table:
    """Open the table in a file. Its content decides its format, then its name.

    Raises:
        BadInput: With the reason.
    """
    try:
        return _opened(path, options)
    except BadInput:
        raise
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise BadInput(f"{path.name} cannot be read: {cause}") from None


def _opened(path: Path, options: Options) -> Table:
    if not path.is_file():
        raise BadInput(f"{path.name} does not exist or is not a file")
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise BadInput(f"{path.name} has {size:,} bytes; tables are read up to {_MOST_BYTES:,}")
    if size == 0:
        raise BadInput(f"{path.name} is empty")
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(max(0, size - 4))
        end = file.read()
    # A text may begin with these letters; a Parquet file also ends with them.
    if start.startswith(b"PAR1") and end == b"PAR1":
        return Table(path.name, "parquet", _parquet(path))
    if start.startswith(b"PK\x03\x04"):
        from table_excel import read_sheet

        sheet, frame, problems = read_sheet(path, options.sheet, options.header)
        return Table(path.name, "xlsx", frame, sheet, problems)
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".xlsx", ".xls") or start.startswith(b"\xd0\xcf\x11\xe0"):
        said = "its content is not in the format that its name indicates"
        raise BadInput(f"{path.name} is damaged, encrypted or misnamed: {said}")
    from table_text import read_text

    text = read_text(path, options.delimiter, options.header)
    format: Literal["csv", "tsv"] = "tsv" if text.tabs else "csv"
    return Table(path.name, format, text.frame, problems=text.problems, header=text.header)


def sheets_of(path: Path) -> list[str]:
    """Return the names of the sheets of an Excel file; an empty list for other formats.

    Raises:
        BadInput: With the reason.
    """
    if not path.is_file():
        raise BadInput(f"{path.name} does not exist or is not a file")
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return []
    from table_excel import sheet_names

    return sheet_names(path)


def _parquet(path: Path) -> pl.DataFrame:
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        columns = len(scan.collect_schema())
        rows = scan.select(pl.len()).collect().item()
        if rows * max(columns, 1) > _MOST_CELLS:
            cells = f"{rows:,} rows of {columns:,} columns"
            raise BadInput(f"{path.name} has {cells}; {_MOST_CELLS:,} cells are read")
        return scan.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise BadInput(f"{path.name} is not a readable Parquet file: {cause}") from None
