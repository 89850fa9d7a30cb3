"""Limits for wrong passwords.

Only wrong passwords count. They are counted per account and address, so that an attacker cannot
lock an account for a user at another address, and per address, against trying one password on
many accounts. An account with many wrong passwords from many addresses is probably attacked from a
botnet: then each address gets fewer attempts per account, but a first attempt with the right
password is never refused.

Arithmetic: an address has 10 attempts a minute on one account. 10,000 addresses together have
100,000, as long as the account has fewer than 100 wrong passwords; afterwards 3 in ten minutes
each, at most 50 a second, which is about what the workers of ``password_hashing`` can check.
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
    """Counts wrong passwords. Accounts are given by their canonical e-mail address."""

    def __init__(self) -> None:
        self._pair = SlidingWindow(10, MINUTE)
        self._pair_of_attacked_account = SlidingWindow(3, TEN_MINUTES)
        self._account = SlidingWindow(100, TEN_MINUTES)
        self._client = SlidingWindow(30, MINUTE)

    def require(self, account: str, client: Client) -> None:
        """Check that the client may try another password.

        Raises:
            ApiHTTPError: 429, it has tried too many wrong ones.
        """
        pair = (account, client.key)
        self._require(self._pair, pair, f"for {account}")
        if self._account.left(account) == 0:
            self._require(self._pair_of_attacked_account, pair, f"for {account}")
        if not client.local:
            self._require(self._client, client.key, "for several accounts")

    def has_failed(self, client: Client) -> bool:
        """Return True if the client has tried a wrong password within the last minute."""
        return self._client.left(client.key) < self._client.limit

    def add_wrong(self, account: str, client: Client) -> None:
        """Count a wrong password."""
        pair = (account, client.key)
        self._pair.add(pair)
        self._pair_of_attacked_account.add(pair)
        self._account.add(account)
        self._client.add(client.key)

    def clear(self, account: str, client: Client) -> None:
        """Forget the wrong passwords of this client for this account, after the right one."""
        pair = (account, client.key)
        self._pair.clear(pair)
        self._pair_of_attacked_account.clear(pair)

    def _require(self, window: SlidingWindow, key: Hashable, subject: str) -> None:
        wait = window.wait_seconds(key)
        if wait:
            raise ApiHTTPError(
                429,
                one_line(
                    f"Too many wrong passwords {subject} from your address "
                    f"({window.limit} within {window.seconds:.0f} s); try again in {wait} s."
                ),
                wait,
            )
