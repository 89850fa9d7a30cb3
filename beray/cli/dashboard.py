"""``beray`` alone: the dashboard."""

from __future__ import annotations

import typer

from beray.cli import connection, output
from beray.config import Profiles


def show(ctx: typer.Context) -> int:
    """Open the dashboard on the server that is meant, and return its exit status."""
    try:
        import textual  # noqa: F401
    except ImportError:
        output.problem("the dashboard is not installed; pip install 'beray[tui]' brings it")
        return 1
    import tui

    profiles = Profiles()
    server = connection.target(ctx, profiles, None, None)
    if not server.embedded:
        return tui.run(server, profiles)
    from beray import embedded

    return tui.run(server, profiles, renew=embedded.ensure)
