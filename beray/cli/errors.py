"""The one boundary of the command: whatever goes wrong becomes a line and an exit status."""

from __future__ import annotations

import gc
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from beray.cli import output
from beray.cli.ending_signals import Terminated
from beray.exceptions import (
    APIError,
    BeRayException,
    ConfigurationError,
    InvalidArgument,
    RateLimitError,
)
from beray.sanitize import printable

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status; what goes wrong is one line on stderr."""
    output.prepare()
    status = _command(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        # What is left in stdout cannot be written; Python's own exit must not try again.
        output.discard_stdout()
        if status == DONE and not isinstance(error, BrokenPipeError):
            output.problem(_os_words(error))
        return status or FAILED
    return status


def _command(arguments: Sequence[str]) -> int:
    try:
        return _dashboard() if not arguments else _named(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated as signalled:
        return 128 + signalled.number
    except BeRayException as error:
        output.problem(words(error))
        wrong_usage = isinstance(error, (ConfigurationError, InvalidArgument))
        return WRONG_USAGE if wrong_usage else FAILED
    except FileExistsError as error:
        from beray.transfers.local_files import OVERWRITE_HINT

        text = _os_words(error).removesuffix(OVERWRITE_HINT)
        output.problem(f"{text}; --force overwrites")
        return FAILED
    except OSError as error:
        output.problem(_os_words(error))
        return FAILED
    except UnicodeError:
        output.problem("a name or a text here is not valid Unicode and cannot be sent or read")
        return FAILED
    except SystemExit as leaving:
        # typer ends the program itself where the reader of stdout has left, as `head` does.
        output.discard_stdout()
        return leaving.code if isinstance(leaving.code, int) else FAILED


def _dashboard() -> int:
    """Without arguments there is nothing to parse, so that its first screen is there sooner."""
    gc.disable()  # nothing that is imported becomes garbage; ``tui.run`` enables it
    from beray.cli import dashboard
    from beray.cli.context import Choice

    return dashboard.show(Choice())


def _named(arguments: Sequence[str]) -> int:
    import typer

    from beray.cli.app import app

    command = typer.main.get_command(app)
    try:
        result = command.main(args=list(arguments), prog_name="beray", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error)
    except typer.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else DONE


def _usage(error: Exception) -> int:
    """Say what was wrong with the arguments. A group without a command shows its help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "beray"
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    if message.startswith("Usage:"):
        sys.stderr.write(printable(message) + "\n")
    else:
        output.problem(f"{message.rstrip('.')} (see {path} --help)")
    return int(getattr(error, "exit_code", WRONG_USAGE))


def words(error: BeRayException) -> str:
    """What to tell about ``error``: the server's own words where it spoke, and what to do."""
    text = str(error)
    if isinstance(error, APIError):
        text = text.removeprefix(f"{error.status_code} for {error.method} {error.path}: ")
        text = f"{text} ({error.status_code})"
        if error.status_code == 401 and not error.path.startswith("/auth/"):
            given = " or correct BERAY_TOKEN" if os.environ.get("BERAY_TOKEN") else ""
            text += f"; sign in with `beray login`{given}"
    if isinstance(error, RateLimitError) and error.retry_after:
        text += f"; try again in {error.retry_after:.0f} s"
    return "; ".join([text, *getattr(error, "__notes__", ())])


def _os_words(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    if error.filename is None:
        return error.strerror
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def take_over_excepthooks() -> None:
    """Show what nobody foresaw like everything else: with nothing that a terminal obeys."""

    def show(
        kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stderr.write(printable("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = show
    threading.excepthook = lambda args: show(args.exc_type, args.exc_value, args.exc_traceback)
