"""The command line: its global options and its groups of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from beray.cli import dashboard, output
from beray.cli.commands import account, apikeys, chat, files, prefabs, server, tasks
from beray.cli.context import Choice
from beray.cli.options import ProfileName, Url
from beray.version import __version__

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        output.line(f"beray {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def beray(
    ctx: typer.Context,
    url: Url = None,
    profile: ProfileName = None,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which this is."),
    ] = False,
) -> int | None:
    """AI tasks in workspaces. Without a command, the dashboard opens.

    A server is named by --url, --profile or BERAY_URL (with BERAY_TOKEN); with none named,
    the current profile is used, and without one a server of your own on this machine.

    Exit status: 0 done, 1 the task failed or the server said no, 2 wrong usage,
    130 interrupted.
    """
    ctx.obj = Choice(url, profile)
    if ctx.invoked_subcommand is not None:
        return None
    raise typer.Exit(dashboard.show(ctx.obj))


tasks.register(app)
chat.register(app)
files.register(app)
prefabs.register(app)
account.register(app)
apikeys.register(app)
server.register(app)
