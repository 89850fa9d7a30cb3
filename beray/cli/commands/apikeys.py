"""Commands for API keys of the gateway: ``beray apikey``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.context import client_for, resolve_target
from beray.cli.options import AsJson, ProfileName, Url, encodable
from beray.config import Profiles

_group = typer.Typer(
    help="API keys for programs that call the gateway.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@_group.command()
def new(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the key.", callback=encodable)
    ],
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent",
            metavar="AGENT",
            help="Agent that uses the key. Each agent has its own files.",
            callback=encodable,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Create an API key, and write it to stdout.

    The key is shown only once: the server stores only its digest.
    """
    with client_for(resolve_target(ctx, Profiles(), url, profile)) as client:
        created = client.create_api_key(name, agent)
    if as_json:
        output.json_line(created)
        return
    output.line(created["key"])
    sys.stdout.flush()
    output.note(f"created API key {created['id']}; save it now, it is not shown again")


@_group.command("list")
def list_keys(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """List your API keys, newest first. Only the first characters of a key are shown."""
    with client_for(resolve_target(ctx, Profiles(), url, profile)) as client:
        keys = client.list_api_keys()
    if as_json:
        for key in keys:
            output.json_line(key)
        return
    if not keys:
        output.note("no API keys; `beray apikey new NAME` creates one")
        return
    rows = [
        (str(key["id"]), f"{key['start']}…", key["created_at"], key["agent_id"] or "", key["name"])
        for key in keys
    ]
    if output.is_terminal(sys.stdout):
        output.table([("ID", "KEY", "CREATED", "AGENT", "NAME"), *rows])
        return
    for row in rows:
        output.row(row)


@_group.command()
def revoke(
    ctx: typer.Context,
    key_id: Annotated[int, typer.Argument(metavar="ID", help="Id of the key.", min=0)],
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Revoke an API key and all tokens that were obtained with it."""
    with client_for(resolve_target(ctx, Profiles(), url, profile)) as client:
        response = client.revoke_api_key(key_id)
    if as_json:
        output.json_line(response)
    else:
        output.note(response.get("message") or "")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="apikey")
