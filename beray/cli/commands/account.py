"""Accounts: register, login, logout, whoami."""

from __future__ import annotations

import os
import sys

import typer

from beray.cli import output
from beray.cli.context import TOKEN, client_of, remote, target, to_sign_in
from beray.cli.errors import words
from beray.cli.options import AsJson, Email, ProfileName, Url
from beray.cli.prompts import ask, ask_secret
from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.exceptions import (
    AuthenticationError,
    BeRayException,
    RateLimitError,
)
from beray.schema import Session, email_of


def register_account(
    ctx: typer.Context,
    email: Email = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Make an account on a server.

    It asks for an e-mail address, the code that is mailed to it and a password.
    Code and password are asked for without echo, or read as lines from stdin.
    """
    profiles = Profiles()
    server = to_sign_in(ctx, profiles, url, profile)
    address = email or ask("e-mail")
    with client_of(server) as client:
        try:
            output.note(client.request_verification_code(address).get("message") or "")
        except RateLimitError as error:
            # A code is on its way already; it is as good as a new one.
            output.note(words(error))
        code = ask_secret("code")
        session = client.register(address, code.strip(), _new_password())
    _remember(profiles, server, session, address, as_json)


def login(
    ctx: typer.Context,
    email: Email = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Sign in to a server.

    The server and the session are remembered as a profile, which becomes the current one.
    The password is asked for without echo, or read as a line from stdin.
    """
    profiles = Profiles()
    server = to_sign_in(ctx, profiles, url, profile)
    address = email or ask("e-mail", server.email)
    with client_of(server) as client:
        session = client.login(address, ask_secret("password"))
    _remember(profiles, server, session, address, as_json)


def logout(ctx: typer.Context, url: Url = None, profile: ProfileName = None) -> int:
    """Sign out: end the session, forget it here."""
    profiles = Profiles()
    # The token of the environment is not the session of the profile.
    environ = {name: value for name, value in os.environ.items() if name != TOKEN}
    server = remote(ctx, profiles, url, profile, environ)
    if os.environ.get(TOKEN):
        output.note(f"{TOKEN} is set and stays as it is")
    if server.token is None:
        output.note(f"you are not signed in to {server.url}")
        return 0
    try:
        with BeRayClient(server.url, server.token) as client:
            output.note(client.logout().get("message") or "")
    except AuthenticationError:
        output.note("the session had ended already")
    except BeRayException as error:
        profiles.sign_out(server.profile)
        output.problem(f"{words(error)}; the session is forgotten here, the server may keep it")
        return 1
    profiles.sign_out(server.profile)
    return 0


def whoami(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """Show account, server and profile in use."""
    server = target(ctx, Profiles(), url, profile)
    with client_of(server) as client:
        user = client.get_current_user()
    _show(
        {"email": user.get("email") or "", "server": server.url, "profile": server.profile}, as_json
    )


def _new_password() -> str:
    """A password, typed twice where somebody types it."""
    while True:
        password = ask_secret("password")
        if not output.is_terminal(sys.stdin) or ask_secret("password again") == password:
            return password
        output.note("the two are not the same; once more")


def _remember(
    profiles: Profiles, server: Target, session: Session, email: str, as_json: bool
) -> None:
    saved = profiles.sign_in(server, session["access_token"], email_of(session) or email)
    facts = {"email": saved.email or email, "server": saved.url, "profile": saved.profile}
    if as_json:
        _show(facts, as_json=True)
    else:
        output.note(f"signed in to {saved.url} as {saved.email} (profile {saved.profile})")


def _show(facts: dict[str, str], as_json: bool) -> None:
    if as_json:
        output.json_line(facts)
        return
    for name, value in facts.items():
        output.line(f"{name + ':':<10}{output.cell(value)}")


def register(app: typer.Typer) -> None:
    app.command("register")(register_account)
    for command in (login, logout, whoami):
        app.command()(command)
