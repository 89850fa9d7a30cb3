"""One-time link with which the first administrator of a server is created."""

from __future__ import annotations

import secrets
from typing import Final

SETUP_PATH: Final = "/setup"


class FirstAdministrator:
    """Token of the link, which is valid until an administrator exists or the server stops.

    The token is in the fragment of the URL, which browsers do not send, and of which only this
    process has a copy.
    """

    def __init__(self) -> None:
        self._token: str | None = None

    def open(self, base_url: str) -> str:
        """Return the link of a server without administrators; it replaces an earlier one."""
        self._token = secrets.token_urlsafe(24)
        return f"{base_url}{SETUP_PATH}#{self._token}"

    @property
    def is_open(self) -> bool:
        """True while the link is valid."""
        return self._token is not None

    def matches(self, token: str) -> bool:
        """Return True if ``token`` is that of the valid link."""
        return self._token is not None and secrets.compare_digest(
            self._token.encode(), token.encode("utf-8", "replace")
        )

    def close(self) -> None:
        """Make the link invalid."""
        self._token = None
