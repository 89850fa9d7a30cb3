"""Authentication of requests. No ``repr`` of these objects contains a secret."""

from __future__ import annotations

from typing import Final

import requests
from requests.auth import AuthBase

from beray.http.connection import CancelToken


class HeaderAuth(AuthBase):
    """Authentication by a request header.

    It takes precedence over ``.netrc`` and over the ``auth`` of a session.

    Args:
        header: Name of the header.
        value: Value of the header, which is a secret; ``None`` leaves requests unchanged.
    """

    def __init__(self, header: str = "", value: str | None = None) -> None:
        self._header = header
        self._value = value

    @property
    def value(self) -> str | None:
        """Value of the header, which is a secret."""
        return self._value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Set the header of a request."""
        if self._value is not None:
            request.headers[self._header] = self._value
        return request


NO_AUTH: Final = HeaderAuth()
"""Authentication that leaves requests unchanged."""


class AuthProvider:
    """Source of the authentication of each request. This one always returns the same."""

    def __init__(self, auth: HeaderAuth = NO_AUTH) -> None:
        self._auth = auth

    def auth(self, cancel: CancelToken | None = None) -> HeaderAuth:
        """Return the authentication for a request that is sent now.

        Args:
            cancel: Cancels the wait for a new token, in subclasses that request one.
        """
        return self._auth

    def renew(
        self,
        rejected: HeaderAuth,
        cancel: CancelToken | None = None,
    ) -> HeaderAuth | None:
        """Return a replacement for ``rejected`` after a 401; ``None`` if none is available."""
        return None


def bearer_auth(token: str | None) -> HeaderAuth:
    """Return authentication with a bearer token (RFC 6750, 2.1); ``None`` for no token."""
    return HeaderAuth("Authorization", None if token is None else f"Bearer {token}")
