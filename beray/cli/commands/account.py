"""Commands for accounts: register, login, logout, whoami."""

from __future__ import annotations

import os

import typer

from beray.cli import output
from beray.cli.context import (
    TOKEN_VARIABLE,
    client_for,
    remote_target,
    resolve_target,
    sign_in_target,
)
from beray.cli.errors import error_text
from beray.cli.options import AsJson, Email, ProfileName, Url
from beray.cli.prompts import ask, ask_new_password, ask_secret
from beray.cli.sign_in import request_code, save_session, show_facts
from beray.client import BeRayClient
from beray.config import Profiles
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
)


def register_account(
    ctx: typer.Context,
    email: Email = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Create an account on a server, and sign in.

    The command asks for an e-mail address, the verification code that the server sends to it,
    and a password. Code and password are read without echo, or as lines from stdin.
    """
    profiles = Profiles()
    server = sign_in_target(ctx, profiles, url, profile)
    address = email or ask("e-mail")
    with client_for(server) as client:
        request_code(lambda: client.request_verification_code(address))
        code = ask_secret("code")
        session = client.register(address, code.strip(), ask_new_password())
    save_session(profiles, server, session, address, as_json)


def login(
    ctx: typer.Context,
    email: Email = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Sign in to a server.

    The server and the session are saved as a profile, which becomes the current profile. The
    password is read without echo, or as a line from stdin.
    """
    profiles = Profiles()
    server = sign_in_target(ctx, profiles, url, profile)
    address = email or ask("e-mail", server.email)
    with client_for(server) as client:
        session = client.login(address, ask_secret("password"))
    save_session(profiles, server, session, address, as_json)


def logout(ctx: typer.Context, url: Url = None, profile: ProfileName = None) -> int:
    """Sign out of a server.

    The session ends on the server, and is removed from the profile.
    """
    profiles = Profiles()
    # The environment's token does not belong to the session of the profile.
    environ = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    server = remote_target(ctx, profiles, url, profile, environ)
    if os.environ.get(TOKEN_VARIABLE):
        output.note(f"{TOKEN_VARIABLE} is set and remains valid; unset it to stop using it")
    if server.token is None:
        output.note(f"not signed in to {server.url}")
        return 0
    try:
        with BeRayClient(server.url, server.token) as client:
            output.note(client.logout().get("message") or "")
    except AuthenticationError:
        output.note("the session had already ended")
    except BeRayException as error:
        profiles.sign_out(server.profile)
        output.error(
            f"{error_text(error)}; the session was removed here, "
            "but may still be valid on the server"
        )
        return 1
    profiles.sign_out(server.profile)
    return 0


def whoami(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """Show the account, server and profile in use."""
    server = resolve_target(ctx, Profiles(), url, profile)
    with client_for(server) as client:
        user = client.get_current_user()
    show_facts(
        {"email": user.get("email") or "", "server": server.url, "profile": server.profile}, as_json
    )


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("register")(register_account)
    for command in (login, logout, whoami):
        app.command()(command)
