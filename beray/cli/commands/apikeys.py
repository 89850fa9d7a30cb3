"""``beray apikey``: what programs are given to call the gateway with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.context import client_of, target
from beray.cli.options import AsJson, ProfileName, Url, encodable
from beray.config import Profiles

_group = typer.Typer(
    help="API keys, which programs call the gateway with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@_group.command()
def new(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What you know it by.", callback=encodable)
    ],
    agent: Annotated[
        str | None,
        typer.Option(
            "--agent",
            metavar="AGENT",
            help="The agent that calls with it, which then has files of its own.",
            callback=encodable,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Make an API key.

    The key is all that is on stdout. It is said this once: the server itself does not know
    it afterwards.
    """
    with client_of(target(ctx, Profiles(), url, profile)) as client:
        made = client.create_api_key(name, agent)
    if as_json:
        output.json_line(made)
        return
    output.line(made["key"])
    sys.stdout.flush()
    output.note(f"API key {made['id']}; keep it now, it is not shown again")


@_group.command("list")
def list_keys(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """List your API keys, the newest first, by their first characters."""
    with client_of(target(ctx, Profiles(), url, profile)) as client:
        keys = client.list_api_keys()
    if as_json:
        for key in keys:
            output.json_line(key)
        return
    if not keys:
        output.note("you have no API keys; beray apikey new NAME makes one")
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
    key_id: Annotated[int, typer.Argument(metavar="ID", help="The key's number.", min=0)],
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """End an API key, and every token that was had for it."""
    with client_of(target(ctx, Profiles(), url, profile)) as client:
        answer = client.revoke_api_key(key_id)
    if as_json:
        output.json_line(answer)
    else:
        output.note(answer.get("message") or "")


def register(app: typer.Typer) -> None:
    app.add_typer(_group, name="apikey")
