"""Rate limits for failed sign-ins.

Only wrong passwords count. They are counted per account and address, so that an attacker cannot
lock an account for a user at another address, and per address, against trying one password on
many accounts. An account with many wrong passwords from many addresses is probably attacked by a
botnet: then each address gets fewer attempts per account, but a first attempt with the right
password is never rejected.

Arithmetic: an address has 10 attempts per minute on one account. 10,000 addresses together have
100,000, until the account has 100 wrong passwords; afterwards each address has 3 in ten minutes,
together at most 50 per second, which is about the capacity of the workers of
``password_hashing``.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from beray.sanitize import one_line
from beray.server.http.client_address import Client
from beray.server.http.errors import ApiHTTPError
from beray.server.runtime.sliding_window import SlidingWindow

MINUTE: Final = 60.0
TEN_MINUTES: Final = 600.0


class LoginLimits:
    """Counters of wrong passwords. Accounts are identified by their canonical e-mail address."""

    def __init__(self) -> None:
        self._pair = SlidingWindow(10, MINUTE)
        self._pair_of_attacked_account = SlidingWindow(3, TEN_MINUTES)
        self._account = SlidingWindow(100, TEN_MINUTES)
        self._client = SlidingWindow(30, MINUTE)

    def check(self, account: str, client: Client) -> None:
        """Check that the client may try another password.

        Raises:
            ApiHTTPError: 429, the client has sent too many wrong passwords.
        """
        pair = (account, client.key)
        self._check(self._pair, pair, f"for {account}")
        if self._account.remaining(account) == 0:
            self._check(self._pair_of_attacked_account, pair, f"for {account}")
        if not client.local:
            self._check(self._client, client.key, "for several accounts")

    def has_failed(self, client: Client) -> bool:
        """Return True if the client has sent a wrong password within the last minute."""
        return self._client.remaining(client.key) < self._client.limit

    def add_failure(self, account: str, client: Client) -> None:
        """Count a wrong password."""
        pair = (account, client.key)
        self._pair.add(pair)
        self._pair_of_attacked_account.add(pair)
        self._account.add(account)
        self._client.add(client.key)

    def clear(self, account: str, client: Client) -> None:
        """Reset the count of this client for this account, after the right password."""
        pair = (account, client.key)
        self._pair.clear(pair)
        self._pair_of_attacked_account.clear(pair)

    def _check(self, window: SlidingWindow, key: Hashable, subject: str) -> None:
        wait = window.wait_seconds(key)
        if wait:
            raise ApiHTTPError(
                429,
                one_line(
                    f"Too many wrong passwords {subject} from your address "
                    f"(limit: {window.limit} in {window.seconds:.0f} s). Try again in {wait} s."
                ),
                wait,
            )
