"""The command: one module for each group of commands.

Nothing heavy is imported before it is known what is wanted: typer for a command,
rich for a progress bar or a table, Textual for the dashboard, FastAPI for ``serve``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beray import installation
from beray.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments behind the program's name; those of the process, unless given.

    Returns:
        0 done; 1 the task failed or was stopped, or the server said no or cannot be
        reached; 2 wrong usage; 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    problem = _problem_of_installation()
    if problem:
        return problem
    if arguments == ["--version"] and sys.stdout is not None:
        sys.stdout.write(f"beray {__version__}\n")
        return 0
    from beray.cli import ending_signals, errors
    from beray.cli.run import run

    if argv is not None:
        return run(arguments)
    errors.take_over_excepthooks()
    with ending_signals.as_exceptions():
        return run(arguments)


def _problem_of_installation() -> int:
    """Report an installation that is mixed with another package; return 1 if it cannot be used."""
    try:
        installation.require_consistent()
    except ImportError as error:
        problem, status = str(error), 1
    else:
        problem, status = installation.version_warning() or "", 0
    if problem and sys.stderr is not None:
        sys.stderr.write(f"beray: {problem}\n")
    return status
