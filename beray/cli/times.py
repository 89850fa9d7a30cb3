"""Times and durations as people write and read them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import typer

_DURATION: Final = re.compile(r"(\d{1,9}) ?([smhdw])", re.ASCII | re.IGNORECASE)
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_duration(text: str | float) -> float:
    """Return the seconds of a duration such as ``90d``, ``12h``, ``30m`` or ``2w``.

    Raises:
        typer.BadParameter: ``text`` is not a duration, or is 0.
    """
    if not isinstance(text, str):
        return text  # typer passes defaults as well
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNIT_SECONDS[match[2].lower()] if match else 0
    if match and not seconds:
        raise typer.BadParameter(f"expected a duration above 0, such as 90d, got {text[:100]!r}")
    if not seconds:
        raise typer.BadParameter(
            "expected a number with the unit w, d, h, m or s, such as 90d or 12h, got "
            f"{text[:100]!r}"
        )
    return float(seconds)


def day(time: str | None) -> str:
    """Return the date of a wire time; "" if the time is missing."""
    return (time or "")[:10]


def age(created_at: str | None, now: datetime) -> str:
    """Return the time since a wire time in its largest unit; "" if the time is invalid."""
    try:
        seconds = int((now - datetime.fromisoformat(created_at or "")).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
