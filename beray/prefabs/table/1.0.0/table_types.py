"""Type detection for the columns of text files: numbers, dates, times and booleans."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import polars as pl

from table_columns import abbreviated_list

_INTEGER = r"^-?(0|[1-9]\d{0,17})$"
NUMBER = (
    r"^(-?((0|[1-9]\d{0,14})(\.\d{0,17})?|\.\d{1,17})|\+((0|[1-9]\d{0,5})(\.\d{0,17})?|\.\d{1,17}))"
    r"([eE][+-]?\d{1,2})?$"
)
"""A ``+`` with more than six digits is the beginning of a phone number."""
_NOT_FINITE = r"(?i)^([+-]?inf(inity)?|[+-]?nan)$"
_BOOLEAN = r"^(true|false|True|False|TRUE|FALSE)$"
_DATE = r"^\d{4}-\d\d-\d\d$"
_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?$"

_SPACES = "'\u2019 \u00a0\u202f"
_INTEGER_PART = r"^[+-]?(0|[1-9]\d{0,14}|[1-9]\d{0,2}"
_WITH_COMMA = rf"{_INTEGER_PART}([.{_SPACES}]\d{{3}}){{1,4}})(,\d{{1,17}})?$"
_WITH_POINT = rf"{_INTEGER_PART}([,{_SPACES}]\d{{3}}){{1,4}})(\.\d{{1,17}})?$"
_LIKE_NUMBER = (
    rf"^[+-]?\(?[+-]?[\p{{Sc}}]?\s?(\p{{Lu}}{{3}}\s?)?[+-]?[\d.,{_SPACES}]*\d[\d.,{_SPACES}]*"
    r"([eE][+-]?\d+)?\)?\s?(-|%|‰|\p{Sc}|\p{Lu}{3})?$"
)
_LIKE_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}\.?")
_IDENTIFIER = r"^([+-]?0\d+|[+-]?\d{16,}|\+\d{7,})$"
"""Postal codes, phone numbers and long numbers stay text without a message."""
_SAMPLE = 10_000


@dataclass(frozen=True)
class _Column:
    cells: pl.Series
    note: str = ""
    """Category of a message about the column."""
    example: str = ""


_NOTES = {
    "local": "numbers with decimal commas or thousands separators are read as numbers",
    "not finite": "NaN is read as an empty cell and inf as infinite",
    "text": "columns stay text although most of their cells look like numbers",
}


def typed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the table with each column converted to the type that all of its cells have."""
    return typed_columns(frame)[0]


def typed_columns(frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """Return the table with typed columns, and messages about notations of numbers.

    Numbers with leading zeros, such as postal codes, and numbers with more digits than the type
    can represent stay text.
    """
    columns = [_typed(frame[name]) for name in frame.columns]
    notes: dict[str, list[str]] = defaultdict(list)
    for column in columns:
        if column.note:
            notes[column.note].append(f"{column.cells.name} ({column.example})")
    problems = [f"{_NOTES[note]}: {abbreviated_list(found)}" for note, found in notes.items()]
    return frame.select([column.cells for column in columns]), problems


def _typed(original: pl.Series) -> _Column:
    if original.dtype != pl.String or original.null_count() == len(original):
        return _Column(original)
    cells = original.str.strip_chars()
    cells = cells.set(cells == "", None)
    if cells.null_count() == len(cells):
        return _Column(original)
    if _all(cells, _INTEGER):
        return _Column(cells.cast(pl.Int64))
    if _all(cells, _BOOLEAN):
        return _Column(cells.str.to_lowercase() == "true")
    if _all(cells, _DATE):
        dates = cells.str.to_date("%Y-%m-%d", strict=False)
        return _Column(dates if dates.null_count() == cells.null_count() else original)
    if _all(cells, _TIME):
        # Normalize to one format, with "T" and seconds.
        full = cells.str.replace(" ", "T").str.replace(r"(T\d\d:\d\d)$", "${1}:00")
        times = full.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
        return _Column(times if times.null_count() == cells.null_count() else original)
    return _number(cells) or _text(original, cells)


def _number(cells: pl.Series) -> _Column | None:
    """Return a column of numbers; None if a cell is not a number or is ambiguous."""
    not_finite = cells.str.contains(_NOT_FINITE).fill_null(False)
    finite = cells.set(not_finite, None)
    if finite.null_count() == len(finite):
        return None
    if _all(finite, NUMBER):
        numbers, note, example = finite.str.strip_prefix("+").cast(pl.Float64), "", ""
    elif (localized := _localized_numbers(finite)) is not None:
        numbers, note = localized, "local"
        example = _quoted(finite.filter(finite.str.contains(rf"[.,{_SPACES}]")), 0)
    else:
        return None
    if not_finite.any():
        at = int(not_finite.arg_true()[0])
        note, example = "not finite", f"{_quoted(cells, at)} in row {at + 1:,}"
        infinite = not_finite & cells.str.contains("(?i)inf")
        values = pl.when(cells.str.starts_with("-")).then(-float("inf")).otherwise(float("inf"))
        numbers = numbers.zip_with(~infinite, pl.select(values.alias("inf")).to_series())
    return _Column(numbers, note, example)


def _localized_numbers(cells: pl.Series) -> pl.Series | None:
    """Return numbers with decimal commas, or with commas, points or spaces between thousands."""
    if cells.str.contains(_IDENTIFIER).any():
        return None
    found = []
    for pattern, group, decimal in ((_WITH_COMMA, ".", ","), (_WITH_POINT, ",", ".")):
        if _all(cells, pattern):
            normalized = cells.str.replace_all(f"[{group}{_SPACES}+]", "").str.replace(
                decimal, ".", literal=True
            )
            found.append(normalized.cast(pl.Float64))
    if len(found) == 2 and not found[0].equals(found[1]):
        return None  # ambiguous, such as 1,234 alone
    return found[0] if found else None


def _text(original: pl.Series, cells: pl.Series) -> _Column:
    """Return a column unchanged, with a message if most of its cells look like numbers."""
    sample = cells.drop_nulls().head(_SAMPLE)
    number_like = sample.str.contains(_LIKE_NUMBER) | sample.str.contains(_NOT_FINITE)
    if int(number_like.sum()) * 2 <= len(sample):
        return _Column(original)
    other = ~(cells.str.contains(NUMBER) | cells.str.contains(_IDENTIFIER)).fill_null(True)
    if not other.any():
        return _Column(original)
    at = int(other.arg_true()[0])
    reason = _reason(str(cells[at]), cells)
    return _Column(original, "text", f"{_quoted(cells, at)} in row {at + 1:,}: {reason}")


def _reason(cell: str, cells: pl.Series) -> str:
    if "%" in cell or "‰" in cell:
        return "percent sign"
    if _LIKE_DATE.fullmatch(cell):
        return "dates are read as 2025-01-31 only"
    if _all(cells, _WITH_COMMA) and _all(cells, _WITH_POINT):
        return "a decimal or a thousands separator?"
    if re.search(r"[.,]\d", cell) and re.fullmatch(rf"[+-]?[\d.,{_SPACES}]+", cell):
        return "does not fit the notation of the other cells"
    if re.search(r"\d", cell) and re.search(r"[^\d.,\s'’+-]", cell):
        return "currency, unit or other text"
    return "not a number"


def _quoted(cells: pl.Series, at: int) -> str:
    text = str(cells[at])
    return repr(text if len(text) <= 40 else text[:39] + "…")


def _all(cells: pl.Series, pattern: str) -> bool:
    # The first cells are enough to reject most columns.
    return all(part.str.contains(pattern).all() is not False for part in (cells.head(100), cells))
