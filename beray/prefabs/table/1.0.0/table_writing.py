"""Tables as files."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal

import polars as pl

from table_names import BadInput

Format = Literal["csv", "tsv", "parquet", "xlsx"]

_LONGEST_STEM = 120
_UNWANTED = re.compile("[\x00-\x1f\x7f/\\\\\ud800-\udfff]")
_FORMULA = r"^\s*[=+\-@]"
_NO_FORMULA = r"^\s*[+-]?[\d.,]*\s*%?$|^-+$"


class Names:
    """Names of output files, each once, also where case makes no difference."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, stem: str, suffix: str) -> str:
        """A name like ``stem.suffix``."""
        base = _UNWANTED.sub("", stem)[:_LONGEST_STEM].strip() or "table"
        for number in count(1):
            name = f"{base}-{number}.{suffix}" if number > 1 else f"{base}.{suffix}"
            if name.casefold() not in self._taken:
                break
        self._taken.add(name.casefold())
        return name


def write(
    frame: pl.DataFrame,
    path: Path,
    format: Format,
    *,
    header: Mapping[str, str] | None = None,
    escape: bool = False,
) -> list[str]:
    """Write the table; what is not in the file as it was in the table.

    Args:
        header: what CSV and TSV have for the names of columns.
        escape: put ``'`` before cells of CSV and TSV that would be run as formulas.

    Raises:
        BadInput: the format cannot hold it.
    """
    try:
        return _write(frame, path, format, header or {}, escape)
    except pl.exceptions.PolarsError as error:
        raise BadInput(f"{path.name} cannot be written: {error}") from None


def _write(
    frame: pl.DataFrame, path: Path, format: Format, header: Mapping[str, str], escape: bool
) -> list[str]:
    if format == "parquet":
        frame.write_parquet(path)
        return []
    frame = _flat(frame)
    if format == "xlsx":
        from table_excel_writing import write_excel

        return write_excel(frame, path)
    frame = _without_zeros(frame)
    problems = []
    texts = [name for name, kind in frame.schema.items() if kind == pl.String]
    formulas = {name: _formulas(frame[name]) for name in texts}
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
        said = f"{found:,} cells begin as formulas do, and a spreadsheet program may run them"
        problems.append(f"{said} (escape_formulas)")
    _write_text(frame, path, "\t" if format == "tsv" else ",", header)
    return problems


def _write_text(frame: pl.DataFrame, path: Path, separator: str, header: Mapping[str, str]) -> None:
    titles = [header.get(name, name) for name in frame.columns]
    if titles == frame.columns:
        frame.write_csv(path, separator=separator)
        return
    # As a row, for a frame takes no name twice. A lone empty cell needs its quotes to be seen.
    cells = titles if frame.width == 1 else [title or None for title in titles]
    row = pl.DataFrame([cells], schema=dict.fromkeys(frame.columns, pl.String), orient="row")
    with path.open("wb") as file:
        row.write_csv(file, separator=separator, include_header=False)
        frame.write_csv(file, separator=separator, include_header=False)


def _formulas(texts: pl.Series) -> pl.Series:
    return texts.str.contains(_FORMULA) & ~texts.str.contains(_NO_FORMULA)


def _without_zeros(frame: pl.DataFrame) -> pl.DataFrame:
    """Return times as text such as ``08:00:00``, with a fraction only if there is one."""
    return frame.with_columns(
        frame[name].dt.to_string("%H:%M:%S%.f" if kind == pl.Time else "%Y-%m-%dT%H:%M:%S%.f")
        for name, kind in frame.schema.items()
        if kind == pl.Time or (isinstance(kind, pl.Datetime) and kind.time_zone is None)
    )


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Lists and records become JSON, bytes Base64, durations ISO 8601."""
    changed = []
    for name, kind in frame.schema.items():
        cells = frame[name]
        if kind.is_nested():
            made = [None if cell is None else _json(cell) for cell in cells.to_list()]
            changed.append(pl.Series(name, made, dtype=pl.String))
        elif kind == pl.Binary:
            changed.append(cells.bin.encode("base64"))
        elif kind == pl.Duration:
            changed.append(cells.dt.to_string("iso"))
        elif isinstance(kind, pl.Categorical | pl.Enum):
            changed.append(cells.cast(pl.String))
    return frame.with_columns(changed)


def _json(cell: Any) -> str:
    def other(value: object) -> str:
        return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)

    return json.dumps(cell, default=other, ensure_ascii=False)
