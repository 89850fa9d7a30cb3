"""Limit of repeated log lines, so that a flood of requests does not flood the log."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

MAX_LINES: Final = 10
"""Maximum number of lines of one event in a period."""
PERIOD_SECONDS: Final = 1.0
_MAX_WINDOWS: Final = 1000
"""Number of windows from which expired ones are dropped."""

_Key = tuple[str, int, str]


@dataclass(slots=True)
class _Window:
    """Count of the lines of one event in one period."""

    began: float
    count: int = 0


class LogThrottle(logging.Filter):
    """Filter that passes the first ``max_lines`` lines of an event in each period.

    At the end of the period, one line reports the number of suppressed lines. Lines belong to the
    same event if they have the same logger, level and message. The message is the event's name for
    structlog, and otherwise the format string without its arguments.

    Args:
        handler: Handler that writes the lines with the numbers of suppressed lines.
        max_lines: Maximum number of lines of one event in a period.
        seconds: Length of a period.
    """

    def __init__(
        self,
        handler: logging.Handler,
        max_lines: int = MAX_LINES,
        seconds: float = PERIOD_SECONDS,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._max_lines = max_lines
        self._seconds = seconds
        self._windows: dict[_Key, _Window] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if the line is to be written."""
        if isinstance(record, _Summary):
            return True
        key = (record.name, record.levelno, _event(record))
        now = time.monotonic()
        with self._lock:
            window = self._windows.get(key)
            if window is None or (
                now - window.began >= self._seconds and not self._suppresses(window)
            ):
                if len(self._windows) >= _MAX_WINDOWS:
                    self._drop_expired(now)
                window = self._windows[key] = _Window(now)
            window.count += 1
            if window.count == self._max_lines + 1 and not self._schedule_summary(key):
                del self._windows[key]  # start a new count with the next line
            return not self._suppresses(window)

    def _schedule_summary(self, key: _Key) -> bool:
        """Write the summary at the end of the period; return False if that is not possible."""
        timer = threading.Timer(self._seconds, self._write_summary, [key])
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread can be started
            return False
        return True

    def _suppresses(self, window: _Window) -> bool:
        return window.count > self._max_lines

    def _drop_expired(self, now: float) -> None:
        """Drop the windows that have ended without suppressed lines."""
        self._windows = {
            key: window
            for key, window in self._windows.items()
            if self._suppresses(window) or now - window.began < self._seconds
        }

    def _write_summary(self, key: _Key) -> None:
        with self._lock:
            window = self._windows.pop(key)
        name, level, event = key
        text = f"{event} ({window.count - self._max_lines:,} more lines of this event suppressed)"
        self._handler.handle(_Summary(name, level, "", 0, text, None, None))


class _Summary(logging.LogRecord):
    """Line with the number of suppressed lines; it is not limited itself."""


def _event(record: logging.LogRecord) -> str:
    message = record.msg
    return str(message.get("event")) if isinstance(message, dict) else str(message)
