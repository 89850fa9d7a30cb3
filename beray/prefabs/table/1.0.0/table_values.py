"""Cells as JSON, for results that people and models read."""

from __future__ import annotations

import base64
import math
from datetime import date, datetime, time, timedelta
from typing import Any

import polars as pl

_MOST_COLUMNS = 100
_LONGEST_TEXT = 200
_MOST_ITEMS = 20
_DEEPEST = 4


def shown_rows(frame: pl.DataFrame, rows: int) -> list[dict[str, Any]]:
    """The first rows: at most 100 columns, long texts cut."""
    part = frame.head(rows).select(frame.columns[:_MOST_COLUMNS])
    return [{_cut(name): plain(cell) for name, cell in row.items()} for row in part.to_dicts()]


def shown_columns(frame: pl.DataFrame) -> list[str]:
    """Its first thousand columns."""
    return [_cut(name) for name in frame.columns[:1000]]


def plain(cell: Any, depth: int = 0) -> Any:
    """A cell as JSON has it: dates as ISO 8601, what is no number as nothing."""
    if cell is None or isinstance(cell, bool | int):
        return cell if cell is None or abs(cell) < 2**53 else str(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, date | datetime | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, bytes):
        return _cut(base64.b64encode(cell[:_LONGEST_TEXT]).decode())
    if isinstance(cell, list) and depth < _DEEPEST:
        return [plain(each, depth + 1) for each in cell[:_MOST_ITEMS]]
    if isinstance(cell, dict) and depth < _DEEPEST:
        items = list(cell.items())[:_MOST_ITEMS]
        return {_cut(str(key)): plain(value, depth + 1) for key, value in items}
    return _cut(str(cell))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
