"""The ``beray`` command.

Packages are imported when they are needed: typer for subcommands, rich for progress bars and
tables, Textual for the dashboard, FastAPI for ``serve``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from beray import installation
from beray.version import __version__


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: Arguments after the program's name; ``sys.argv[1:]`` if None.

    Returns:
        0 on success; 1 if the task failed or was stopped, or the server rejected the request or
        is unreachable; 2 for invalid usage; 130 if interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    problem = _check_installation()
    if problem:
        return problem
    if arguments == ["--version"] and sys.stdout is not None:
        sys.stdout.write(f"beray {__version__}\n")
        return 0
    from beray.cli import ending_signals, errors
    from beray.cli.run import run

    if argv is not None:
        return run(arguments)
    errors.install_excepthooks()
    with ending_signals.as_exceptions():
        return run(arguments)


def _check_installation() -> int:
    """Report an installation that is mixed with another package; return 1 if it is unusable."""
    try:
        installation.require_consistent()
    except ImportError as error:
        problem, status = str(error), 1
    else:
        problem, status = installation.version_warning() or "", 0
    if problem and sys.stderr is not None:
        sys.stderr.write(f"beray: {problem}\n")
    return status
