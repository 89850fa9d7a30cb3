"""SIGTERM, SIGHUP and SIGQUIT as exceptions, so that the command restores the terminal.

Prompts without echo, progress bars and answers drawn in place change the terminal and restore it
in ``finally`` blocks. The default action of these signals would skip them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

_NAMES: Final = ("SIGTERM", "SIGHUP", "SIGQUIT")


class Terminated(BaseException):
    """The process received the signal ``number``. Raised in the main thread."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise ``Terminated`` for the first of these signals, then end the process by the signal.

    A second signal ends the process at once. Ignored signals stay ignored (nohup).
    """
    received: list[int] = []
    handled: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> NoReturn:
        for other in handled:
            signal.signal(other, signal.SIG_DFL)
        received.append(number)
        raise Terminated(number)

    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
            handled.append(number)
    try:
        yield
    finally:
        if received and os.name == "posix":
            # The parent process sees the signal as the cause, as without handlers.
            os.kill(os.getpid(), received[0])
