"""Accounts: verification codes, passwords, tokens. What the ``auth`` routes call.

Synchronous; called in threads. Of a password only its argon2 hash is kept, of a code
and a token only a SHA-256.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy.exc import IntegrityError

from beray.server.dependencies import Services, digest
from beray.server.store import LOCAL_EMAIL, utc_now
from beray.server.tables import User, VerificationCode

CODE_SECONDS: Final = 600.0
CODE_TRIES: Final = 5
MAIL_INTERVAL_SECONDS: Final = 60.0
_EMAIL: Final = re.compile(r"[^\s@<>()\[\]\\,;:\"\x00-\x1f\x7f-\x9f]{1,64}@[\w.-]{1,253}")

_hasher = PasswordHasher()


@cache
def _nobodys_hash() -> str:
    """Checked where an e-mail is unknown, so that the time of an answer does not tell."""
    return _hasher.hash(secrets.token_hex(16))


class Refused(Exception):
    """The server says no; ``status`` is the HTTP status, the text is for the user."""

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


def normal_email(email: str) -> str:
    """Return an e-mail as it is stored.

    Raises:
        Refused: it cannot be an address.
    """
    address = email.strip().lower()
    if not _EMAIL.fullmatch(address) or ".." in address or address.endswith((".", "-")):
        raise Refused(422, "This is not an e-mail address.")
    return address


def send_code(app: Services, email: str) -> None:
    """Mail a new code to ``email``; the one before it is dead.

    Raises:
        Refused: the address is registered, had a mail within the minute, or cannot be one.
        MailFailed: the mail could not be sent; the next try need not wait.
    """
    address = normal_email(email)
    if app.store.user_by_email(address) is not None or address == LOCAL_EMAIL:
        raise Refused(409, "This e-mail is registered already; sign in instead.")
    code = f"{secrets.randbelow(10**6):06}"
    with app.store.writing() as session:
        known = session.get(VerificationCode, address)
        wait = _seconds_until(known.sent_at, MAIL_INTERVAL_SECONDS) if known else 0
        if wait > 0:
            raise Refused(429, f"A code was sent just now; ask again in {wait} s.", wait)
        session.merge(
            VerificationCode(
                email=address,
                digest=digest(f"{address} {code}"),
                sent_at=utc_now(),
                expires_at=utc_now(CODE_SECONDS),
                wrong_tries=0,
            )
        )
    try:
        app.mailer.send(
            address,
            "Your BeRay verification code",
            f"Your verification code is {code}\n\n"
            f"It is valid for {CODE_SECONDS / 60:.0f} minutes. "
            "If you did not ask for it, ignore this mail.\n",
        )
    except BaseException:
        with app.store.writing() as session:
            unsent = session.get(VerificationCode, address)
            if unsent is not None:
                session.delete(unsent)
        raise


def register(app: Services, email: str, code: str, password: str) -> tuple[User, str]:
    """Make an account, and return it with a token.

    Raises:
        Refused: the code is wrong, expired or dead, or the address is registered.
    """
    address = normal_email(email)
    if app.store.user_by_email(address) is not None:
        raise Refused(409, "This e-mail is registered already; sign in instead.")
    _use_code(app, address, code.strip())
    try:
        user = app.store.add_user(address, _hasher.hash(password))
    except IntegrityError:
        raise Refused(409, "This e-mail is registered already; sign in instead.") from None
    with app.store.writing() as session:
        used = session.get(VerificationCode, address)
        if used is not None:
            session.delete(used)
    return user, new_token(app, user)


def _use_code(app: Services, address: str, code: str) -> None:
    """Check a code, and count a wrong one."""
    with app.store.writing() as session:
        known = session.get(VerificationCode, address)
        alive = (
            known is not None and known.expires_at > utc_now() and known.wrong_tries < CODE_TRIES
        )
        if known is None or not alive:
            problem = "The code has expired or was tried too often; ask for a new one."
        elif secrets.compare_digest(known.digest, digest(f"{address} {code}")):
            return
        else:
            known.wrong_tries += 1
            left = CODE_TRIES - known.wrong_tries
            problem = (
                f"The code is wrong; {left} more {'try' if left == 1 else 'tries'}."
                if left
                else "The code is wrong, and now dead; ask for a new one."
            )
    raise Refused(422, problem)


def sign_in(app: Services, email: str, password: str) -> tuple[User, str]:
    """Return the account of a right pair, with a new token.

    Raises:
        Refused: 401, whichever of the two is wrong.
    """
    user = app.store.user_by_email(email.strip().lower())
    stored = user.password_hash if user is not None else None
    try:
        _hasher.verify(stored or _nobodys_hash(), password)
    except (VerificationError, InvalidHashError):
        user = None
    if user is None or stored is None:
        raise Refused(401, "The e-mail or the password is wrong.")
    return user, new_token(app, user)


def new_token(app: Services, user: User, seconds: float | None = None) -> str:
    token = secrets.token_urlsafe(32)
    app.store.add_token(digest(token), user.id, seconds or app.settings.token_seconds)
    return token


def local_sign_in(app: Services) -> str:
    """A token for the account of the user whose own server this is; older ones die."""
    user = app.store.user_by_email(LOCAL_EMAIL) or app.store.add_user(LOCAL_EMAIL, None)
    app.store.remove_tokens_of(user.id)
    return new_token(app, user, 10 * 365 * 24 * 3600)


def _seconds_until(moment: str, interval: float) -> int:
    """Whole seconds until ``interval`` seconds after ``moment`` have passed."""
    passed = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return max(0, int(interval - passed + 0.999))
