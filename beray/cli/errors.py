"""Exit statuses and messages of errors."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import TracebackType
from typing import Final

from beray.exceptions import APIError, BeRayException, RateLimitError, TargetsExist
from beray.sanitize import printable

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130


def error_text(error: BeRayException) -> str:
    """Return the message for ``error``: the server's message if it sent one, and the next step."""
    text = str(error)
    if isinstance(error, APIError):
        text = f"{error.reason} ({error.status_code})"
        if error.status_code == 401 and not error.path.startswith("/auth/"):
            token_hint = " or correct BERAY_TOKEN" if os.environ.get("BERAY_TOKEN") else ""
            text += f"; sign in with `beray login`{token_hint}"
    if isinstance(error, RateLimitError) and error.retry_after:
        text += f"; try again in {error.retry_after:.0f} s"
    return "; ".join([text, *getattr(error, "__notes__", ())])


def os_error_text(error: OSError) -> str:
    """Return the file name, if there is one, and the reason of ``error``."""
    if isinstance(error, TargetsExist):
        return error.reason
    if error.strerror is None:
        return str(error)
    if error.filename is None:
        return error.strerror
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def install_excepthooks() -> None:
    """Sanitize tracebacks of unexpected exceptions: they may contain control characters."""

    def show(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = show
    threading.excepthook = lambda args: show(args.exc_type, args.exc_value, args.exc_traceback)
