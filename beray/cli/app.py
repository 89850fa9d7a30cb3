"""Typer application with the global options and all subcommands."""

from __future__ import annotations

from typing import Annotated

import typer

from beray.cli import output
from beray.cli.commands import (
    account,
    admin,
    apikeys,
    chat,
    docs,
    files,
    history,
    own_account,
    password,
    prefabs,
    server,
    sessions,
    tasks,
)
from beray.cli.context import ServerChoice
from beray.cli.options import ProfileName, Url
from beray.version import __version__

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        output.line(f"beray {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def beray(
    ctx: typer.Context,
    url: Url = None,
    profile: ProfileName = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> ServerChoice | None:
    """Run AI tasks in workspaces. Without a command, open the dashboard.

    The server is selected by --url, --profile or BERAY_URL (with BERAY_TOKEN), otherwise by the
    current profile. Without any of these, your local server is used and started if needed.

    Exit status: 0 success, 1 the task failed or the server rejected the request,
    2 invalid usage, 130 interrupted.
    """
    ctx.obj = ServerChoice(url, profile)
    # Without a subcommand, the caller opens the dashboard on the returned server.
    return ctx.obj if ctx.invoked_subcommand is None else None


tasks.register(app)
chat.register(app)
files.register(app)
history.register(app)
prefabs.register(app)
account.register(app)
password.register(app)
sessions.register(app)
own_account.register(app)
apikeys.register(app)
admin.register(app)
server.register(app)
docs.register(app)
