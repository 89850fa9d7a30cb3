"""Execution of the command: parsing, the dashboard, and the exit status of every error."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from beray.cli import context, output
from beray.cli.context import ServerChoice
from beray.cli.ending_signals import Terminated
from beray.cli.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    WRONG_USAGE,
    error_text,
    os_error_text,
)
from beray.config import Profiles
from beray.exceptions import BeRayException, ConfigurationError, InvalidArgument
from beray.installation import how_to_install
from beray.sanitize import printable


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status. Errors are reported as one line on stderr."""
    output.prepare()
    status = _run_command(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        # The buffered output cannot be written; Python must not try again at exit.
        output.discard_stdout()
        if status == DONE and not isinstance(error, BrokenPipeError):
            output.error(os_error_text(error))
        return status or FAILED
    return status


def _run_command(arguments: Sequence[str]) -> int:
    try:
        return _run_subcommand(arguments) if arguments else _run_dashboard()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated as signalled:
        return 128 + signalled.number
    except BeRayException as error:
        output.error(error_text(error))
        wrong_usage = isinstance(error, (ConfigurationError, InvalidArgument))
        return WRONG_USAGE if wrong_usage else FAILED
    except FileExistsError as error:
        output.error(f"{os_error_text(error)}; --force overwrites")
        return FAILED
    except OSError as error:
        output.error(os_error_text(error))
        return FAILED
    except UnicodeError:
        output.error("an argument, a file name or the input is not valid UTF-8 and cannot be used")
        return FAILED
    except SystemExit as leaving:
        # typer exits by itself if the reader of stdout has ended, such as `head`.
        output.discard_stdout()
        return leaving.code if isinstance(leaving.code, int) else FAILED


def _run_dashboard() -> int:
    """Open the dashboard without importing typer, so that its first screen appears sooner."""
    gc.disable()  # imports create no garbage; ``tui.run`` enables the collector again
    return open_dashboard(ServerChoice())


def open_dashboard(choice: ServerChoice) -> int:
    """Open the dashboard on the selected server, and return its exit status."""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)):
        output.error("the dashboard needs a terminal; without one, use `beray run GOAL`")
        return WRONG_USAGE
    if output.is_dumb_terminal():
        term = os.environ["TERM"]
        output.error(
            f"the dashboard needs a full-screen terminal, but TERM is {term!r}; "
            "use `beray run GOAL`, or set TERM to the name of your terminal"
        )
        return WRONG_USAGE
    try:
        import textual  # noqa: F401
    except ImportError:
        output.error(f"the dashboard is not installed; {how_to_install('tui')}")
        return FAILED
    import tui

    profiles = Profiles()
    server = context.resolve_choice(choice, profiles)
    if not server.embedded:
        return tui.run(server, profiles)
    from beray import local_server

    return tui.run(server, profiles, renew=local_server.ensure)


def _run_subcommand(arguments: Sequence[str]) -> int:
    import typer

    from beray.cli.app import app

    command = typer.main.get_command(app)
    try:
        result = command.main(args=list(arguments), prog_name="beray", standalone_mode=False)
    except typer.TyperException as error:
        return _report_usage_error(error)
    except typer.Abort:
        return INTERRUPTED
    if isinstance(result, ServerChoice):
        return open_dashboard(result)
    return result if isinstance(result, int) else DONE


def _report_usage_error(error: Exception) -> int:
    """Report an error in the arguments. That of a group without a subcommand is its help."""
    import typer

    usage_context = getattr(error, "ctx", None)
    path = usage_context.command_path if usage_context is not None else "beray"
    if isinstance(error, typer.BadParameter):
        error.message = _failed_expectation(error.__cause__) or error.message
    message = str(error.format_message()) if hasattr(error, "format_message") else str(error)
    if usage_context is not None and message == usage_context.get_help():
        sys.stderr.write(printable(message) + "\n")
    else:
        output.error(f"{message.rstrip('.')} (see {path} --help)")
    return int(getattr(error, "exit_code", WRONG_USAGE))


def _failed_expectation(cause: BaseException | None) -> str:
    """Return the expected and the actual value of an argument that typer rejected, or ""."""
    from pydantic import ValidationError

    if not isinstance(cause, ValidationError):
        return ""
    details = cause.errors(include_url=False)[0]
    match details["type"], details.get("ctx", {}):
        case "int_parsing" | "int_type", _:
            expected = "a whole number"
        case "greater_than_equal", {"ge": limit}:
            expected = f"at least {limit}"
        case "less_than_equal", {"le": limit}:
            expected = f"at most {limit}"
        case "value_error", {"error": ValueError() as reason}:
            return str(reason)  # a choice; the message of pydantic has a prefix
        case _:
            return ""
    return f"expected {expected}, got {str(details['input'])[:100]!r}"
