"""``beray serve``, and ``beray server``: the user's own embedded server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.options import AsJson
from beray.config import home
from beray.installation import how_to_install

NOT_RUNNING = "your own server is not running; it starts when a command needs it"

_group = typer.Typer(
    help="Your own server on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65535)] = (
        8000
    ),
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where accounts, tasks and files are kept; `serve` in the user's data folder.",
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Print what protects the server and what should be changed, and do not start it; "
            "exit status 1 if something should be changed.",
        ),
    ] = False,
) -> int:
    """Run a server, for yourself and others.

    What else can be set, is set by variables, BERAY_PREFAB_AUTHORS and others: the README has
    them under "The server".
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        output.problem(f"the server is not installed; {how_to_install('server')}")
        return 1
    from beray.server import lifecycle, startup_report

    folder = data_dir or home() / "serve"
    try:
        if check:
            report = lifecycle.check(host, port, folder)
            output.line(startup_report.as_text(report))
            return 1 if report.warnings else 0
        lifecycle.serve(host, port, folder)
    except lifecycle.CannotServe as error:
        output.problem(str(error))
        return 1
    return 0


@_group.command()
def status(as_json: AsJson = False) -> int:
    """Say whether it runs, and where.

    Exit status 1 where it does not run.
    """
    from beray import local_server

    found = local_server.status()
    # Named one by one: the token that is beside them stays where it is.
    told = ("url", "pid", "started_at", "version", "data_dir", "sandbox", "runners")
    facts = {name: getattr(found, name) for name in told} if found is not None else {}
    if as_json:
        output.json_line({"running": found is not None, **facts})
    elif found is None:
        output.note(NOT_RUNNING)
    else:
        for name, value in facts.items():
            output.line(f"{name + ':':<12}{value}")
    return 0 if found is not None else 1


@_group.command()
def stop() -> int:
    """Stop it, and the tasks that it runs."""
    from beray import local_server

    output.note("stopped" if local_server.stop() else NOT_RUNNING)
    return 0


def register(app: typer.Typer) -> None:
    app.command()(serve)
    app.add_typer(_group, name="server")
