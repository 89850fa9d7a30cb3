"""From options to a client of the server that is meant."""

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

TOKEN: Final = "BERAY_TOKEN"
_TIMEOUT: Final = (5.0, 25.0)
_DEADLINE: Final = 30.0
"""Seconds until somebody who waits for an answer gets it, or hears why not. The read
timeout is longer than our server tries to deliver a mail."""


@dataclass(frozen=True)
class Choice:
    """What was said about the server in front of the command."""

    url: str | None = None
    profile: str | None = None


def configured(
    ctx: typer.Context,
    profiles: Profiles,
    url: str | None,
    profile: str | None,
    environ: Mapping[str, str] = os.environ,
) -> Target | None:
    """The server that options, environment or the current profile name; ``None`` without any.

    What is said behind the command wins over what is said in front of it.
    """
    before: Choice = ctx.find_root().obj or Choice()
    if url is None and profile is None:
        url, profile = before.url, before.profile
    elif url is None or profile is None:
        url, profile = url or before.url, profile or before.profile
    return resolve(profiles, url=url, profile=profile, environ=environ)


def remote(
    ctx: typer.Context,
    profiles: Profiles,
    url: str | None,
    profile: str | None,
    environ: Mapping[str, str] = os.environ,
) -> Target:
    """The server that is named.

    Raises:
        ConfigurationError: none is; the embedded one needs no account.
    """
    target = configured(ctx, profiles, url, profile, environ)
    if target is None:
        raise ConfigurationError(
            "which server? Name it with --url or BERAY_URL; your own local one needs no account"
        )
    return target


def to_sign_in(
    ctx: typer.Context, profiles: Profiles, url: str | None, profile: str | None
) -> Target:
    """The server to sign in to, as nobody yet, under the name of a profile old or new.

    Raises:
        ConfigurationError: none is named, the profile cannot have that name, or there is no
            home directory for the profiles.
    """
    _ = profiles.path  # raises before the password is asked for, not after it
    named = profile or (ctx.find_root().obj or Choice()).profile
    if named == LOCAL:
        raise ConfigurationError(f"{LOCAL!r} is your own server, which needs no account")
    environ = {name: value for name, value in os.environ.items() if name != TOKEN}
    if named is not None and profiles.get(named) is None:
        # A new name; the address may come from where it comes from without a profile.
        url = url or (ctx.find_root().obj or Choice()).url or environ.get("BERAY_URL")
    return replace(remote(ctx, profiles, url, profile, environ), token=None)


def target(ctx: typer.Context, profiles: Profiles, url: str | None, profile: str | None) -> Target:
    """The server to use: the one that is named, else the user's own, started if need be."""
    return _or_own(configured(ctx, profiles, url, profile))


def chosen(choice: Choice, profiles: Profiles) -> Target:
    """As ``target``, where nothing stands behind the command."""
    return _or_own(resolve(profiles, url=choice.url, profile=choice.profile))


def _or_own(found: Target | None) -> Target:
    if found is not None:
        return found
    from beray import local_server

    if output.is_terminal(sys.stderr) and local_server.status() is None:
        output.note("-- starting a server of your own")
    return local_server.ensure()


class Connection:
    """Clients of one server. The place of the user's own may be taken by its successor.

    Attributes:
        target: the server.
        client: for calls that somebody waits for.
        patient: for what moves files and events, which takes as long as it has to.
    """

    def __init__(self, server: Target) -> None:
        self._connect(server)

    def _connect(self, server: Target) -> None:
        from beray.client import BeRayClient

        self.target = server
        self.client = BeRayClient(
            server.url, server.token, timeout=_TIMEOUT, deadline=_DEADLINE, max_retries=1
        )
        self.patient = BeRayClient(server.url, server.token)

    def renew(self) -> bool:
        """Turn to the user's own server as it is now, started if need be.

        Returns:
            whether it is another one than before.

        Raises:
            ServerStartError: none is running, and none can be started.
        """
        if not self.target.embedded:
            return False
        from beray import local_server

        found = local_server.ensure()
        if (found.url, found.token) == (self.target.url, self.target.token):
            return False
        self.close()
        self._connect(found)
        return True

    def close(self) -> None:
        self.client.close()
        self.patient.close()


@contextmanager
def connected(ctx: typer.Context, url: str | None, profile: str | None) -> Iterator[Connection]:
    """Give a connection to the server to use, and close it afterwards."""
    with connection_to(target(ctx, Profiles(), url, profile)) as connection:
        yield connection


@contextmanager
def connection_to(server: Target) -> Iterator[Connection]:
    """Give a connection to ``server``. Where that fails, the error says which server it was."""
    connection = Connection(server)
    try:
        yield connection
    except ConnectionFailed as error:
        error.add_note(f"the server is {connection.target.url}")
        raise
    finally:
        connection.close()


@contextmanager
def client_of(server: Target) -> Iterator[BeRayClient]:
    """Give a client of ``server`` for calls that somebody waits for."""
    with connection_to(server) as connection:
        yield connection.client
