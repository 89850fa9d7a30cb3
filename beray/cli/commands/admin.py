"""Commands for administrators: ``beray admin``.

Each command uses the API as a signed-in administrator, or with ``--data-dir`` the data directory
of a stopped server.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from beray.cli import account_tables, output
from beray.cli.commands.apikeys import show_created_key
from beray.cli.context import client_for, configured_target, connect_to, sign_in_target
from beray.cli.errors import DONE, FAILED
from beray.cli.options import (
    Agent,
    AsJson,
    Expires,
    ProfileName,
    Scopes,
    Url,
    Yes,
    encodable,
)
from beray.cli.prompts import ask_new_password, confirm, require_confirmable
from beray.cli.sign_in import save_session
from beray.config import Profiles, Target
from beray.exceptions import BeRayException, ConfigurationError
from beray.installation import how_to_install

if TYPE_CHECKING:
    from beray.account_schema import ManagedUser
    from beray.administration import ServerAdministration
    from beray.server.offline import OfflineAdministration

    Administration = ServerAdministration | OfflineAdministration

SETUP_MARK: Final = "/setup#"
"""Separates the URL of the server from the token in the link that ``beray serve`` prints."""

_group = typer.Typer(
    help="Accounts of a server, for its administrators.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Data directory of a stopped server, on its host, instead of the API.",
    ),
]
Address = Annotated[
    str,
    typer.Argument(metavar="ADDRESS", help="E-mail address of the account.", callback=encodable),
]


@contextmanager
def administration(
    ctx: typer.Context, url: str | None, profile: str | None, data_dir: Path | None
) -> Iterator[Administration]:
    """Return the administration of the selected server, or of a data directory.

    Raises:
        ConfigurationError: No server is selected, both are, or the server is not installed.
        BeRayException: The data directory cannot be used.
    """
    if data_dir is None:
        with client_for(_target(ctx, url, profile)) as client:
            yield client.admin
        return
    with _offline(data_dir, url, profile) as offline:
        yield offline


@contextmanager
def _offline(
    data_dir: Path, url: str | None, profile: str | None
) -> Iterator[OfflineAdministration]:
    if url is not None or profile is not None:
        raise ConfigurationError("--data-dir replaces the API; pass it without --url and --profile")
    if find_spec("fastapi") is None or find_spec("sqlalchemy") is None:
        raise ConfigurationError(
            f"--data-dir needs the packages of the server; {how_to_install('server')}"
        )
    from beray.server import offline

    with offline.opened(data_dir) as found:
        yield found


def _target(ctx: typer.Context, url: str | None, profile: str | None) -> Target:
    target = configured_target(ctx, Profiles(), url, profile)
    if target is None:
        raise ConfigurationError(
            "no server configured; sign in with `beray login --url URL`, or pass --data-dir DIR "
            "on the host of a stopped server"
        )
    return target


def _find(admin: Administration, address: str) -> ManagedUser:
    """Return the account with an address.

    Raises:
        BeRayException: It does not exist.
    """
    user = admin.find_user(address)
    if user is None:
        raise BeRayException(
            f"no account has the address {address}; `beray admin users` lists the accounts"
        )
    return user


# Accounts


@_group.command()
def users(
    ctx: typer.Context,
    search: Annotated[
        str,
        typer.Option(
            "--search",
            metavar="TEXT",
            help="Only accounts whose address contains TEXT.",
            callback=encodable,
        ),
    ] = "",
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """List the accounts with role, status, last sign-in, tasks, storage and tokens.

    The status is `disabled`, or `reset` if the user has to change the password. The columns are id,
    role, status, last sign-in, tasks, storage, tokens and address.
    """
    with administration(ctx, url, profile, data_dir) as admin:
        found = admin.iter_users(search)
        if as_json:
            for user in found:
                output.json_line(user)
        else:
            account_tables.show_users(list(found))


@_group.command()
def create(
    ctx: typer.Context,
    address: Address,
    role: Annotated[
        Literal["administrator", "service"],
        typer.Option("--role", help="administrator, or service: an account with API keys only."),
    ] = "administrator",
    link: Annotated[
        str | None,
        typer.Option(
            "--link",
            metavar="URL",
            help="One-time link that `beray serve` prints until an administrator exists.",
            callback=encodable,
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Create an administrator, or a service account.

    The first administrator is created with --link, which also signs in; others with --data-dir.
    The password is read without echo, or as a line from stdin.
    """
    if link is not None:
        _create_with_link(ctx, address, role, link, as_json, url, profile, data_dir)
        return
    if role == "service":
        with administration(ctx, url, profile, data_dir) as admin:
            user = admin.create_service_account(address)
    elif data_dir is None:
        raise ConfigurationError(
            "an administrator is created with --link URL, or with --data-dir DIR on the host of a "
            f"stopped server; on a running server, use `beray admin invite {address} --role "
            "administrator`"
        )
    else:
        with _offline(data_dir, url, profile) as offline:
            user = offline.create_administrator(address, ask_new_password())
    account_tables.report(user, f"created {user['email']} ({user['role']})", as_json)


def _create_with_link(
    ctx: typer.Context,
    address: str,
    role: str,
    link: str,
    as_json: bool,
    url: str | None,
    profile: str | None,
    data_dir: Path | None,
) -> None:
    base, mark, token = link.strip().partition(SETUP_MARK)
    if not mark or not base or not token:
        raise ConfigurationError(
            "--link expects the link that `beray serve` prints, such as "
            "http://localhost:8000/setup#TOKEN; quote it in the shell"
        )
    if role != "administrator" or data_dir is not None:
        raise ConfigurationError("--link creates an administrator over the API")
    profiles = Profiles()
    server = sign_in_target(ctx, profiles, url or base, profile)
    with client_for(server) as client:
        session = client.create_first_administrator(token, address, ask_new_password())
    save_session(profiles, server, session, address, as_json)


@_group.command()
def disable(
    ctx: typer.Context,
    address: Address,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Disable an account.

    It cannot sign in, its sessions and keys are invalid, and its tasks are stopped. Its data
    remains.
    """
    with administration(ctx, url, profile, data_dir) as admin:
        user = admin.change_user(_find(admin, address)["id"], disabled=True)
    account_tables.report(user, f"disabled {user['email']}", as_json)


@_group.command()
def enable(
    ctx: typer.Context,
    address: Address,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Enable a disabled account."""
    with administration(ctx, url, profile, data_dir) as admin:
        user = admin.change_user(_find(admin, address)["id"], disabled=False)
    account_tables.report(user, f"enabled {user['email']}", as_json)


@_group.command()
def promote(
    ctx: typer.Context,
    address: Address,
    role: Annotated[
        Literal["administrator", "user", "service"],
        typer.Option("--role", help="New role. A service account loses its password."),
    ] = "administrator",
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Make an account an administrator, or give it another role."""
    with administration(ctx, url, profile, data_dir) as admin:
        user = admin.change_user(_find(admin, address)["id"], role=role)
    account_tables.report(user, f"{user['email']} has the role {user['role']}", as_json)


@_group.command("reset-password")
def reset_password(
    ctx: typer.Context,
    address: Address,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep the password and the sessions, and only require the user to change it.",
        ),
    ] = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Set a temporary password, and write it to stdout.

    The sessions of the account end, and the user has to change the password at the next sign-in.
    """
    with administration(ctx, url, profile, data_dir) as admin:
        number = _find(admin, address)["id"]
        if keep:
            user = admin.change_user(number, must_change_password=True)
            account_tables.report(user, f"{user['email']} has to change the password", as_json)
            return
        temporary = admin.reset_password(number)
    if as_json:
        output.json_line(temporary)
        return
    output.line(temporary["password"])
    output.note(
        f"temporary password of {temporary['email']}; it is not shown again, and has to be "
        "changed at the next sign-in"
    )


@_group.command("revoke-sessions")
def revoke_sessions(
    ctx: typer.Context,
    address: Address,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """End all sessions of an account. Its API keys remain valid."""
    with administration(ctx, url, profile, data_dir) as admin:
        response = admin.revoke_sessions(_find(admin, address)["id"])
    account_tables.report(response, response.get("message") or "", as_json)


@_group.command()
def delete(
    ctx: typer.Context,
    address: Address,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> int:
    """Delete an account with all its tasks, events, files and keys."""
    require_confirmable(yes, "delete")
    with administration(ctx, url, profile, data_dir) as admin:
        user = _find(admin, address)
        if not yes and not confirm(
            f"Delete {user['email']} with {user.get('tasks', 0)} tasks and all files?"
        ):
            output.note("nothing was deleted")
            return FAILED
        response = admin.delete_user(user["id"])
    account_tables.report(response, response.get("message") or "", as_json)
    return DONE


@_group.command()
def key(
    ctx: typer.Context,
    address: Address,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the key.", callback=encodable)
    ],
    agent: Agent = None,
    scope: Scopes = None,
    expires: Expires = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Create an API key of a service account, and write it to stdout.

    The key is shown only once: the server stores only its digest.
    """
    with administration(ctx, url, profile, data_dir) as admin:
        created = admin.create_api_key(
            _find(admin, address)["id"], name, agent, scopes=scope, expires_in_seconds=expires
        )
    show_created_key(created, as_json)


# Invitations


@_group.command()
def invite(
    ctx: typer.Context,
    address: Address,
    role: Annotated[
        Literal["user", "administrator"], typer.Option("--role", help="Role of the new account.")
    ] = "user",
    expires: Expires = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Permit an address to register. An earlier invitation is replaced.

    If the server does not mail the invitation, the command with which the user registers is
    written to stdout.
    """
    with administration(ctx, url, profile, data_dir) as admin:
        invitation = admin.invite(address, role, expires_in_seconds=expires)
        server = admin.public_url or "URL"
    if as_json:
        output.json_line(invitation)
        return
    invited, until = invitation["email"], invitation.get("expires_at") or "revoked"
    if invitation.get("mailed"):
        output.note(f"the invitation was mailed to {invited}, valid until {until}")
        return
    output.line(f"beray register --url {shlex.quote(server)} --email {shlex.quote(invited)}")
    output.note(
        f"invited {invited}, valid until {until}; no mail was sent: send the user this line"
    )


@_group.command()
def invitations(
    ctx: typer.Context,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """List the valid invitations, newest first."""
    with administration(ctx, url, profile, data_dir) as admin:
        found = admin.list_invitations()
    if as_json:
        for invitation in found:
            output.json_line(invitation)
        return
    account_tables.show_invitations(found)


@_group.command()
def uninvite(
    ctx: typer.Context,
    address: Address,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Withdraw an invitation."""
    with administration(ctx, url, profile, data_dir) as admin:
        response = admin.withdraw_invitation(address)
    account_tables.report(response, response.get("message") or "", as_json)


# Audit log


@_group.command()
def audit(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", help="Wait for new entries, until Ctrl-C.")
    ] = False,
    after: Annotated[
        int | None,
        typer.Option(
            "--after", metavar="ID", help="Start after this entry. Default: the newest.", min=0
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Maximum number of entries.", min=1, max=1000)
    ] = 100,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
    data_dir: DataDir = None,
) -> None:
    """Show the audit log: sign-ins, failures, and changes of accounts, oldest first.

    The columns are id, time, user, address of the client, action and object.
    """
    if follow and data_dir is not None:
        raise ConfigurationError("--follow needs a running server; pass it without --data-dir")
    if not follow:
        with administration(ctx, url, profile, data_dir) as admin:
            account_tables.show_audit(admin.audit(after, limit), as_json)
        return
    with connect_to(_target(ctx, url, profile)) as server:
        client = server.transfer_client  # without a deadline
        newest = client.admin.audit(after, limit)
        account_tables.show_audit(newest, as_json)
        last = newest[-1]["id"] if newest else after or 0
        for entry in client.admin.follow_audit(last):
            account_tables.show_audit([entry], as_json)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="admin")
