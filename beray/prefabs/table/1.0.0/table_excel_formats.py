"""Number formats of Excel (ECMA-376, 18.8.30), which define dates, times and durations."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

_BUILT_IN = {
    **dict.fromkeys([*range(14, 18), *range(27, 32), 36, *range(50, 55), 57, 58], "date"),
    **dict.fromkeys([18, 19, 20, 21, *range(32, 36), 45, 47, 55, 56], "time"),
    22: "datetime",
    46: "duration",
}
_FORMAT = re.compile(r"<(?:\w+:)?numFmt\s[^>]*>")
_CELL_STYLES = re.compile(r"<(?:\w+:)?cellXfs\b[^>]*>(.*?)</(?:\w+:)?cellXfs>", re.DOTALL)
_STYLE = re.compile(r"<(?:\w+:)?xf\b[^>]*>")
_ATTRIBUTE = re.compile(r"""([\w:]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.')
_ELAPSED = re.compile(r"\[(?:h+|m+|s+)\]")
_BRACKETS = re.compile(r"\[[^\]]*\]|am/pm|a/p|general")
_DAY_MILLISECONDS = 86_400_000
_LAST_DAY = 2_958_465
"""Serial number of 9999-12-31."""
_MIN_DATETIME_DAYS = 61
"""Smaller values in cells with a time format are durations, not datetimes in early 1900."""


class CellKind(StrEnum):
    """Type of a cell's value."""

    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    TIME = "time"
    DURATION = "duration"


def attributes(tag: str) -> dict[str, str]:
    """Return the attributes of an XML tag."""
    return {
        name: html.unescape(double or single) for name, double, single in _ATTRIBUTE.findall(tag)
    }


def cell_styles(archive: zipfile.ZipFile, part: str) -> list[str]:
    """Return ``date``, ``time``, ``datetime``, ``duration`` or ``""`` for each cell style."""
    if part not in archive.namelist():
        return []
    text = archive.read(part).decode(errors="replace")
    custom = {
        tag.get("numFmtId"): format_kind(tag.get("formatCode", ""))
        for tag in map(attributes, _FORMAT.findall(text))
    }
    found = _CELL_STYLES.search(text)
    return list(_style_kinds(found[1], custom)) if found else []


def _style_kinds(styles: str, custom: dict[str | None, str]) -> Iterator[str]:
    for tag in map(attributes, _STYLE.findall(styles)):
        number = tag.get("numFmtId", "0")
        built_in = _BUILT_IN.get(int(number), "") if number.isdecimal() else ""
        yield custom.get(number, built_in)


def format_kind(code: str) -> str:
    """Return ``date``, ``time``, ``datetime``, ``duration`` or ``""`` for a format code."""
    first = _LITERAL.sub("", code).split(";")[0].lower()
    if _ELAPSED.search(first):
        return "duration"
    letters = set(_BRACKETS.sub("", first))
    has_time = bool(letters & {"h", "s"})
    has_date = bool(letters & {"y", "d"}) or ("m" in letters and not has_time)
    if has_date and has_time:
        return "datetime"
    return "date" if has_date else "time" if has_time else ""


def value_kind(style: str, value: float) -> CellKind:
    """Return the type of a number in a cell of this style.

    The type also depends on the value: a time of more than a day is a duration, and a number
    outside the range of valid dates stays a number.
    """
    if not style:
        return CellKind.NUMBER
    if style == "duration":
        return CellKind.DURATION
    if style == "time" and (value < 0 or 1 <= value < _MIN_DATETIME_DAYS):
        return CellKind.DURATION
    if not 0 <= value < _LAST_DAY + 1:
        return CellKind.NUMBER
    if value < 1:
        return CellKind.NUMBER if style == "date" else CellKind.TIME
    return CellKind.DATE if style == "date" and value == int(value) else CellKind.DATETIME


def format_value(kind: CellKind, value: float, *, from_1904: bool) -> str:
    """Format a number as text: ISO 8601 for dates, ``08:00:00`` for times and durations."""
    if kind == CellKind.NUMBER:
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.15g}"
    if kind in (CellKind.TIME, CellKind.DURATION):
        return _clock_text(round(abs(value) * _DAY_MILLISECONDS), "-" if value < 0 else "")
    moment = datetime(1970, 1, 1) + timedelta(milliseconds=_since_1970(value, from_1904))
    if kind == CellKind.DATE:
        return moment.date().isoformat()
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds")


def _clock_text(milliseconds: int, sign: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    text = f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{rest:03}" if rest else text


def epoch_days(from_1904: bool) -> int:
    """Return the offset from serial numbers of 61 or more to days since 1970-01-01."""
    return -24_107 if from_1904 else -25_569


def _since_1970(value: float, from_1904: bool) -> int:
    # Excel counts 1900-02-29, which did not exist, as day 60.
    days = value + 1 if value < 60 and not from_1904 else value
    return round((days + epoch_days(from_1904)) * _DAY_MILLISECONDS)
