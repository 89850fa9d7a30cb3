"""Which gateway, and as whom: what is given, what the environment says, and API keys.

Source: the Gateway wire page (``X-Internal-Token``; ``/v1/auth/convert_to_internal_token``).
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from beray.config import checked_base_url, checked_token, origin
from beray.exceptions import (
    BeRayException,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
)
from beray.gateway.argument_checks import checked_text
from beray.gateway.schema import INTERNAL_TOKEN
from beray.http.auth import NO_AUTH, AuthProvider, HeaderAuth, bearer_auth
from beray.http.connection import CancelToken
from beray.http.transport import Transport

DEFAULT_URL: Final = "http://localhost:8000"
_EXCHANGE: Final = "/v1/auth/convert_to_internal_token"


def internal(token: str) -> HeaderAuth:
    """Sign with an internal token.

    Raises:
        InvalidArgument: for characters that a header cannot carry.
    """
    return HeaderAuth("X-Internal-Token", checked_token(token))


def gateway_url(base_url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """``base_url``, or that of ``BERAY_GATEWAY_URL``, of ``BERAY_URL``, of this machine.

    Raises:
        InvalidArgument: it is no text.
    """
    if base_url is not None:
        return checked_text(base_url, "base_url", empty=True)
    return environ.get("BERAY_GATEWAY_URL") or environ.get("BERAY_URL") or DEFAULT_URL


@dataclass(frozen=True)
class Access:
    """Address, timeout and credentials of a client."""

    base_url: str | None
    timeout: Any
    internal_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    jwt_token: str | None = field(default=None, repr=False)


def given_credential(access: Access, environ: Mapping[str, str] = os.environ) -> AuthProvider:
    """Return the credential of a client that has no API key.

    ``X_INTERNAL_TOKEN`` of the environment is used where no token is given; for an
    explicit ``base_url`` only where ``BERAY_GATEWAY_URL`` names the same server or none.
    """
    if access.internal_token is not None:
        return InternalToken(access.internal_token)
    if access.jwt_token is not None:
        return AuthProvider(bearer_auth(checked_token(access.jwt_token)))
    base_url = access.base_url
    token, env_url = environ.get("X_INTERNAL_TOKEN"), environ.get("BERAY_GATEWAY_URL", "")
    elsewhere = base_url is not None and (
        bool(env_url) and origin(checked_base_url(env_url)) != origin(checked_base_url(base_url))
    )
    return InternalToken(token if token and not elsewhere else None)


_NAMES: Final = ("internal_token", "base_url", "timeout")
_EARLIER_NAMES: Final = ("base_url", "api_key", "jwt_token", "timeout")


def access(positional: tuple[Any, ...], named: Mapping[str, Any], *, timeout: float) -> Access:
    """Return what the arguments of ``GatewayClient`` mean.

    The positional ones are ``internal_token, base_url, timeout`` (published versions 0.4.0 and
    later) or, if the first is an ``http(s)://`` URL, ``base_url, api_key, jwt_token, timeout``
    (earlier versions). Of ``api_key`` and ``jwt_token`` together, the key is used, as there.

    Args:
        named: The keyword arguments; None stands for one that was not passed.
        timeout: Timeout if none was passed, in seconds.

    Raises:
        InvalidArgument: A credential is empty or contradicts another; an argument was passed
            twice, or there are too many.
    """
    first = positional[0] if positional else None
    is_url = isinstance(first, str) and first.lower().startswith(("http://", "https://"))
    names = _EARLIER_NAMES if is_url else _NAMES
    if len(positional) > len(names):
        raise InvalidArgument(
            f"GatewayClient takes up to {len(names)} positional arguments here "
            f"({', '.join(names)}), got {len(positional)}"
        )
    values = {name: value for name, value in named.items() if value is not None}
    for name, value in zip(names, positional, strict=False):
        if value is not None and name in values:
            raise InvalidArgument(f"GatewayClient got {name} twice")
        if value is not None:
            values[name] = value
    credentials = [name for name in ("internal_token", "api_key", "jwt_token") if name in values]
    for name in credentials:
        checked_text(values[name], name)
    if len(credentials) > 1 and "internal_token" in credentials:
        raise InvalidArgument(f"{' and '.join(credentials)} contradict each other; pass one")
    return Access(**({"base_url": None, "timeout": timeout} | values))


class InternalToken(AuthProvider):
    """An internal token, or none (the gateway then decides by address)."""

    def __init__(self, token: str | None) -> None:
        super().__init__(NO_AUTH if token is None else internal(token))

    @property
    def token(self) -> str | None:
        return self._auth.value


class ApiKey(AuthProvider):
    """An API key: exchanged for an internal token when one is first needed, and again
    when that has expired. Threads that notice it together exchange it once, and have what
    has come of it together."""

    def __init__(self, gateway: Transport) -> None:
        """``gateway`` makes the exchange, and signs it with the key."""
        super().__init__()
        self._gateway = gateway
        self._lock = threading.Lock()
        self._token: HeaderAuth | None = None
        self._exchanges = 0
        self._failure: BeRayException | None = None

    @property
    def token(self) -> str | None:
        """The internal token; None before the key was exchanged."""
        return None if self._token is None else self._token.value

    def auth(self, cancel: CancelToken | None = None) -> HeaderAuth:
        return self._valid(None, cancel)

    def renew(self, rejected: HeaderAuth, cancel: CancelToken | None = None) -> HeaderAuth | None:
        return self._valid(rejected, cancel)

    def _valid(self, refused: HeaderAuth | None, cancel: CancelToken | None) -> HeaderAuth:
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

    def _exchanged(self, cancel: CancelToken | None) -> HeaderAuth:
        try:
            answer = self._gateway.json(
                INTERNAL_TOKEN, "POST", _EXCHANGE, cancel=cancel, idempotent=True
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
