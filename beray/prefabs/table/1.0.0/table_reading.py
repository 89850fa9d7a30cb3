"""Files as tables, whatever their format."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from table_names import BadInput, require

_MOST_BYTES = 256 << 20
_MOST_CELLS = 100_000_000
"""Of what a Parquet file claims to have: a tiny one can claim to have all there is."""

_INTEGER = r"^-?(0|[1-9]\d{0,17})$"
NUMBER = r"^-?(0|[1-9]\d{0,14})(\.\d{1,17})?([eE][+-]?\d{1,2})?$"
_BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
_DATE = r"^\d{4}-\d\d-\d\d$"
_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?$"


@dataclass(frozen=True)
class Options:
    """How a file is read."""

    sheet: str = ""
    delimiter: str = ""
    header: bool = True


@dataclass
class Table:
    """A table as it stands in its file; of a text file, all cells are texts."""

    name: str
    format: Literal["csv", "tsv", "parquet", "xlsx"]
    raw: pl.DataFrame
    sheet: str | None = None
    problems: list[str] = field(default_factory=list)
    header: dict[str, str] = field(default_factory=dict)
    """By the name of a column of a text file what is written there."""

    def typed(self) -> pl.DataFrame:
        """With the numbers, dates and truth values that its texts are."""
        return typed(self.raw) if self.format in ("csv", "tsv") else self.raw

    def require(self, column: str) -> None:
        """Raises: BadInput: there is no such column."""
        require(self.raw, column)


def opened(path: Path, options: Options) -> Table:
    """The table in a file; its first bytes say what it is, and then its name.

    Raises:
        BadInput: with the reason.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise BadInput(f"{path.name} has {size:,} bytes; tables are read up to {_MOST_BYTES:,}")
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise BadInput(f"{path.name} is empty")
    if start.startswith(b"PAR1"):
        return Table(path.name, "parquet", _parquet(path))
    if start.startswith(b"PK\x03\x04"):
        from table_excel import read_sheet

        sheet, frame, problems = read_sheet(path, options.sheet, options.header)
        return Table(path.name, "xlsx", frame, sheet, problems)
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".xlsx", ".xls") or start.startswith(b"\xd0\xcf\x11\xe0"):
        raise BadInput(f"{path.name} is damaged, encrypted or of another kind than its name says")
    from table_text import read_text

    text = read_text(path, options.delimiter, options.header)
    format: Literal["csv", "tsv"] = "tsv" if text.tabs else "csv"
    return Table(path.name, format, text.frame, problems=text.problems, header=text.header)


def sheets_of(path: Path) -> list[str]:
    """The names of the sheets of an Excel file; none of another file.

    Raises:
        BadInput: with the reason.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return []
    from table_excel import sheet_names

    return sheet_names(path)


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Each column of texts as what all of its texts are.

    A number with leading zeros, such as a postal code, and one with more digits than a number
    keeps stay texts.
    """
    return frame.select([_typed(frame[name]) for name in frame.columns])


def _typed(texts: pl.Series) -> pl.Series:
    if texts.dtype != pl.String or texts.null_count() == len(texts):
        return texts
    if _all(texts, _INTEGER):
        return texts.cast(pl.Int64)
    if _all(texts, NUMBER):
        return texts.cast(pl.Float64)
    if _all(texts, _BOOLEAN):
        # Nothing stays nothing; the texts are all there are otherwise.
        return texts.str.to_lowercase() == "true"
    if _all(texts, _DATE):
        dates = texts.str.to_date("%Y-%m-%d", strict=False)
        return dates if dates.null_count() == texts.null_count() else texts
    if _all(texts, _TIME):
        # One form for all: a "T" between, and seconds where there are none.
        full = texts.str.replace(" ", "T").str.replace(r"(T\d\d:\d\d)$", "${1}:00")
        times = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        return times if times.null_count() == texts.null_count() else texts
    return texts


def _all(texts: pl.Series, form: str) -> bool:
    # The first tells of most columns that they are not of the form.
    return all(part.str.contains(form).all() is not False for part in (texts.head(100), texts))


def _parquet(path: Path) -> pl.DataFrame:
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        columns = len(scan.collect_schema())
        rows = scan.select(pl.len()).collect().item()
        if rows * max(columns, 1) > _MOST_CELLS:
            cells = f"{rows:,} rows of {columns:,} columns"
            raise BadInput(f"{path.name} has {cells}; {_MOST_CELLS:,} cells are read")
        return scan.collect()
    except (pl.exceptions.PolarsError, OSError):
        raise BadInput(f"{path.name} is damaged, or of a kind of Parquet not known") from None
