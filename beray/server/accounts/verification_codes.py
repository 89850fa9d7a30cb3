"""Verification codes for e-mail addresses. Synchronous; called in threads.

A code is valid for one purpose only: registration, reset of the password, or change of the address.

Each client address that requests a code gets its own, so that a stranger's request or wrong guess
does not invalidate the code of a user. Any valid code of an e-mail address is accepted from any
client, because all of them are mailed to the same person.

Arithmetic: a code has 6 digits and is valid for 10 minutes. At most 5 codes per hour are mailed
to an e-mail address, so at most 5 are valid at a time, and a guess is right with a probability of
at most 5e-6. Wrong guesses are limited to 5 per code for the client that requested it, and to 5
per client and 20 in total, per hour, for other clients: 45 per hour. A stranger without access to
the mailbox succeeds with a probability of at most 45 * 5e-6 = 0.023 % per hour, from however many
addresses the requests and guesses come. Guesses of other clients do not count against the client
that requested the code.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Final, Literal

from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.sliding_window import SlidingWindow
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import VerificationCode
from beray.server.storage.verification_codes import CodeKey, VerificationCodeRepository

Purpose = Literal["registration", "password reset", "old address", "new address"]
"""Operation that a code permits; the last two are the codes of a change of the address."""

CODE_SECONDS: Final = 600.0
CODE_TRIES: Final = 5
"""Maximum number of wrong guesses of the client that requested the code."""
MAIL_INTERVAL_SECONDS: Final = 60.0
CODES_PER_HOUR: Final = 5
"""Maximum number of codes per hour for one e-mail address."""
GUESSES_OF_OTHERS: Final = 20
"""Maximum number of wrong guesses per hour, for one e-mail address, of all clients that did not
request a code for it."""
MAX_PENDING: Final = 1_000
"""Maximum number of codes that are valid at a time."""
_HOUR: Final = 3600.0


class VerificationCodes:
    """Codes of all e-mail addresses, which are identified by their canonical form."""

    def __init__(self, *, codes: VerificationCodeRepository) -> None:
        self._codes = codes
        self._issued = SlidingWindow(CODES_PER_HOUR, _HOUR)
        self._guesses_of_other = SlidingWindow(CODE_TRIES, _HOUR)
        self._guesses_of_others = SlidingWindow(GUESSES_OF_OTHERS, _HOUR)
        self._guesses_of_client = SlidingWindow(30, CODE_SECONDS)

    def issue(self, purpose: Purpose, email: str, client: Client) -> str:
        """Return a new code, which replaces an earlier one that the client requested.

        Raises:
            ApiHTTPError: 429, a code was mailed to the address within the last minute, or too
                many within the last hour; 503, too many codes are valid on the whole server.
        """
        code = f"{secrets.randbelow(10**6):06}"
        with self._codes.transaction() as codes:
            codes.delete_expired()
            newest = codes.newest_sent_at(purpose, email)
            wait = _seconds_until(newest, MAIL_INTERVAL_SECONDS) if newest else 0
            if wait:
                raise ApiHTTPError(
                    429,
                    f"A code was sent less than {MAIL_INTERVAL_SECONDS:.0f} s ago. Request another "
                    f"one in {wait} s.",
                    wait,
                )
            _require_space(codes.count())
            wait = self._issued.try_add((purpose, email))
            if wait:
                raise ApiHTTPError(
                    429,
                    f"{CODES_PER_HOUR} codes were sent to {email} within the last hour, which is "
                    f"the maximum. Use the newest one, or request another one in {wait} s.",
                    wait,
                )
            codes.put(_key(purpose, email, code), client.key, CODE_SECONDS)
        return code

    def withdraw(self, purpose: Purpose, email: str, code: str) -> None:
        """Remove a code that could not be mailed, and do not count it."""
        self._codes.delete(_key(purpose, email, code))
        self._issued.undo((purpose, email))

    def check(self, purpose: Purpose, email: str, client: Client, code: str) -> CodeKey:
        """Check that the code is valid for the e-mail address; count a wrong one.

        Returns:
            Key with which the code is used up.

        Raises:
            ApiHTTPError: 422, the code is wrong or has expired, or the client's own code was
                tried too often; 429, this client or other clients sent too many wrong codes.
        """
        if not self._codes.has_valid(purpose, email):
            raise code_expired()
        with self._codes.transaction() as codes:
            rows = codes.list_valid(purpose, email)
            own = next((row for row in rows if row.client == client.key), None)
            if not rows or (own is not None and own.wrong_tries >= CODE_TRIES):
                raise code_expired()
            self._reserve_guess(email, client, of_other=own is None)
            key = _key(purpose, email, code)
            if _matches(rows, key):
                self._release_guess(email, client, of_other=own is None)
                return key
            if own is not None:
                own.wrong_tries += 1
                left = CODE_TRIES - own.wrong_tries
            else:
                left = self._guesses_of_other.remaining((email, client.key))
        if left:
            attempts = "attempt" if left == 1 else "attempts"
            raise ApiHTTPError(422, f"The code is wrong; {left} {attempts} left.")
        raise ApiHTTPError(422, "The code is wrong; no attempts are left. Request a new code.")

    def remove(self, purpose: Purpose, email: str) -> None:
        """Remove all codes of an e-mail address after one of them was used."""
        self._codes.delete_all(purpose, email)

    def remove_expired(self) -> None:
        """Remove expired codes."""
        self._codes.delete_expired()

    def _reserve_guess(self, email: str, client: Client, *, of_other: bool) -> None:
        """Count a guess before it is compared, so that simultaneous guesses count as well."""
        if not client.local:
            wait = self._guesses_of_client.try_add(client.key)
            if wait:
                raise ApiHTTPError(
                    429, f"Too many wrong codes from your address. Try again in {wait} s.", wait
                )
        if not of_other:
            return
        pair = (email, client.key)
        wait = self._guesses_of_other.try_add(pair)
        if not wait:
            wait = self._guesses_of_others.try_add(email)
            if wait:
                self._guesses_of_other.undo(pair)
        if wait:
            raise ApiHTTPError(
                429,
                f"Too many wrong codes for {email} from clients that did not request one. Enter "
                f"the code on the network from which it was requested, request a new one from "
                f"yours, or try again in {wait} s.",
                wait,
            )

    def _release_guess(self, email: str, client: Client, *, of_other: bool) -> None:
        if not client.local:
            self._guesses_of_client.undo(client.key)
        if of_other:
            self._guesses_of_other.undo((email, client.key))
            self._guesses_of_others.undo(email)


def _require_space(pending: int) -> None:
    if pending >= MAX_PENDING:
        raise ApiHTTPError(
            503,
            f"{MAX_PENDING} verification codes are pending on this server, which is the "
            f"maximum. Try again in {MAIL_INTERVAL_SECONDS:.0f} s.",
            int(MAIL_INTERVAL_SECONDS),
        )


def _key(purpose: Purpose, email: str, code: str) -> CodeKey:
    return CodeKey(purpose, email, secret_digest(f"{email} {code}"))


def _matches(rows: list[VerificationCode], key: CodeKey) -> bool:
    return any(
        secrets.compare_digest(row.digest, key.digest)
        for row in rows
        if row.wrong_tries < CODE_TRIES
    )


def code_expired() -> ApiHTTPError:
    """Return the 422 for a code that is not valid any more."""
    return ApiHTTPError(422, "The code has expired or was tried too often. Request a new one.")


def _seconds_until(moment: str, interval: float) -> int:
    """Return the whole seconds until ``interval`` seconds have passed since ``moment``."""
    passed = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    return max(0, int(interval - passed + 0.999))
