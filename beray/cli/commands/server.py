"""Commands for servers: serve, and ``beray server`` for the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.options import AsJson
from beray.config import home
from beray.installation import how_to_install

NOT_RUNNING = "your local server is not running; it starts when a command needs it"

_group = typer.Typer(
    help="Your local server on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 selects a free port.", min=0, max=65535)] = (
        8000
    ),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory for accounts, tasks and files. Default: `serve` in the user "
            "data directory (BERAY_HOME).",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Report the server's protection and recommended changes without starting it. "
            "The exit status is 1 if a change is recommended.",
        ),
    ] = False,
) -> int:
    """Run a self-hosted server.

    All other settings are environment variables, such as BERAY_PUBLIC_URL and
    BERAY_PREFAB_AUTHORS; the page Settings of `beray docs` lists them.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        output.error(f"the server is not installed; {how_to_install('server')}")
        return 1
    from beray.server import lifecycle, startup_report

    directory = data_dir or home() / "serve"
    try:
        if check:
            report = lifecycle.check(host, port, directory)
            output.line(startup_report.as_text(report))
            return 1 if report.warnings else 0
        lifecycle.serve(host, port, directory)
    except lifecycle.CannotServe as error:
        output.error(str(error))
        return 1
    return 0


@_group.command()
def status(as_json: AsJson = False) -> int:
    """Show whether the local server is running, and its properties.

    The exit status is 1 if it is not running.
    """
    from beray import local_server

    state = local_server.status()
    # The fields are listed because the token must not be shown.
    names = ("url", "pid", "started_at", "version", "data_dir", "sandbox", "runners")
    facts = {name: getattr(state, name) for name in names} if state is not None else {}
    if as_json:
        output.json_line({"running": state is not None, **facts})
    elif state is None:
        output.note(NOT_RUNNING)
    else:
        for name, value in facts.items():
            output.line(f"{name + ':':<12}{value}")
    return 0 if state is not None else 1


@_group.command()
def stop() -> int:
    """Stop the local server and its running tasks."""
    from beray import local_server

    output.note("stopped" if local_server.stop() else NOT_RUNNING)
    return 0


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command()(serve)
    app.add_typer(_group, name="server")
