"""Server URL and credentials of a gateway client, and the exchange of API keys for tokens.

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
from beray.gateway.schema import INTERNAL_TOKEN
from beray.gateway.validation import checked_string
from beray.http.auth import NO_AUTH, AuthProvider, HeaderAuth, bearer_auth
from beray.http.connection import CancelToken
from beray.http.transport import Transport

DEFAULT_URL: Final = "http://localhost:8000"
_EXCHANGE_PATH: Final = "/v1/auth/convert_to_internal_token"


def internal_token_header(token: str) -> HeaderAuth:
    """Return the header that authenticates a request with an internal token.

    Raises:
        InvalidArgument: The token contains characters that a header cannot contain.
    """
    return HeaderAuth("X-Internal-Token", checked_token(token))


def gateway_url(base_url: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL of the gateway.

    Without ``base_url``, it is that of ``BERAY_GATEWAY_URL``, ``BERAY_URL`` or
    ``http://localhost:8000``, in this order.

    Raises:
        InvalidArgument: ``base_url`` is not a string.
    """
    if base_url is not None:
        return checked_string(base_url, "base_url", empty=True)
    return environ.get("BERAY_GATEWAY_URL") or environ.get("BERAY_URL") or DEFAULT_URL


@dataclass(frozen=True)
class ClientArguments:
    """Server URL, timeout (seconds) and credentials that ``GatewayClient`` was called with."""

    base_url: str | None
    timeout: Any
    internal_token: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    jwt_token: str | None = field(default=None, repr=False)


def token_credential(
    arguments: ClientArguments, environ: Mapping[str, str] = os.environ
) -> AuthProvider:
    """Return the credential of a client without an API key.

    If no token was passed, it is ``X_INTERNAL_TOKEN`` of the environment. This token is not sent
    to an explicit ``base_url`` if ``BERAY_GATEWAY_URL`` is set to a different server.
    """
    if arguments.internal_token is not None:
        return InternalTokenCredential(arguments.internal_token)
    if arguments.jwt_token is not None:
        return AuthProvider(bearer_auth(checked_token(arguments.jwt_token)))
    base_url = arguments.base_url
    token, env_url = environ.get("X_INTERNAL_TOKEN"), environ.get("BERAY_GATEWAY_URL", "")
    is_other_server = base_url is not None and (
        bool(env_url) and origin(checked_base_url(env_url)) != origin(checked_base_url(base_url))
    )
    return InternalTokenCredential(token if token and not is_other_server else None)


_POSITIONAL_NAMES: Final = ("internal_token", "base_url", "timeout")
_EARLIER_POSITIONAL_NAMES: Final = ("base_url", "api_key", "jwt_token", "timeout")


def parse_arguments(
    positional: tuple[Any, ...], named: Mapping[str, Any], *, timeout: float
) -> ClientArguments:
    """Return the arguments of ``GatewayClient`` by name.

    The positional ones are ``internal_token, base_url, timeout`` (published versions 0.4.0 and
    later) or, if the first is an ``http(s)://`` URL, ``base_url, api_key, jwt_token, timeout``
    (earlier versions). If both ``api_key`` and ``jwt_token`` are passed, the client uses the key,
    as the published versions do.

    Args:
        positional: The positional arguments.
        named: The keyword arguments; None stands for one that was not passed.
        timeout: Timeout if none was passed, in seconds.

    Raises:
        InvalidArgument: A credential is empty; an internal token was passed together with another
            credential; an argument was passed twice; or there are too many.
    """
    first = positional[0] if positional else None
    is_url = isinstance(first, str) and first.lower().startswith(("http://", "https://"))
    names = _EARLIER_POSITIONAL_NAMES if is_url else _POSITIONAL_NAMES
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
        checked_string(values[name], name)
    if len(credentials) > 1 and "internal_token" in credentials:
        raise InvalidArgument(f"{' and '.join(credentials)} contradict each other; pass one")
    return ClientArguments(**({"base_url": None, "timeout": timeout} | values))


class InternalTokenCredential(AuthProvider):
    """Internal token, or none: the gateway then decides by the client's address."""

    def __init__(self, token: str | None) -> None:
        super().__init__(NO_AUTH if token is None else internal_token_header(token))

    @property
    def token(self) -> str | None:
        """The internal token; None for a client without credentials."""
        return self._auth.value


class ApiKeyCredential(AuthProvider):
    """API key that is exchanged for an internal token.

    The exchange happens when a token is first needed, and again when it has expired. Threads that
    need a new token at the same time share one exchange and its result: only the holder of
    ``_lock`` exchanges the key and changes the fields.

    Args:
        gateway: Transport that sends the exchange and authenticates it with the key.
    """

    def __init__(self, gateway: Transport) -> None:
        super().__init__()
        self._gateway = gateway
        self._lock = threading.Lock()
        self._token: HeaderAuth | None = None
        self._exchanges = 0
        self._failure: BeRayException | None = None

    @property
    def token(self) -> str | None:
        """The internal token; None before the first exchange."""
        return None if self._token is None else self._token.value

    def auth(self, cancel: CancelToken | None = None) -> HeaderAuth:
        """Return the header with the internal token; exchange the key before the first use."""
        return self._current_token(None, cancel)

    def renew(self, rejected: HeaderAuth, cancel: CancelToken | None = None) -> HeaderAuth | None:
        """Exchange the key again after the gateway rejected ``rejected``."""
        return self._current_token(rejected, cancel)

    def _current_token(self, refused: HeaderAuth | None, cancel: CancelToken | None) -> HeaderAuth:
        exchanges_before = self._exchanges
        with self._lock:
            if self._token is not None and self._token is not refused:
                return self._token
            self._token = None
            if self._exchanges != exchanges_before and self._failure is not None:
                # The shared exchange failed while this thread waited for it; do not repeat it.
                raise copy.copy(self._failure)
            self._failure = None
            try:
                self._token = self._exchange(cancel)
            except BeRayException as error:
                if cancel is None or not cancel.cancelled:
                    self._failure = error
                raise
            finally:
                self._exchanges += 1
            return self._token

    def _exchange(self, cancel: CancelToken | None) -> HeaderAuth:
        try:
            response = self._gateway.json(
                INTERNAL_TOKEN, "POST", _EXCHANGE_PATH, cancel=cancel, idempotent=True
            )
        except ConnectionFailed as error:
            # The request that needs the token was certainly not sent.
            is_timeout = isinstance(error, DeadlineExceeded)
            error_class = DeadlineExceeded if is_timeout else ConnectionFailed
            failure = error_class.for_request(
                error.method, error.path, error.reason, delivered=False
            )
        else:
            try:
                return internal_token_header(response["internal_token"])
            except InvalidArgument:
                reason = (
                    "the token in the response contains characters that are invalid in a header"
                )
                raise InvalidResponseError.for_request(
                    "POST", _EXCHANGE_PATH, reason, body=""
                ) from None
        raise failure
