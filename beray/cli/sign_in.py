"""Sessions of the command: how they are saved in profiles, and shown."""

from __future__ import annotations

from collections.abc import Callable

from beray.cli import output
from beray.cli.errors import error_text
from beray.config import Profiles, Target
from beray.exceptions import RateLimitError
from beray.schema import Message, Session, email_of


def save_session(
    profiles: Profiles, server: Target, session: Session, email: str, as_json: bool
) -> None:
    """Save a new session in the profile of its server, make that the current one, and report it.

    Args:
        profiles: Saved profiles.
        server: Server of the session.
        session: The session.
        email: Address of the account, if the server did not return it.
        as_json: Whether to write the account as JSON.

    Raises:
        ConfigurationError: The profiles file is invalid or locked by another process.
        OSError: The file cannot be written.
    """
    saved = profiles.sign_in(server, session["access_token"], email_of(session) or email)
    if as_json:
        facts = {"email": saved.email or email, "server": saved.url, "profile": saved.profile}
        show_facts(facts, as_json=True)
    else:
        output.note(f"signed in to {saved.url} as {saved.email} (profile {saved.profile})")
    if (session.get("user") or {}).get("must_change_password"):
        output.note("an administrator requires a new password; run `beray password change`")


def request_code(request: Callable[[], Message]) -> None:
    """Request a code by e-mail, and report the result.

    If too many codes were requested, the command continues: a code that was sent before is still
    valid.

    Args:
        request: Sends the request.
    """
    try:
        output.note(request().get("message") or "")
    except RateLimitError as error:
        output.note(error_text(error))


def holds_session(profiles: Profiles, server: Target) -> bool:
    """Return True if the token in use is that of the profile, and not that of BERAY_TOKEN."""
    saved = profiles.get(server.profile)
    return saved is not None and saved.token is not None and saved.token == server.token


def show_facts(facts: dict[str, str], as_json: bool) -> None:
    """Write names and values to stdout."""
    if as_json:
        output.json_line(facts)
        return
    for name, value in facts.items():
        output.line(f"{name + ':':<10}{output.cell(value)}")
