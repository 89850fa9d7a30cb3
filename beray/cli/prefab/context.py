"""From options to a client of the server's gateway, and what its prefabs are named by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from beray.cli.context import target
from beray.cli.options import encodable
from beray.config import Profiles
from beray.exceptions import ConnectionFailed
from beray.http.errors import PRESIGNED_PATH

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

# Looser than ours: another gateway has its own rules. None of these names leads elsewhere.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,199}")


def _name(text: str) -> str:
    """Return ``text``, unless no prefab, version or secret can have that name."""
    encodable(text)
    if text and not _NAME.fullmatch(text):
        raise typer.BadParameter(f"{text!r} cannot be one: letters, digits and - . _ + only")
    return text


def _name_and_version(text: str) -> str:
    prefab_id, _, version = text.partition("@")
    _name(prefab_id)
    _name(version)
    return text


def split(name: str) -> tuple[str, str | None]:
    """The id and the version of ``ID[@VERSION]``; ``None`` is the newest."""
    prefab_id, _, version = name.partition("@")
    return prefab_id, version or None


Name = Annotated[
    str,
    typer.Argument(
        metavar="ID[@VERSION]", help="The prefab; its newest version.", callback=_name_and_version
    ),
]
PrefabId = Annotated[str, typer.Argument(metavar="ID", help="The prefab.", callback=_name)]
SecretName = Annotated[str, typer.Argument(metavar="NAME", help="The secret.", callback=_name)]


@contextmanager
def gateway(ctx: typer.Context, url: str | None, profile: str | None) -> Iterator[GatewayClient]:
    """Give a client of the server's gateway, with the account's access token."""
    from beray.gateway import GatewayClient, MissingSecretError

    server = target(ctx, Profiles(), url, profile)
    with GatewayClient(base_url=server.url, jwt_token=server.token) as client:
        try:
            yield client
        except ConnectionFailed as error:
            known = (
                "not the server, but its store of files:" if error.path == PRESIGNED_PATH else ""
            )
            error.add_note(f"{known} the server is {server.url}".strip())
            raise
        except MissingSecretError as error:
            if error.instructions:
                error.add_note(error.instructions)
            raise
