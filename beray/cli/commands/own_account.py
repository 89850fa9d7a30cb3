"""Commands for the user's own account: ``beray account``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beray.cli import output
from beray.cli.context import client_for, connect, remote_target
from beray.cli.errors import DONE, FAILED
from beray.cli.options import AsJson, Force, ProfileName, Url, Yes, encodable
from beray.cli.progress import progress_bars
from beray.cli.prompts import ask_secret, confirm, require_confirmable
from beray.cli.sign_in import holds_session, request_code
from beray.config import Profiles
from beray.exceptions import ConfigurationError

_group = typer.Typer(
    help="Your account: change its address, export or delete it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@_group.command()
def email(
    ctx: typer.Context,
    address: Annotated[
        str, typer.Argument(metavar="NEW", help="New e-mail address.", callback=encodable)
    ],
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Change the e-mail address of your account.

    The command asks for the password, and for the two codes that the server sends to the current
    and to the new address. They are read without echo, or as lines from stdin.
    """
    profiles = Profiles()
    server = remote_target(ctx, profiles, url, profile)
    with client_for(server) as client:
        secret = ask_secret("password")
        request_code(lambda: client.request_email_change(address, secret))
        current_code = ask_secret("code sent to the current address").strip()
        new_code = ask_secret("code sent to the new address").strip()
        user = client.change_email(address, current_code, new_code)
    changed = user.get("email") or address
    if holds_session(profiles, server):
        profiles.set_email(server.profile, changed)
    if as_json:
        output.json_line(user)
    else:
        output.note(f"your address is now {changed}")


@_group.command()
def export(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Local file.")
    ] = Path("beray-export.zip"),
    force: Force = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> None:
    """Download all data of your account as a ZIP archive.

    It has the tasks and chats with their events, as JSON lines, and their files.
    """
    if file == Path("-"):
        raise ConfigurationError("--output - is not supported; pass the name of a file")
    with connect(ctx, url, profile) as server, progress_bars() as start_bar:
        saved = server.transfer_client.export_data(
            file, overwrite=force, transfer=start_bar(file.name)
        )
    size = saved.stat().st_size
    if as_json:
        output.json_line({"local": output.path_text(saved), "size": size})
    else:
        output.note(f"{saved}: {size} bytes")


@_group.command()
def delete(
    ctx: typer.Context,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
    profile: ProfileName = None,
) -> int:
    """Delete your account with all tasks, events, files and keys.

    Running tasks are stopped. The command asks for a confirmation and for the password, which is
    read without echo, or as a line from stdin.
    """
    require_confirmable(yes, "delete")
    profiles = Profiles()
    server = remote_target(ctx, profiles, url, profile)
    with client_for(server) as client:
        if not yes:
            address = client.get_current_user().get("email") or "your account"
            question = f"Delete {address} on {server.url} with all its tasks and files?"
            if not confirm(question):
                output.note("nothing was deleted")
                return FAILED
        response = client.delete_account(ask_secret("password"))
    if holds_session(profiles, server):
        profiles.sign_out(server.profile)
    output.json_line(response) if as_json else output.note(response.get("message") or "")
    return DONE


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.add_typer(_group, name="account")
