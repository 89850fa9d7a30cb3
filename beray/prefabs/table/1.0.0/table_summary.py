"""What columns have in them, and groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from table_names import BadInput, suggestion, unique
from table_values import plain

_MEASURES: dict[str, Callable[[pl.Expr], pl.Expr]] = {
    "sum": pl.Expr.sum,
    "mean": pl.Expr.mean,
    "median": pl.Expr.median,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "std": pl.Expr.std,
    "count": pl.Expr.count,
    "distinct": lambda cells: cells.drop_nulls().n_unique(),
}
_OF_NUMBERS = {"sum", "mean", "median", "std"}


def of_columns(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """A row for each column."""
    rows = [_of_column(frame[column]) for column in dict.fromkeys(columns)]
    texts = ("column", "type", "least", "largest")
    numbers = ("mean", "median", "deviation")
    schema = {
        name: pl.String if name in texts else pl.Float64 if name in numbers else pl.Int64
        for name in (*texts[:2], "count", "empty", "distinct", *texts[2:], *numbers)
    }
    return pl.DataFrame(rows, schema=schema)


def _of_column(cells: pl.Series) -> dict[str, Any]:
    numbers = cells.dtype.is_numeric()
    ordered = not cells.dtype.is_nested() and cells.dtype != pl.Binary
    values = cells.cast(pl.Float64) if numbers else pl.Series([], dtype=pl.Float64)
    return {
        "column": cells.name,
        "type": str(cells.dtype),
        "count": len(cells) - cells.null_count(),
        "empty": cells.null_count(),
        "distinct": cells.drop_nulls().n_unique() if ordered else None,
        "least": _text(cells.min()) if ordered else None,
        "largest": _text(cells.max()) if ordered else None,
        "mean": values.mean(),
        "median": values.median(),
        "deviation": values.std(),
    }


def of_groups(
    frame: pl.DataFrame, group_by: Sequence[str], columns: Sequence[str], measures: Sequence[str]
) -> pl.DataFrame:
    """A row for each group: how many rows it has, and each measure of each column.

    Raises:
        BadInput: a measure is not known, or is not one of such a column.
    """
    groups = list(dict.fromkeys(group_by))
    chosen = list(dict.fromkeys(columns)) or [
        name for name, kind in frame.schema.items() if kind.is_numeric() and name not in groups
    ]
    for name in groups:
        if frame.schema[name].is_nested():
            raise BadInput(f"{name}: its cells make no groups")
    pairs = [(column, measure) for column in chosen for measure in dict.fromkeys(measures)]
    for column, measure in pairs:
        _check(column, measure, frame.schema[column])
    names = unique([*groups, "rows", *(f"{column}_{measure}" for column, measure in pairs)])
    made = [
        _MEASURES[measure](pl.col(column)).alias(name)
        for (column, measure), name in zip(pairs, names[len(groups) + 1 :], strict=True)
    ]
    found = frame.group_by(groups).agg(pl.len().alias(names[len(groups)]), *made)
    return found.sort(groups, nulls_last=True)


def _check(column: str, measure: str, kind: pl.DataType) -> None:
    if measure not in _MEASURES:
        hint = suggestion(measure, list(_MEASURES), "measures")
        raise BadInput(f"measures: unknown measure {measure!r}; {hint}")
    if measure in _OF_NUMBERS and not kind.is_numeric():
        raise BadInput(f"{column}: {kind} has no {measure}; use min, max, count or distinct")
    if kind.is_nested() and measure != "count":
        raise BadInput(f"{column}: {kind} has no {measure}")


def _text(value: object) -> str | None:
    return None if value is None else str(plain(value))
