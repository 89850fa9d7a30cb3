"""``beray`` alone: the dashboard."""

from __future__ import annotations

import os
import sys

from beray.cli import context, output
from beray.cli.context import Choice
from beray.config import Profiles
from beray.installation import how_to_install


def show(choice: Choice) -> int:
    """Open the dashboard on the server that is meant, and return its exit status."""
    if not (output.is_terminal(sys.stdin) and output.is_terminal(sys.stdout)):
        output.problem("the dashboard needs a terminal; without one, use `beray run GOAL`")
        return 2
    if output.is_dumb():
        term = os.environ["TERM"]
        output.problem(
            f"the dashboard needs a full-screen terminal, but TERM is {term!r}; "
            "use `beray run GOAL`, or set TERM to the name of your terminal"
        )
        return 2
    try:
        import textual  # noqa: F401
    except ImportError:
        output.problem(f"the dashboard is not installed; {how_to_install('tui')}")
        return 1
    import tui

    profiles = Profiles()
    server = context.chosen(choice, profiles)
    if not server.embedded:
        return tui.run(server, profiles)
    from beray import local_server

    return tui.run(server, profiles, renew=local_server.ensure)
