"""Selection of the server from options and environment, and clients of that server."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from beray.cli import output
from beray.config import LOCAL, Profiles, Target, resolve
from beray.exceptions import ConfigurationError, ConnectionFailed

if TYPE_CHECKING:
    import typer

    from beray.client import BeRayClient

TOKEN_VARIABLE: Final = "BERAY_TOKEN"
_TIMEOUT_SECONDS: Final = (5.0, 25.0)
"""Connect and read timeout. The read timeout exceeds the server's time limit for SMTP, 20 s."""
CALL_DEADLINE_SECONDS: Final = 30.0
"""Total time of a call that the user waits for, including retries."""


@dataclass(frozen=True)
class ServerChoice:
    """Values of ``--url`` and ``--profile`` that precede the subcommand."""

    url: str | None = None
    profile: str | None = None


def configured_target(
    ctx: typer.Context,
    profiles: Profiles,
    url: str | None,
    profile: str | None,
    environ: Mapping[str, str] = os.environ,
) -> Target | None:
    """Return the server selected by options, environment or current profile, or None.

    Options after the subcommand take precedence over options before it.
    """
    before: ServerChoice = ctx.find_root().obj or ServerChoice()
    if url is None and profile is None:
        url, profile = before.url, before.profile
    elif url is None or profile is None:
        url, profile = url or before.url, profile or before.profile
    return resolve(profiles, url=url, profile=profile, environ=environ)


def remote_target(
    ctx: typer.Context,
    profiles: Profiles,
    url: str | None,
    profile: str | None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """Return the selected server.

    Raises:
        ConfigurationError: No server is selected. The local server has no accounts.
    """
    target = configured_target(ctx, profiles, url, profile, environ)
    if target is None:
        raise ConfigurationError(
            "no server configured; pass --url or set BERAY_URL (the local server needs no login)"
        )
    return target


def sign_in_target(
    ctx: typer.Context, profiles: Profiles, url: str | None, profile: str | None
) -> Target:
    """Return the server to sign in to, without a token. The profile may be new.

    Raises:
        ConfigurationError: No server is selected, the profile's name is invalid, or there is no
            home directory for the profiles.
    """
    _ = profiles.path  # raises before the password is requested, not after it
    name = profile or (ctx.find_root().obj or ServerChoice()).profile
    if name == LOCAL:
        raise ConfigurationError(
            f"--profile {LOCAL} is your local server, which needs no login; choose another profile"
        )
    environ = {key: value for key, value in os.environ.items() if key != TOKEN_VARIABLE}
    if name is not None and profiles.get(name) is None:
        # A new profile has no URL of its own, so the same sources apply as without a profile.
        url = url or (ctx.find_root().obj or ServerChoice()).url or environ.get("BERAY_URL")
    return replace(remote_target(ctx, profiles, url, profile, environ), token=None)


def resolve_target(
    ctx: typer.Context, profiles: Profiles, url: str | None, profile: str | None
) -> Target:
    """Return the selected server, or the local server, which is started if needed."""
    return _or_local_server(configured_target(ctx, profiles, url, profile))


def resolve_choice(choice: ServerChoice, profiles: Profiles) -> Target:
    """Return the same as ``resolve_target``, without a subcommand."""
    return _or_local_server(resolve(profiles, url=choice.url, profile=choice.profile))


def _or_local_server(target: Target | None) -> Target:
    if target is not None:
        return target
    from beray import local_server

    if output.is_terminal(sys.stderr) and local_server.status() is None:
        output.note("-- starting your local server")
    return local_server.ensure()


class ServerConnection:
    """Clients of one server. If it is the local server, it can be exchanged for its successor.

    Attributes:
        target: The server.
        client: Client for calls that the user waits for; they have a deadline.
        transfer_client: Client for files and streams, without a deadline.
    """

    def __init__(self, server: Target) -> None:
        self._connect(server)

    def _connect(self, server: Target) -> None:
        from beray.client import BeRayClient

        self.target = server
        self.client = BeRayClient(
            server.url,
            server.token,
            timeout=_TIMEOUT_SECONDS,
            deadline=CALL_DEADLINE_SECONDS,
            max_retries=1,
        )
        self.transfer_client = BeRayClient(server.url, server.token)

    def renew(self) -> bool:
        """Connect to the current local server, which is started if needed.

        Returns:
            True if it is a different server than before. False if it is the same, or if this
            is not a connection to the local server.

        Raises:
            ServerStartError: No local server is running, and none can be started.
        """
        if not self.target.embedded:
            return False
        from beray import local_server

        current = local_server.ensure()
        if (current.url, current.token) == (self.target.url, self.target.token):
            return False
        self.close()
        self._connect(current)
        return True

    def close(self) -> None:
        """Close both clients."""
        self.client.close()
        self.transfer_client.close()


@contextmanager
def connect(ctx: typer.Context, url: str | None, profile: str | None) -> Iterator[ServerConnection]:
    """Connect to the server to use, and close the connection at the end."""
    with connect_to(resolve_target(ctx, Profiles(), url, profile)) as connection:
        yield connection


@contextmanager
def connect_to(server: Target) -> Iterator[ServerConnection]:
    """Connect to ``server``. Errors of the connection name its URL."""
    connection = ServerConnection(server)
    try:
        yield connection
    except ConnectionFailed as error:
        error.add_note(f"the server is {connection.target.url}")
        raise
    finally:
        connection.close()


@contextmanager
def client_for(server: Target) -> Iterator[BeRayClient]:
    """Return a client of ``server`` for calls that the user waits for."""
    with connect_to(server) as connection:
        yield connection.client
