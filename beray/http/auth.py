"""What signs requests. No repr of it shows a secret."""

from __future__ import annotations

from typing import Final

import requests
from requests.auth import AuthBase

from beray.http.connection import Cancel


class Signature(AuthBase):
    """A header that signs a request, in a way that neither netrc nor a session's own auth
    can replace; without a value it leaves the request as it is."""

    def __init__(self, header: str = "", value: str | None = None) -> None:
        self._header = header
        self._value = value

    @property
    def value(self) -> str | None:
        """The value of the header, which is a credential."""
        return self._value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers[self._header] = self._value
        return request


UNSIGNED: Final = Signature()


class Credential:
    """Signs every request in the same way."""

    def __init__(self, signature: Signature = UNSIGNED) -> None:
        self._signature = signature

    def signature(self, cancel: Cancel | None = None) -> Signature:
        """What signs a request that is made now.

        Args:
            cancel: ends the wait for it, where there is one.
        """
        return self._signature

    def renewed(
        self,
        refused: Signature,
        cancel: Cancel | None = None,
    ) -> Signature | None:
        """Another signature than the one that the server no longer takes, if there is one."""
        return None


def bearer(token: str | None) -> Signature:
    """Sign with ``token`` by RFC 6750, 2.1; ``None``: not at all."""
    return Signature("Authorization", None if token is None else f"Bearer {token}")
