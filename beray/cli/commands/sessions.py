"""Commands for the user's sessions: ``beray sessions``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from beray.account_schema import SignedInDevice
from beray.cli import output
from beray.cli.context import ServerChoice, client_for, remote_target
from beray.cli.options import AsJson, ProfileName, Url, encodable
from beray.cli.sign_in import holds_session
from beray.cli.times import age
from beray.config import Profiles
from beray.exceptions import ConfigurationError

_group = typer.Typer(rich_markup_mode=None)


@_group.callback(invoke_without_command=True)
def sessions(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """List the sessions of your account, most recently used first."""
    if ctx.invoked_subcommand is not None:
        if as_json:
            raise ConfigurationError(f"pass --json after {ctx.invoked_subcommand}")
        if url is not None or profile is not None:
            ctx.find_root().obj = ServerChoice(url, profile)
        return
    with client_for(remote_target(ctx, Profiles(), url, profile)) as client:
        found = client.list_sessions()
    if as_json:
        for session in found:
            output.json_line(session)
        return
    if not output.is_terminal(sys.stdout):
        for session in found:
            output.row(
                _cells(session, session.get("last_used_at") or "", session.get("created_at") or "")
            )
        return
    now = datetime.now(UTC)
    rows = [
        _cells(session, age(session.get("last_used_at"), now), age(session.get("created_at"), now))
        for session in found
    ]
    output.table([("ID", "", "USED", "CREATED", "ADDRESS", "DEVICE"), *rows])


def _cells(session: SignedInDevice, last_used: str, created: str) -> tuple[str, ...]:
    current = "current" if session.get("current") else ""
    address, device = session.get("address") or "", session.get("device") or ""
    return session["id"], current, last_used, created, address, device


@_group.command()
def revoke(
    ctx: typer.Context,
    session_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Id of the session to end.", callback=encodable),
    ] = None,
    others: Annotated[
        bool, typer.Option("--others", help="End all sessions except the one in use.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="End all sessions, also the one in use.")
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """End one session, all others, or all. What is open in a session ends with it."""
    if (session_id is not None) + others + everything != 1:
        raise ConfigurationError("pass one of ID, --others and --all; `beray sessions` lists them")
    profiles = Profiles()
    server = remote_target(ctx, profiles, url, profile)
    with client_for(server) as client:
        if session_id is None:
            ends_own = everything
            response = client.revoke_sessions(others=others)
        else:
            current = [entry["id"] for entry in client.list_sessions() if entry.get("current")]
            ends_own = session_id in current
            response = client.revoke_session(session_id)
    if ends_own and holds_session(profiles, server):
        profiles.sign_out(server.profile)
    output.json_line(response) if as_json else output.note(response.get("message") or "")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="sessions")
