"""Conversion of cells to JSON for previews, which people and language models read."""

from __future__ import annotations

import base64
import math
from datetime import date, datetime, time, timedelta
from typing import Any

import polars as pl

_MAX_COLUMNS = 100
_MAX_TEXT_CHARACTERS = 200
_MAX_ITEMS = 20
_MAX_DEPTH = 4


def preview_rows(frame: pl.DataFrame, rows: int) -> list[dict[str, Any]]:
    """Return the first rows with at most 100 columns and long strings truncated."""
    part = frame.head(rows).select(frame.columns[:_MAX_COLUMNS])
    return [
        {_truncated(name): to_json(cell) for name, cell in row.items()} for row in part.to_dicts()
    ]


def preview_columns(frame: pl.DataFrame) -> list[str]:
    """Return the names of the first 1,000 columns."""
    return [_truncated(name) for name in frame.columns[:1000]]


def to_json(cell: Any, depth: int = 0) -> Any:
    """Convert a cell to a JSON value.

    Dates become ISO 8601, durations seconds, bytes Base64, and integers beyond 53 bits strings.
    NaN and infinity become null.
    """
    if cell is None or isinstance(cell, bool | int):
        return cell if cell is None or abs(cell) < 2**53 else str(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, date | datetime | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return cell.total_seconds()
    if isinstance(cell, bytes):
        return _truncated(base64.b64encode(cell[:_MAX_TEXT_CHARACTERS]).decode())
    if isinstance(cell, list) and depth < _MAX_DEPTH:
        return [to_json(each, depth + 1) for each in cell[:_MAX_ITEMS]]
    if isinstance(cell, dict) and depth < _MAX_DEPTH:
        items = list(cell.items())[:_MAX_ITEMS]
        return {_truncated(str(key)): to_json(value, depth + 1) for key, value in items}
    return _truncated(str(cell))


def _truncated(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARACTERS else text[: _MAX_TEXT_CHARACTERS - 1] + "…"
