"""Commands for API keys: ``beray apikey``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.context import client_for, resolve_target
from beray.cli.options import Agent, AsJson, Expires, ProfileName, Scopes, Url, encodable
from beray.cli.times import age, day
from beray.config import Profiles
from beray.schema import SCOPES, ApiKey, CreatedApiKey

_group = typer.Typer(
    help="API keys for programs, which need no password.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@_group.command()
def new(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the key.", callback=encodable)
    ],
    agent: Agent = None,
    scope: Scopes = None,
    expires: Expires = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Create an API key, and write it to stdout.

    Programs use it as BERAY_TOKEN, or to authenticate to the gateway. It is shown only once: the
    server stores only its digest.
    """
    with client_for(resolve_target(ctx, Profiles(), url, profile)) as client:
        created = client.create_api_key(name, agent, scopes=scope, expires_in_seconds=expires)
    show_created_key(created, as_json)


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
    if not output.is_terminal(sys.stdout):
        for key in keys:
            expires, last_used = key.get("expires_at"), key.get("last_used_at")
            output.row(_cells(key, key["created_at"], expires or "", last_used or "", _scopes(key)))
        return
    now = datetime.now(UTC)
    rows = []
    for key in keys:
        scopes = "all" if set(SCOPES) <= set(key.get("scopes", ())) else _scopes(key)
        created, last_used = age(key["created_at"], now), age(key.get("last_used_at"), now)
        rows.append(_cells(key, created, day(key.get("expires_at")), last_used, scopes))
    headings = ("ID", "KEY", "AGE", "EXPIRES", "USED", "SCOPES", "AGENT", "NAME")
    output.table([headings, *rows])


def _cells(key: ApiKey, created: str, expires: str, last_used: str, scopes: str) -> tuple[str, ...]:
    return (
        str(key["id"]), f"{key['start']}…", created, expires, last_used, scopes,
        key["agent_id"] or "", key["name"],
    )  # fmt: skip


def _scopes(key: ApiKey) -> str:
    return ",".join(key.get("scopes", ["gateway"]))


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


def show_created_key(created: CreatedApiKey, as_json: bool) -> None:
    """Write a new key to stdout, alone or as JSON."""
    if as_json:
        output.json_line(created)
        return
    output.line(created["key"])
    sys.stdout.flush()
    output.note(f"created API key {created['id']}; save it now, it is not shown again")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="apikey")
