"""Client of the server's gateway, and arguments that name prefabs, versions and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from beray.cli.context import resolve_target
from beray.cli.options import encodable
from beray.config import Profiles
from beray.exceptions import ConnectionFailed
from beray.http.errors import PRESIGNED_PATH

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

# More permissive than BeRay's rules, because other gateways have their own. No such name
# changes the path of a request.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")


def _name(text: str) -> str:
    """Return ``text`` unchanged if it is a valid name of a prefab, version or secret.

    Raises:
        typer.BadParameter: The name has other characters than letters, digits, ``-._+``, starts
            with one of ``-.+``, or is longer than 200 characters.
    """
    encodable(text)
    if text and not _NAME.fullmatch(text):
        raise typer.BadParameter(
            f"{text[:220]!r} is invalid; use letters, digits and - . _ +, starting with a letter, "
            "a digit or _, at most 200 characters"
        )
    return text


def _name_and_version(text: str) -> str:
    prefab_id, _, version = text.partition("@")
    _name(prefab_id)
    _name(version)
    return text


def split_version(name: str) -> tuple[str, str | None]:
    """Return the id and the version of ``ID[@VERSION]``; None stands for the newest version."""
    prefab_id, _, version = name.partition("@")
    return prefab_id, version or None


PrefabName = Annotated[
    str,
    typer.Argument(
        metavar="ID[@VERSION]",
        help="Id of the prefab. Default version: the newest.",
        callback=_name_and_version,
    ),
]
PrefabId = Annotated[str, typer.Argument(metavar="ID", help="Id of the prefab.", callback=_name)]
SecretName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the secret.", callback=_name)
]


@contextmanager
def gateway_client(
    ctx: typer.Context, url: str | None, profile: str | None
) -> Iterator[GatewayClient]:
    """Return a client of the server's gateway that uses the account's access token."""
    from beray.gateway import GatewayClient, MissingSecretError

    server = resolve_target(ctx, Profiles(), url, profile)
    with GatewayClient(base_url=server.url, jwt_token=server.token) as client:
        try:
            yield client
        except ConnectionFailed as error:
            if error.path == PRESIGNED_PATH:
                error.add_note(f"the request went to the object store of the server {server.url}")
            else:
                error.add_note(f"the server is {server.url}")
            raise
        except MissingSecretError as error:
            if error.instructions:
                error.add_note(error.instructions)
            raise
