"""Run the command: parse the arguments, and turn every error into a line and an exit status."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence

from beray.cli import output
from beray.cli.ending_signals import Terminated
from beray.cli.errors import DONE, FAILED, INTERRUPTED, WRONG_USAGE, os_words, words
from beray.exceptions import BeRayException, ConfigurationError, InvalidArgument
from beray.sanitize import printable


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
            output.problem(os_words(error))
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

        text = os_words(error).removesuffix(OVERWRITE_HINT)
        output.problem(f"{text}; --force overwrites")
        return FAILED
    except OSError as error:
        output.problem(os_words(error))
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
