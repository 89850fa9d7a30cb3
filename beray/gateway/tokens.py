"""Which gateway, and as whom: what is given, what the environment says, and API keys.

Source: the Gateway wire page (``X-Internal-Token``; ``/v1/auth/convert_to_internal_token``).
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping
from typing import Final

from beray.config import checked_base_url, origin
from beray.connections import Cancel
from beray.credentials import UNSIGNED, Credential, Signature, bearer, checked_token
from beray.exceptions import (
    BeRayException,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
)
from beray.gateway.checks import checked_text
from beray.gateway.schema import INTERNAL_TOKEN
from beray.transport import Transport

DEFAULT_URL: Final = "http://localhost:8000"
_EXCHANGE: Final = "/v1/auth/convert_to_internal_token"


def internal(token: str) -> Signature:
    """Sign with an internal token.

    Raises:
        InvalidArgument: for characters that a header cannot carry.
    """
    return Signature("X-Internal-Token", checked_token(token))


def gateway_url(base_url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """``base_url``, or that of ``BERAY_GATEWAY_URL``, of ``BERAY_URL``, of this machine.

    Raises:
        InvalidArgument: it is no text.
    """
    if base_url is not None:
        return checked_text(base_url, "base_url", empty=True)
    return environ.get("BERAY_GATEWAY_URL") or environ.get("BERAY_URL") or DEFAULT_URL


def given_credential(
    internal_token: str | None,
    jwt_token: str | None,
    base_url: str | None,
    environ: Mapping[str, str] = os.environ,
) -> Credential:
    """What signs the calls of a client that has no API key.

    ``X_INTERNAL_TOKEN`` of the environment is used where no token is given; for an
    explicit ``base_url`` only where ``BERAY_GATEWAY_URL`` names the same server or none.
    """
    if internal_token is not None:
        return Credential(internal(internal_token))
    if jwt_token is not None:
        return Credential(bearer(checked_token(jwt_token)))
    token, env_url = environ.get("X_INTERNAL_TOKEN"), environ.get("BERAY_GATEWAY_URL", "")
    elsewhere = base_url is not None and (
        bool(env_url) and origin(checked_base_url(env_url)) != origin(checked_base_url(base_url))
    )
    return Credential(internal(token) if token and not elsewhere else UNSIGNED)


def require_one(**given: str | None) -> None:
    """Raise ``InvalidArgument`` where more than one way in is given, or one that is empty."""
    names = [name for name, value in given.items() if value is not None]
    for name in names:
        checked_text(given[name], name)
    if len(names) > 1:
        raise InvalidArgument(f"{' and '.join(names)}: a client has one of them")


class ApiKey(Credential):
    """An API key: exchanged for an internal token when one is first needed, and again
    when that has expired. Threads that notice it together exchange it once, and have what
    has come of it together."""

    def __init__(self, gateway: Transport) -> None:
        """``gateway`` makes the exchange, and signs it with the key."""
        super().__init__()
        self._gateway = gateway
        self._lock = threading.Lock()
        self._token: Signature | None = None
        self._exchanges = 0
        self._failure: BeRayException | None = None

    def signature(self, cancel: Cancel | None = None) -> Signature:
        return self._valid(None, cancel)

    def renewed(self, refused: Signature, cancel: Cancel | None = None) -> Signature | None:
        return self._valid(refused, cancel)

    def _valid(self, refused: Signature | None, cancel: Cancel | None) -> Signature:
        before = self._exchanges
        with self._lock:
            if self._token is not None and self._token is not refused:
                return self._token
            self._token = None
            if self._exchanges != before and self._failure is not None:
                # It failed while this thread waited for it: to wait once more helps nobody.
                raise copy.copy(self._failure)
            self._failure = None
            try:
                self._token = self._exchanged(cancel)
            except BeRayException as error:
                if cancel is None or not cancel.cancelled:
                    self._failure = error
                raise
            finally:
                self._exchanges += 1
            return self._token

    def _exchanged(self, cancel: Cancel | None) -> Signature:
        try:
            answer = self._gateway.json(
                INTERNAL_TOKEN, "POST", _EXCHANGE, cancel=cancel, harmless=True
            )
        except ConnectionFailed as error:
            # Of the call that wanted the token nothing has reached anybody.
            kind = DeadlineExceeded if isinstance(error, DeadlineExceeded) else ConnectionFailed
            failure = kind(str(error), delivered=False, method=error.method, path=error.path)
        else:
            try:
                return internal(answer["internal_token"])
            except InvalidArgument:
                text = f"POST {_EXCHANGE}: the answer has a token that no header can carry"
                raise InvalidResponseError(text, body="", path=_EXCHANGE) from None
        raise failure
