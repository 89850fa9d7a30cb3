"""Commands for a user's secrets of prefabs: ``beray prefab secret``."""

from __future__ import annotations

import typer

from beray.cli import output
from beray.cli.options import AsJson, ProfileName, Url
from beray.cli.prefab.context import PrefabId, SecretName, gateway_client
from beray.cli.prompts import ask_secret

_group = typer.Typer(help="Your secrets for a prefab.", no_args_is_help=True, rich_markup_mode=None)


@_group.command("set")
def set_(
    ctx: typer.Context,
    prefab_id: PrefabId,
    name: SecretName,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Set a secret for a prefab. The value is read without echo, or as a line from stdin."""
    with gateway_client(ctx, url, profile) as client:
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
    """List the names of your secrets for a prefab."""
    with gateway_client(ctx, url, profile) as client:
        client.get_prefab_spec(prefab_id)  # reports a prefab that does not exist
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
    """Remove a secret from a prefab."""
    with gateway_client(ctx, url, profile) as client:
        output.note(client.remove_prefab_secret(prefab_id, name)["message"])


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="secret")
