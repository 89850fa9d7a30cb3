"""Times as they are stored and sent: UTC strings whose order is chronological."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def utc_now(after_seconds: float = 0.0) -> str:
    """Return the time ``after_seconds`` from now: UTC, ISO 8601, microseconds, ``Z``."""
    moment = datetime.now(UTC) + timedelta(seconds=after_seconds)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Parse a time that ``utc_now`` returned."""
    return datetime.fromisoformat(text)
