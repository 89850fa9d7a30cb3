"""Conditions and orders as expressions: data, never code."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import reduce
from typing import Any, TypeGuard

import polars as pl

from table_names import BadInput, require, suggestion
from table_types import NUMBER, typed

_COMPARISONS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "=": operator.eq,
    "!=": lambda cell, value: cell.ne_missing(value),
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ORDERS = ("<", "<=", ">", ">=")
_TEXTS: dict[str, Callable[[pl.Expr, str], pl.Expr]] = {
    "contains": lambda cell, value: cell.str.contains(value, literal=True),
    "starts": lambda cell, value: cell.str.starts_with(value),
    "ends": lambda cell, value: cell.str.ends_with(value),
    "matches": lambda cell, value: cell.str.contains(value),
}
_LONGEST_PATTERN = 1000
_EXAMPLES: tuple[tuple[Callable[[pl.DataType], bool], str], ...] = (
    (lambda kind: kind == pl.Boolean, "true or false"),
    (lambda kind: kind.is_numeric(), "a number such as 1.5"),
    (lambda kind: kind == pl.Date, "a date such as 2025-01-31"),
    (lambda kind: kind == pl.Datetime, "a time such as 2025-01-31T08:00:00"),
    (lambda kind: kind == pl.Time, "a time such as 08:00:00"),
    (lambda kind: kind == pl.Duration, "a number of seconds"),
    (lambda kind: kind == pl.String, "text"),
)


def met(frame: pl.DataFrame, where: Sequence[Mapping[str, Any]], match: str) -> pl.Expr:
    """Whether a row meets all of ``where``, or any; without any, each does.

    Raises:
        BadInput: a condition does not fit the table.
    """
    conditions = [_condition(frame, one).fill_null(False) for one in where]
    if not conditions:
        return pl.repeat(True, frame.height, dtype=pl.Boolean)
    return reduce(operator.and_ if match == "all" else operator.or_, conditions)


def compared_as_text(frame: pl.DataFrame, where: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be said where a column of texts is compared with what is rather no text.

    As texts, "10" comes before "9", and "5.0" is not "5".
    """
    said: list[str] = []
    for one in where:
        column, op, value = str(one.get("column")), str(one.get("op")), one.get("value")
        if frame.schema[column] != pl.String or op not in (*_COMPARISONS, "in", "not in"):
            continue
        values = value if isinstance(value, list) else [value]
        if any(isinstance(each, int | float) for each in values) or (
            op in _ORDERS and typed(pl.DataFrame({"value": [str(value)]})).dtypes != [pl.String]
        ):
            said.append(f"{column} {op}: the column is text and was compared as text")
    return list(dict.fromkeys(said))


def order(frame: pl.DataFrame, sort: Sequence[str]) -> pl.Series:
    """The places of the rows in the order of the columns ``sort``; equal ones stay as they are.

    Raises:
        BadInput: there is no such column, or it has no order.
    """
    columns, descending = [], []
    for wish in sort:
        down = wish.startswith("-") and wish not in frame.columns
        column = wish[1:] if down else wish
        require(frame, column)
        if frame.schema[column].is_nested():
            raise BadInput(f"{column}: its cells have no order")
        columns.append(pl.col(column))
        descending.append(down)
    places = pl.arg_sort_by(columns, descending=descending, nulls_last=True, maintain_order=True)
    return frame.select(places.alias("place")).to_series()


def sorted_as_text(frame: pl.DataFrame, sort: Sequence[str]) -> list[str]:
    """What is to be said where numbers among texts would stand in another order as numbers."""
    said = []
    for wish in sort:
        cells = frame[wish if wish in frame.columns else wish.removeprefix("-")]
        if cells.dtype == pl.String:
            numbers = cells.drop_nulls().filter(cells.drop_nulls().str.contains(NUMBER))
            if not numbers.sort().cast(pl.Float64).is_sorted():
                said.append(f"{cells.name}: the column is text and was sorted as text")
    return list(dict.fromkeys(said))


def _condition(frame: pl.DataFrame, one: Mapping[str, Any]) -> pl.Expr:
    column, op, value = str(one.get("column")), one.get("op"), one.get("value")
    require(frame, column)
    kind = frame.schema[column]
    cell = pl.col(column)
    if op in ("empty", "not empty"):
        empty = cell.is_null()
        if kind == pl.String:
            empty = empty | (cell.str.strip_chars() == "")
        return empty if op == "empty" else ~empty
    if value is None:
        raise BadInput(f"{column} {op}: a value is needed; use the op 'empty' to find empty cells")
    if op in ("in", "not in"):
        if not isinstance(value, list) or len(value) > 10_000:
            raise BadInput(f"{column} {op}: the value must be a list of at most 10,000 items")
        values = pl.Series([_fitting(column, kind, each) for each in value], dtype=kind)
        inside = cell.is_in(values.implode())
        return inside if op == "in" else ~inside
    if op in _TEXTS:
        return _TEXTS[op](cell.cast(pl.String), _text(column, op, value, kind))
    if op not in _COMPARISONS:
        raise BadInput(f"{column}: unknown op {op!r}; {suggestion(str(op), _all_names(), 'ops')}")
    return _COMPARISONS[op](cell, pl.lit(_fitting(column, kind, value)))


def _all_names() -> list[str]:
    return [*_COMPARISONS, "in", "not in", *_TEXTS, "empty", "not empty"]


def _text(column: str, op: str, value: object, kind: pl.DataType) -> str:
    if not isinstance(value, str):
        raise BadInput(f"{column} {op}: the value must be text, got {value!r}")
    if kind.is_nested() or kind == pl.Binary:
        raise BadInput(f"{column} {op}: cells of the type {kind} have no text")
    if op == "matches":
        if len(value) > _LONGEST_PATTERN:
            size = f"{len(value):,} characters, at most {_LONGEST_PATTERN:,}"
            raise BadInput(f"{column} matches: the regular expression is too long ({size})")
        try:
            pl.Series([""]).str.contains(value)
        except pl.exceptions.PolarsError as error:
            lines = str(error).splitlines()
            cause = next((line for line in lines if line.startswith("error: ")), lines[0])
            reason = f"is not a valid regular expression: {cause.removeprefix('error: ')}"
            raise BadInput(f"{column} matches: {value!r} {reason}") from None
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fitting(column: str, kind: pl.DataType, value: object) -> Any:
    """``value`` as what is in the column.

    Raises:
        BadInput: it cannot be compared with that.
    """
    try:
        if kind == pl.Boolean:
            said = str(value).lower()
            if said in ("true", "false"):
                return said == "true"
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
    example = next((form for fits, form in _EXAMPLES if fits(kind)), "the same type")
    raise BadInput(
        f"{column}: {value!r} cannot be compared with the column's type, {kind}; pass {example}"
    )
