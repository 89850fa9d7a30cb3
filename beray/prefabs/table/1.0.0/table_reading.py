"""Reading of tables from files in all supported formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from beray.prefab import library_cause
from table_columns import TableInputError, require
from table_types import typed_columns

_MAX_BYTES = 256 << 20
_MAX_CELLS = 100_000_000
"""Maximum number of cells of a Parquet file. A small compressed file may expand to very many."""


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a file."""

    sheet: str = ""
    delimiter: str = ""
    header: bool = True


@dataclass
class Table:
    """Table with the cells as in its file. For text files, all cells are strings."""

    name: str
    format: Literal["csv", "tsv", "parquet", "xlsx"]
    raw: pl.DataFrame
    sheet: str | None = None
    problems: list[str] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    """Names in the header of a text file, by the unique names of the columns."""

    def typed(self) -> pl.DataFrame:
        """Return the table with typed columns, and add messages about them to ``problems``."""
        if self.format not in ("csv", "tsv"):
            return self.raw
        frame, problems = typed_columns(self.raw)
        self.problems += problems
        return frame

    def require(self, column: str) -> None:
        """Raise TableInputError if the table has no such column."""
        require(self.raw, column)


def open_table(path: Path, options: ReadOptions) -> Table:
    """Read the table in a file. Its content determines its format, then its name.

    Raises:
        TableInputError: The file does not exist, is damaged or too large, or is not a table.
    """
    try:
        return _read_by_format(path, options)
    except TableInputError:
        raise
    except Exception as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise TableInputError(f"{path.name} cannot be read: {cause}") from None


def _read_by_format(path: Path, options: ReadOptions) -> Table:
    if not path.is_file():
        raise TableInputError(f"{path.name} does not exist or is not a file")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise TableInputError(f"{path.name} has {size:,} bytes; the limit is {_MAX_BYTES:,}")
    if size == 0:
        raise TableInputError(f"{path.name} is empty")
    with path.open("rb") as file:
        start = file.read(8)
        file.seek(max(0, size - 4))
        end = file.read()
    # A text file may begin with these letters; a Parquet file also ends with them.
    if start.startswith(b"PAR1") and end == b"PAR1":
        return Table(path.name, "parquet", _parquet(path))
    if start.startswith(b"PK\x03\x04"):
        from table_excel import read_sheet

        sheet, frame, problems = read_sheet(path, options.sheet, options.header)
        return Table(path.name, "xlsx", frame, sheet, problems)
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".xlsx", ".xls") or start.startswith(b"\xd0\xcf\x11\xe0"):
        reason = "its content is not in the format that its name indicates"
        raise TableInputError(f"{path.name} is damaged, encrypted or misnamed: {reason}")
    from table_csv import read_csv_file

    text = read_csv_file(path, options.delimiter, options.header)
    format: Literal["csv", "tsv"] = "tsv" if text.separator == "\t" else "csv"
    return Table(path.name, format, text.frame, problems=text.problems, header=text.header)


def list_sheets(path: Path) -> list[str]:
    """Return the names of the sheets of an Excel file; an empty list for other formats.

    Raises:
        TableInputError: The file does not exist, or is a damaged Excel file.
    """
    if not path.is_file():
        raise TableInputError(f"{path.name} does not exist or is not a file")
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
        if rows * max(columns, 1) > _MAX_CELLS:
            size = f"{rows:,} rows of {columns:,} columns"
            raise TableInputError(f"{path.name} has {size}; the limit is {_MAX_CELLS:,} cells")
        return scan.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        cause = library_cause(error, __file__)
        if cause is None:
            raise
        raise TableInputError(f"{path.name} is not a readable Parquet file: {cause}") from None
