"""Processes that are killed at a chosen point: before a change of a file, or around a commit."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, event

_CHANGES: Final = frozenset(
    {
        "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.symlink",
        "os.utime", "os.truncate",
    }
)  # fmt: skip
"""Audit events before which the process is killed."""


def runs_to_end(operation: Callable[[Callable[[], None]], Any], kill_at: int) -> bool:
    """Run an operation in a child process, which is killed with SIGKILL at a point.

    Args:
        operation: Receives a function to call where the counting of points begins.
        kill_at: Number of the point, from 1.

    Returns:
        True if the operation ended before the point.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            operation(lambda: _kill_at(kill_at))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


def _kill_at(number: int) -> None:
    left = number

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_audit(name: str, arguments: tuple[Any, ...]) -> None:
        # Reading is harmless.
        if name in _CHANGES and not (name == "open" and arguments[1] in ("r", "rb")):
            count()

    sys.addaudithook(on_audit)
    event.listen(Engine, "commit", count)
