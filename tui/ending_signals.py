"""Ordered exit of the dashboard on SIGTERM, SIGHUP and SIGQUIT, with the terminal restored."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import AbstractContextManager, suppress
from types import FrameType
from typing import Any, Final

from textual.app import App

GRACE_SECONDS: Final = 3.0
"""Time for an ordered exit; afterwards the terminal is restored and the process ends at once."""
RESET: Final = (
    "\x1b[?2004l"  # bracketed paste
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l"  # mouse
    "\x1b[?1004l"  # focus reports
    "\x1b[?2048l"  # size reports
    "\x1b[<u"  # Kitty's keyboard protocol
    "\x1b[?7h"  # line wrap
    "\x1b[?1049l\x1b[?25h\x1b[0m"  # alternate screen, cursor, colours
)
"""Resets every mode that Textual sets (XTerm control sequences, DECSET)."""
_NAMES: Final = ("SIGTERM", "SIGHUP", "SIGQUIT")


class EndingSignals(AbstractContextManager["EndingSignals"]):
    """Context manager that handles the ending signals while ``app`` runs (main thread only).

    The first signal exits the app. A second one, or an app that does not exit in time, restores
    the terminal and ends the process. Signals that were ignored before stay ignored (nohup).
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self.received: int | None = None
        """Number of the signal that ended the app."""
        self._before: dict[int, Any] = {}
        self._timer = threading.Timer(GRACE_SECONDS, self._end_at_once)
        self._timer.daemon = True

    def __enter__(self) -> EndingSignals:
        self._attributes = _terminal_attributes()
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self._end_at_once()
        self.received = number
        self._timer.start()
        threading.Thread(target=self._exit_app, name="beray-exit", daemon=True).start()

    def _exit_app(self) -> None:
        # Called from a thread, because a signal handler may interrupt the event loop anywhere.
        with suppress(RuntimeError):  # not running yet, or not any more: the timer ends it
            self._app.call_from_thread(self._app.exit)

    def _end_at_once(self) -> None:
        assert self.received is not None
        with suppress(OSError):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, RESET.encode())
        _restore(self._attributes)
        os._exit(128 + self.received)


def _terminal_attributes() -> list[Any] | None:
    """Return the attributes of the terminal on stdin (termios), or ``None`` if there is none."""
    if sys.platform == "win32":
        return None
    import termios

    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _restore(attributes: list[Any] | None) -> None:
    if sys.platform == "win32" or attributes is None:
        return
    import termios

    with suppress(termios.error):
        termios.tcsetattr(0, termios.TCSANOW, attributes)
