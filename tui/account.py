"""What the screens for signing in, registering and choosing a server share."""

from __future__ import annotations

import math
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from textual.content import Content

from beray.config import LOCAL, Profiles, Target, origin, resolve
from beray.exceptions import AuthenticationError, BeRayException, ConfigurationError
from beray.sanitize import one_line
from beray.schema import Session, email_of
from tui import messages, sanitize

if TYPE_CHECKING:
    from beray.client import BeRayClient

RESEND_SECONDS: Final = 60.0
"""How long a server sends no second code to an address, where it does not say so itself."""

_SPACED: Final = re.compile(r"[\d\s-]*")
# As mails set a code: in one piece, in two or three, digit by digit, or of another length.
_CODES: Final = tuple(
    re.compile(rf"(?<![\d-]){code}(?![\d-])")
    for code in (
        r"\d{6}", r"\d{3}[\s-]\d{3}", r"\d\d[\s-]\d\d[\s-]\d\d", r"\d(?:[\s-]\d){5}", r"\d{4,8}",
    )
)  # fmt: skip


def server(target: Target) -> Content:
    """Where the user is about to sign in."""
    if target.profile == target.url.rpartition("//")[2]:
        return sanitize.line(target.url, 200)
    # The address is what a password goes to: a long name leaves it in view.
    return Content("  ").join([sanitize.line(target.profile, 20), sanitize.line(target.url, 200)])


def sign_in(
    sign: Callable[[], Session],
    client: BeRayClient,
    target: Target,
    profiles: Profiles,
    wanted: Callable[[], bool],
    entered: str,
) -> messages.SignedIn:
    """Sign in by ``sign``, a call of ``client``, and store the token for the profile. Blocks.

    A token that cannot be stored still signs in: the message then says why it was not.
    Where nobody waits any more nothing is stored, and the session is ended again.

    Args:
        entered: the e-mail address that the user typed, for servers that do not return it.
    """
    session = sign()
    token, email = session["access_token"], email_of(session) or entered
    signed_in = replace(target, token=token, email=email)
    if not wanted():
        with suppress(BeRayException):
            client.logout()
        return messages.SignedIn(signed_in)
    if target.embedded:
        return messages.SignedIn(signed_in)
    try:
        return messages.SignedIn(profiles.sign_in(target, token, email))
    except (OSError, ConfigurationError) as error:
        return messages.SignedIn(signed_in, unsaved=problem(error))


def problem(error: Exception) -> str:
    """What kept the profiles from being read or written, in words."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return sanitize.words(error)


def code_in(text: str) -> str:
    """The code in ``text``: what was typed, or a piece of the mail that was pasted."""
    flat = unicodedata.normalize("NFKC", text).strip()
    if flat.isalnum():
        return flat
    found = _SPACED.fullmatch(flat) or next(
        filter(None, (code.search(flat) for code in _CODES)), None
    )
    return re.sub(r"\D", "", found[0]) if found else "".join(flat.split())


class Resend:
    """For each address, the seconds until another code can be sent there."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def sent(self, email: str, seconds: float | None = None) -> None:
        """A code was sent, or is refused for ``seconds``."""
        self._until[email] = self._clock() + (RESEND_SECONDS if seconds is None else seconds)

    def left(self, email: str) -> int:
        """Whole seconds, rounded up; 0 where a code can be asked for."""
        return max(0, math.ceil(self._until.get(email, 0.0) - self._clock()))


def at(profiles: Profiles, name: str) -> Target:
    """The server of a profile, as the account that is saved there.

    Raises:
        ConfigurationError: there is no such profile.
    """
    found = resolve(profiles, profile=name, environ={})
    assert found is not None, "the own server is no profile"
    return found


def added(profiles: Profiles, url: str) -> Target:
    """The server at ``url`` under the name that it has, or gets, among the profiles.

    Raises:
        ConfigurationError: ``url`` cannot be used.
    """
    found = resolve(profiles, url=url, environ={})
    assert found is not None, "a URL is a server"
    name, number = found.profile, 1
    while name == LOCAL or _is_another(profiles, name, found.url):
        number += 1
        name = f"{found.profile}-{number}"
    return replace(found, profile=name)


def _is_another(profiles: Profiles, name: str, url: str) -> bool:
    known = profiles.get(name)
    return known is not None and origin(known.url) != origin(url)


def use(profiles: Profiles, name: str) -> None:
    """Make a profile the current one, for the next start. Writes to disk."""
    profiles.use(name)


def end_session(name: str, clients: Sequence[BeRayClient]) -> str:
    """Log out the tokens of profile ``name`` on its server, and return the notice. Blocks.

    Args:
        name: the profile, which holds no token any more.
        clients: each holds a token of that profile; they are closed.
    """
    outcome = ""
    for client in clients:
        try:
            client.logout()
        except AuthenticationError:
            outcome = "; the session had ended already"
        except BeRayException as error:
            outcome = f" here, but the server may keep the session: {sanitize.words(error)}"
        finally:
            client.close()
    return f"Signed out of {one_line(name, 60)}{outcome}"
