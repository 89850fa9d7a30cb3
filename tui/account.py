"""Functions shared by the screens for signing in, registering and choosing a server."""

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
from tui.state.current_server import must_change_password

if TYPE_CHECKING:
    from beray.client import BeRayClient

RESEND_SECONDS: Final = 60.0
"""Minimum time between two codes for one address, unless the server returns another one."""
MIN_PASSWORD_CHARACTERS: Final = 8

_SPACED: Final = re.compile(r"[\d\s-]*")
# Formats of codes in mails: in one piece, in two or three, digit by digit, other lengths.
_CODES: Final = tuple(
    re.compile(rf"(?<![\d-]){code}(?![\d-])")
    for code in (
        r"\d{6}", r"\d{3}[\s-]\d{3}", r"\d\d[\s-]\d\d[\s-]\d\d", r"\d(?:[\s-]\d){5}", r"\d{4,8}",
    )
)  # fmt: skip


def server_label(target: Target) -> Content:
    """Return the profile name and URL that a sign-in screen shows."""
    if target.profile == target.url.rpartition("//")[2]:
        return sanitize.line(target.url, 200)
    # The password is sent to the URL: a long profile name must not hide it.
    return Content("  ").join([sanitize.line(target.profile, 20), sanitize.line(target.url, 200)])


def sign_in(
    authenticate: Callable[[], Session],
    client: BeRayClient,
    target: Target,
    profiles: Profiles,
    is_current: Callable[[], bool],
    entered: str,
) -> messages.SignedIn:
    """Call ``authenticate`` and store the returned token in the profile. Blocks.

    If the token cannot be stored, the user is still signed in, and the message contains the
    reason. If the result is no longer needed, nothing is stored and the session is ended.

    Args:
        authenticate: Logs in or registers with ``client``.
        client: Client of the server; used to end a session that is no longer needed.
        target: Server and profile that the sign-in is for.
        profiles: Storage of tokens.
        is_current: Returns False once the result is no longer needed.
        entered: E-mail address that the user typed, for servers that do not return it.
    """
    session = authenticate()
    token, email = session["access_token"], email_of(session) or entered
    must_change = must_change_password(session.get("user"))
    signed_in = replace(target, token=token, email=email)
    if not is_current():
        with suppress(BeRayException):
            client.logout()
        return messages.SignedIn(signed_in)
    if target.embedded:
        return messages.SignedIn(signed_in)
    unsaved = ""
    try:
        signed_in = profiles.sign_in(target, token, email)
    except (OSError, ConfigurationError) as error:
        unsaved = profile_error(error)
    return messages.SignedIn(signed_in, unsaved, must_change)


def new_password_problem(password: str) -> str | None:
    """Return why a new password cannot be sent to the server, which has further rules; or None."""
    if len(password) < MIN_PASSWORD_CHARACTERS:
        return (
            f"The password has {len(password)} characters; {MIN_PASSWORD_CHARACTERS} are required."
        )
    return None


def profile_error(error: Exception) -> str:
    """Return the reason why the profiles could not be read or written."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return sanitize.error_text(error)


def extract_code(text: str) -> str:
    """Return the verification code in ``text``: typed input, or a pasted part of the mail."""
    flat = unicodedata.normalize("NFKC", text).strip()
    if flat.isalnum():
        return flat
    target = _SPACED.fullmatch(flat) or next(
        filter(None, (code.search(flat) for code in _CODES)), None
    )
    return re.sub(r"\D", "", target[0]) if target else "".join(flat.split())


class ResendTimer:
    """Time until another verification code can be sent, for each e-mail address."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def record_sent(self, email: str, seconds: float | None = None) -> None:
        """Record that a code was sent, or that the server rejects requests for ``seconds``."""
        self._until[email] = self._clock() + (RESEND_SECONDS if seconds is None else seconds)

    def seconds_left(self, email: str) -> int:
        """Return the remaining seconds, rounded up; 0 if a code can be requested."""
        return max(0, math.ceil(self._until.get(email, 0.0) - self._clock()))


def profile_target(profiles: Profiles, name: str) -> Target:
    """Return the server and the saved account of profile ``name``.

    Raises:
        ConfigurationError: There is no profile of that name.
    """
    target = resolve(profiles, profile=name, environ={})
    assert target is not None, "a profile always has a target"
    return target


def new_target(profiles: Profiles, url: str) -> Target:
    """Return the server at ``url``, with its existing profile name or a new one.

    Raises:
        ConfigurationError: ``url`` is not a valid server URL.
    """
    target = resolve(profiles, url=url, environ={})
    assert target is not None, "a URL always has a target"
    name, number = target.profile, 1
    while name == LOCAL or _is_other_server(profiles, name, target.url):
        number += 1
        name = f"{target.profile}-{number}"
    return replace(target, profile=name)


def _is_other_server(profiles: Profiles, name: str, url: str) -> bool:
    known = profiles.get(name)
    return known is not None and origin(known.url) != origin(url)


def set_current_profile(profiles: Profiles, name: str) -> None:
    """Make a profile the current one for the next start. Writes to disk."""
    profiles.use(name)


def end_session(name: str, clients: Sequence[BeRayClient]) -> str:
    """Log out the tokens of profile ``name`` on its server and return a notice. Blocks.

    Args:
        name: Profile whose token has been removed.
        clients: Clients with the tokens of that profile. They are closed.
    """
    outcome = ""
    for client in clients:
        try:
            client.logout()
        except AuthenticationError:
            outcome = "; the session had already ended"
        except BeRayException as error:
            reason = sanitize.error_text(error)
            outcome = f" on this machine, but the server may keep the session: {reason}"
        finally:
            client.close()
    return f"Signed out of {one_line(name, 60)}{outcome}"
