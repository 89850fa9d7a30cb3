"""What the screens for signing in and registering share."""

from __future__ import annotations

from dataclasses import replace

from textual.content import Content

from beray.config import Profiles, Target
from beray.schema import Session
from tui import messages, safe


def server(target: Target) -> Content:
    """Where the user is about to sign in."""
    if target.profile == target.url.rpartition("//")[2]:
        return safe.line(target.url, 200)
    return Content("  ").join([safe.line(target.profile, 60), safe.line(target.url, 200)])


def remember(session: Session, target: Target, profiles: Profiles) -> messages.SignedIn:
    """Store the token of ``session`` for the profile of ``target``. Writes to disk.

    A token that cannot be stored still signs in: the message then says why it was not.
    """
    token, email = session["access_token"], session["user"]["email"]
    signed_in = replace(target, token=token, email=email)
    if target.embedded:
        return messages.SignedIn(signed_in)
    try:
        return messages.SignedIn(profiles.sign_in(target, token, email))
    except OSError as error:
        return messages.SignedIn(signed_in, unsaved=error.strerror or type(error).__name__)
