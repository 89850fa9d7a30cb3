"""Commands for the user's password: ``beray password``."""

from __future__ import annotations

import typer

from beray.cli import output
from beray.cli.context import client_for, remote_target, sign_in_target
from beray.cli.options import AsJson, Email, ProfileName, Url
from beray.cli.prompts import ask, ask_new_password, ask_secret
from beray.cli.sign_in import request_code, save_session
from beray.config import Profiles

_group = typer.Typer(help="Your password.", no_args_is_help=True, rich_markup_mode=None)


@_group.command()
def reset(
    ctx: typer.Context,
    email: Email = None,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Set a new password if you have forgotten it, and sign in.

    The command asks for an e-mail address, the code that the server sends to it, and a new
    password. Code and password are read without echo, or as lines from stdin. All sessions of the
    account end.
    """
    profiles = Profiles()
    server = sign_in_target(ctx, profiles, url, profile)
    address = email or ask("e-mail", server.email)
    with client_for(server) as client:
        request_code(lambda: client.request_password_reset(address))
        code = ask_secret("code")
        session = client.reset_password(address, code.strip(), ask_new_password("new password"))
    save_session(profiles, server, session, address, as_json)


@_group.command()
def change(
    ctx: typer.Context, as_json: AsJson = False, url: Url = None, profile: ProfileName = None
) -> None:
    """Change the password. All other sessions of the account end.

    The current and the new password are read without echo, or as lines from stdin.
    """
    server = remote_target(ctx, Profiles(), url, profile)
    with client_for(server) as client:
        current = ask_secret("current password")
        response = client.change_password(current, ask_new_password("new password"))
    output.json_line(response) if as_json else output.note(response.get("message") or "")


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="password")
