"""Summaries of columns and of groups of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from table_columns import TableInputError, suggestion, unique_names
from table_json import to_json

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
_NUMERIC_MEASURES = {"sum", "mean", "median", "std"}


def summarise_columns(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return a row of statistics for each column."""
    rows = [_column_statistics(frame[column]) for column in dict.fromkeys(columns)]
    texts = ("column", "type", "least", "largest")
    numbers = ("mean", "median", "deviation")
    schema = {
        name: pl.String if name in texts else pl.Float64 if name in numbers else pl.Int64
        for name in (*texts[:2], "count", "empty", "distinct", *texts[2:], *numbers)
    }
    return pl.DataFrame(rows, schema=schema)


def _column_statistics(cells: pl.Series) -> dict[str, Any]:
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


def summarise_groups(
    frame: pl.DataFrame, group_by: Sequence[str], columns: Sequence[str], measures: Sequence[str]
) -> pl.DataFrame:
    """Return a row for each group, with its number of rows and each measure of each column.

    Args:
        frame: The table.
        group_by: Columns whose equal values form a group.
        columns: Columns to summarise; empty for all columns of numbers.
        measures: Names of measures such as ``mean``.

    Raises:
        TableInputError: A measure is unknown or not available for the type of a column, or a
            column of ``group_by`` cannot be grouped.
    """
    groups = list(dict.fromkeys(group_by))
    selected = list(dict.fromkeys(columns)) or [
        name for name, kind in frame.schema.items() if kind.is_numeric() and name not in groups
    ]
    for name in groups:
        if frame.schema[name].is_nested():
            kind = frame.schema[name]
            raise TableInputError(f"group_by: column {name} of type {kind} cannot be grouped")
    pairs = [(column, measure) for column in selected for measure in dict.fromkeys(measures)]
    for column, measure in pairs:
        _check(column, measure, frame.schema[column])
    names = unique_names([*groups, "rows", *(f"{column}_{measure}" for column, measure in pairs)])
    aggregations = [
        _MEASURES[measure](pl.col(column)).alias(name)
        for (column, measure), name in zip(pairs, names[len(groups) + 1 :], strict=True)
    ]
    summary = frame.group_by(groups).agg(pl.len().alias(names[len(groups)]), *aggregations)
    return summary.sort(groups, nulls_last=True)


def _check(column: str, measure: str, kind: pl.DataType) -> None:
    if measure not in _MEASURES:
        hint = suggestion(measure, list(_MEASURES), "measures")
        raise TableInputError(f"measures: unknown measure {measure!r}; {hint}")
    if measure in _NUMERIC_MEASURES and not kind.is_numeric():
        reason = f"{measure} is not available for columns of type {kind}"
        raise TableInputError(f"{column}: {reason}; use min, max, count or distinct")
    if kind.is_nested() and measure != "count":
        reason = f"{measure} is not available for columns of type {kind}"
        raise TableInputError(f"{column}: {reason}; use count")


def _text(value: object) -> str | None:
    return None if value is None else str(to_json(value))
