"""``beray prefab secret``: what a user gives to prefabs."""

from __future__ import annotations

import typer

from beray.cli import output
from beray.cli.options import AsJson, ProfileName, Url
from beray.cli.prefab.context import PrefabId, SecretName, gateway
from beray.cli.prompts import ask_secret

_group = typer.Typer(
    help="The secrets that you give to a prefab.", no_args_is_help=True, rich_markup_mode=None
)


@_group.command("set")
def set_(
    ctx: typer.Context,
    prefab_id: PrefabId,
    name: SecretName,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Give a prefab a secret: asked for without echo, or read as a line from stdin."""
    with gateway(ctx, url, profile) as client:
        value = ask_secret(f"secret {name}")
        output.note(client.set_prefab_secret(prefab_id, name, value)["message"])


@_group.command("list")
def list_(
    ctx: typer.Context,
    prefab_id: PrefabId,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """List the names of the secrets that a prefab has of you."""
    with gateway(ctx, url, profile) as client:
        client.get_prefab_spec(prefab_id)  # of one that is not there, no names would be told
        names = client.list_prefab_secrets(prefab_id)
    for name in names:
        if as_json:
            output.json_line({"name": name})
        else:
            output.line(name)


@_group.command()
def remove(
    ctx: typer.Context,
    prefab_id: PrefabId,
    name: SecretName,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Take a secret away from a prefab."""
    with gateway(ctx, url, profile) as client:
        output.note(client.remove_prefab_secret(prefab_id, name)["message"])


def register(app: typer.Typer) -> None:
    app.add_typer(_group, name="secret")
