"""Translation of conditions and sort orders, which are data, to Polars expressions."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import reduce
from typing import Any, TypeGuard

import polars as pl

from table_columns import TableInputError, require, suggestion
from table_types import NUMBER, typed

_COMPARISONS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "=": operator.eq,
    "!=": lambda cell, value: cell.ne_missing(value),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDER_OPERATORS = ("<", "<=", ">", ">=")
_TEXT_OPERATORS: dict[str, Callable[[pl.Expr, str], pl.Expr]] = {
    "contains": lambda cell, value: cell.str.contains(value, literal=True),
    "starts": lambda cell, value: cell.str.starts_with(value),
    "ends": lambda cell, value: cell.str.ends_with(value),
    "matches": lambda cell, value: cell.str.contains(value),
}
_MAX_PATTERN_CHARACTERS = 1000
_EXAMPLES: tuple[tuple[Callable[[pl.DataType], bool], str], ...] = (
    (lambda kind: kind == pl.Boolean, "true or false"),
    (lambda kind: kind.is_numeric(), "a number such as 1.5"),
    (lambda kind: kind == pl.Date, "a date such as 2025-01-31"),
    (lambda kind: kind == pl.Datetime, "a time such as 2025-01-31T08:00:00"),
    (lambda kind: kind == pl.Time, "a time such as 08:00:00"),
    (lambda kind: kind == pl.Duration, "a number of seconds"),
    (lambda kind: kind == pl.String, "text"),
)


def where_expression(
    frame: pl.DataFrame, where: Sequence[Mapping[str, Any]], match: str
) -> pl.Expr:
    """Return an expression that is true for the rows to select.

    Args:
        frame: The table.
        where: Conditions with ``column``, ``op`` and ``value``. Without any, all rows match.
        match: ``all`` or ``any``.

    Raises:
        TableInputError: A column does not exist, or a condition is invalid for its column.
    """
    conditions = [_condition(frame, each).fill_null(False) for each in where]
    if not conditions:
        return pl.repeat(True, frame.height, dtype=pl.Boolean)
    return reduce(operator.and_ if match == "all" else operator.or_, conditions)


def text_comparison_messages(frame: pl.DataFrame, where: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return messages about text columns that are compared with numbers or dates.

    As text, "10" comes before "9", and "5.0" differs from "5".
    """
    messages: list[str] = []
    for condition in where:
        column, op = str(condition.get("column")), str(condition.get("op"))
        value = condition.get("value")
        if frame.schema[column] != pl.String or op not in (*_COMPARISONS, "in", "not in"):
            continue
        values = value if isinstance(value, list) else [value]
        if any(isinstance(each, int | float) for each in values) or (
            op in _ORDER_OPERATORS
            and typed(pl.DataFrame({"value": [str(value)]})).dtypes != [pl.String]
        ):
            messages.append(f"{column} {op}: the column is text and was compared as text")
    return list(dict.fromkeys(messages))


def sort_order(frame: pl.DataFrame, sort: Sequence[str]) -> pl.Series:
    """Return the row indices in sorted order. The sort is stable, and empty cells come last.

    Args:
        frame: The table.
        sort: Names of columns; a ``-`` before a name sorts in descending order.

    Raises:
        TableInputError: A column does not exist, or has a type that cannot be sorted.
    """
    columns, descending = [], []
    for key in sort:
        is_descending = key.startswith("-") and key not in frame.columns
        column = key[1:] if is_descending else key
        require(frame, column)
        if frame.schema[column].is_nested():
            reason = f"columns of type {frame.schema[column]} cannot be sorted"
            raise TableInputError(f"{column}: {reason}")
        columns.append(pl.col(column))
        descending.append(is_descending)
    indices = pl.arg_sort_by(columns, descending=descending, nulls_last=True, maintain_order=True)
    return frame.select(indices.alias("index")).to_series()


def text_sort_messages(frame: pl.DataFrame, sort: Sequence[str]) -> list[str]:
    """Return messages about text columns whose numbers would sort differently as numbers."""
    messages = []
    for key in sort:
        cells = frame[key if key in frame.columns else key.removeprefix("-")]
        if cells.dtype == pl.String:
            numbers = cells.drop_nulls().filter(cells.drop_nulls().str.contains(NUMBER))
            if not numbers.sort().cast(pl.Float64).is_sorted():
                messages.append(f"{cells.name}: the column is text and was sorted as text")
    return list(dict.fromkeys(messages))


def _condition(frame: pl.DataFrame, condition: Mapping[str, Any]) -> pl.Expr:
    column, op = str(condition.get("column")), condition.get("op")
    value = condition.get("value")
    require(frame, column)
    kind = frame.schema[column]
    cell = pl.col(column)
    if op in ("empty", "not empty"):
        empty = cell.is_null()
        if kind == pl.String:
            empty = empty | (cell.str.strip_chars() == "")
        return empty if op == "empty" else ~empty
    if value is None:
        raise TableInputError(
            f"{column} {op}: a value is required; use the op 'empty' to find empty cells"
        )
    if op in ("in", "not in"):
        if not isinstance(value, list) or len(value) > 10_000:
            raise TableInputError(
                f"{column} {op}: the value must be a list of at most 10,000 items"
            )
        values = pl.Series([_operand(column, kind, each) for each in value], dtype=kind)
        inside = cell.is_in(values.implode())
        return inside if op == "in" else ~inside
    if op in _TEXT_OPERATORS:
        return _TEXT_OPERATORS[op](cell.cast(pl.String), _text_operand(column, op, value, kind))
    if op not in _COMPARISONS:
        raise TableInputError(
            f"{column}: unknown op {op!r}; {suggestion(str(op), _all_operators(), 'ops')}"
        )
    return _COMPARISONS[op](cell, pl.lit(_operand(column, kind, value)))


def _all_operators() -> list[str]:
    return [*_COMPARISONS, "in", "not in", *_TEXT_OPERATORS, "empty", "not empty"]


def _text_operand(column: str, op: str, value: object, kind: pl.DataType) -> str:
    if not isinstance(value, str):
        raise TableInputError(f"{column} {op}: the value must be text, got {value!r}")
    if kind.is_nested() or kind == pl.Binary:
        raise TableInputError(f"{column} {op}: not available for columns of type {kind}")
    if op == "matches":
        if len(value) > _MAX_PATTERN_CHARACTERS:
            size = f"{len(value):,} characters, at most {_MAX_PATTERN_CHARACTERS:,}"
            raise TableInputError(f"{column} matches: the regular expression is too long ({size})")
        try:
            pl.Series([""]).str.contains(value)
        except pl.exceptions.PolarsError as error:
            lines = str(error).splitlines()
            cause = next((line for line in lines if line.startswith("error: ")), lines[0])
            reason = f"is not a valid regular expression: {cause.removeprefix('error: ')}"
            raise TableInputError(f"{column} matches: {value!r} {reason}") from None
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _operand(column: str, kind: pl.DataType, value: object) -> Any:
    """Convert ``value`` to the type of the column.

    Raises:
        TableInputError: ``value`` cannot be converted to the type.
    """
    try:
        if kind == pl.Boolean:
            word = str(value).lower()
            if word in ("true", "false"):
                return word == "true"
        elif kind.is_numeric():
            if _is_number(value):
                return value if isinstance(value, float) or abs(value) < 2**63 else float(value)
            if isinstance(value, str):
                return float(value) if not value.strip().lstrip("-").isdecimal() else int(value)
        elif kind == pl.Date and isinstance(value, str):
            return date.fromisoformat(value)
        elif kind == pl.Datetime and isinstance(value, str):
            return datetime.fromisoformat(value)
        elif kind == pl.Time and isinstance(value, str):
            return time.fromisoformat(value)
        elif kind == pl.Duration and _is_number(value):
            return timedelta(seconds=float(value))
        elif kind == pl.String and isinstance(value, str | int | float):
            return str(value)
    except (ValueError, OverflowError):
        pass  # reported below, with the type
    example = next((form for matches, form in _EXAMPLES if matches(kind)), "the same type")
    raise TableInputError(
        f"{column}: {value!r} cannot be compared with the column's type, {kind}; pass {example}"
    )
