"""Limit of repeated log lines: a flood of requests must not become a flood of the log."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Final

MOST_LINES: Final = 10
PERIOD_SECONDS: Final = 1.0
_MOST_WINDOWS: Final = 1000

_Key = tuple[str, int, str]


@dataclass(slots=True)
class _Window:
    """The lines of one event in one period."""

    began: float
    count: int = 0


class Throttle(logging.Filter):
    """Filter that passes the first ``most`` lines of an event in each period.

    One line at the end of the period counts the others. Lines are of the same event if they have
    the same logger, level and message, whatever values they carry: for structlog the event's
    name, otherwise the message before its arguments are put in.

    Args:
        handler: writes the lines that count.
        most: lines of one event in one period.
        seconds: the length of a period.
    """

    def __init__(
        self,
        handler: logging.Handler,
        most: int = MOST_LINES,
        seconds: float = PERIOD_SECONDS,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._most = most
        self._seconds = seconds
        self._windows: dict[_Key, _Window] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record, _Summary):
            return True
        key = (record.name, record.levelno, _event(record))
        now = time.monotonic()
        with self._lock:
            window = self._windows.get(key)
            if window is None or (now - window.began >= self._seconds and not self._hides(window)):
                if len(self._windows) >= _MOST_WINDOWS:
                    self._forget(now)
                window = self._windows[key] = _Window(now)
            window.count += 1
            if window.count == self._most + 1 and not self._report_later(key):
                del self._windows[key]  # count again from the next line on
            return not self._hides(window)

    def _report_later(self, key: _Key) -> bool:
        timer = threading.Timer(self._seconds, self._report, [key])
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # there is no thread for it
            return False
        return True

    def _hides(self, window: _Window) -> bool:
        return window.count > self._most

    def _forget(self, now: float) -> None:
        """Drop the windows that are over and have nothing to report."""
        self._windows = {
            key: window
            for key, window in self._windows.items()
            if self._hides(window) or now - window.began < self._seconds
        }

    def _report(self, key: _Key) -> None:
        with self._lock:
            window = self._windows.pop(key)
        name, level, event = key
        text = f"{event} ({window.count - self._most:,} more of these lines were left out)"
        self._handler.handle(_Summary(name, level, "", 0, text, None, None))


class _Summary(logging.LogRecord):
    """A line that counts others; it is not counted itself."""


def _event(record: logging.LogRecord) -> str:
    message = record.msg
    return str(message.get("event")) if isinstance(message, dict) else str(message)
