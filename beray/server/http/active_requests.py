"""Requests under way, by the credential that they were authenticated with.

When a session ends, an API key is revoked or a token expires, every stream, transfer and
WebSocket that was opened with it ends, too. Tasks do not belong to a session and go on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
Find = Callable[[HTTPConnection], Awaitable[T]]

_STATE: Final = "beray.request"
_CONNECTION: Final = "beray.connection"
REMEMBERED_SECONDS: Final = 60.0
"""Time that an ended credential is remembered, for requests that were being authenticated when
it ended."""


class RequestConnection(Protocol):
    """A client's connection, as far as a request may use it."""

    def authenticated(self) -> None:
        """Note that the request under way has been authenticated."""

    def end(self, detail: object) -> None:
        """End the request under way; ``detail`` says why if no response has begun."""


@dataclass(frozen=True, slots=True)
class RequestCredential:
    """Credential that a request was authenticated with.

    Attributes:
        names: the digest of the token, and ``api_key_credential_id`` of the API key that it was issued
            for. The credential ends with any of them.
        expires_at: UTC, ISO 8601; ``None`` if requests under way do not end at a time.
        detail: of the refusal when it has ended.
    """

    names: tuple[str, ...]
    expires_at: str | None
    detail: object


def api_key_credential_id(key_id: int) -> str:
    return f"api-key:{key_id}"


class ActiveRequest:
    """One request under way.

    Attributes:
        ended: whether its credential has ended.
    """

    def __init__(self, credential: RequestCredential, connection: RequestConnection | None) -> None:
        self.credential = credential
        self.ended = False
        self._connection = connection

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            if self._connection is not None:
                self._connection.end(self.credential.detail)


class ActiveRequests:
    """The requests under way. Used on one event loop."""

    def __init__(self) -> None:
        self._by_name: dict[str, set[ActiveRequest]] = {}
        self._timers: dict[ActiveRequest, asyncio.TimerHandle] = {}
        self._ended: dict[str, float] = {}

    def begin(
        self, credential: RequestCredential, connection: RequestConnection | None
    ) -> ActiveRequest:
        """Add a request; it is ended when its credential expires or is ended.

        A request whose credential has ended meanwhile is returned as ``ended``.
        """
        opened = ActiveRequest(credential, connection)
        if any(name in self._ended for name in credential.names):
            opened.ended = True
            return opened
        for name in credential.names:
            self._by_name.setdefault(name, set()).add(opened)
        if credential.expires_at is not None:
            left = datetime.fromisoformat(credential.expires_at) - datetime.now(UTC)
            loop = asyncio.get_running_loop()
            self._timers[opened] = loop.call_later(max(0.0, left.total_seconds()), opened.end)
        return opened

    def close(self, opened: ActiveRequest) -> None:
        """Remove a request that has ended by itself. Idempotent."""
        timer = self._timers.pop(opened, None)
        if timer is not None:
            timer.cancel()
        for name in opened.credential.names:
            requests = self._by_name.get(name, set())
            requests.discard(opened)
            if not requests:
                self._by_name.pop(name, None)

    def end(self, name: str, *, besides: ActiveRequest | None = None) -> None:
        """End all requests that were authenticated with a credential.

        Args:
            name: one of ``Credential.names``.
            besides: the request that ended the credential, which still has to be answered.
        """
        now = time.monotonic()
        self._ended = {
            known: at for known, at in self._ended.items() if now - at < REMEMBERED_SECONDS
        }
        self._ended[name] = now
        for opened in list(self._by_name.get(name, ())):
            if opened is not besides:
                opened.end()


@dataclass(slots=True)
class RequestState:
    """Facts about a request that are kept in its ASGI scope.

    Attributes:
        authenticated: whether its sender has been found.
        opened: its place among the open requests, if it has a credential that can end.
        found: the results of authenticators.
    """

    authenticated: bool = False
    opened: ActiveRequest | None = None
    found: dict[Hashable, Any] = field(default_factory=dict)


def request_state(scope: Scope) -> RequestState:
    """Return the state of the request with this ASGI scope."""
    state: RequestState = scope.setdefault(_STATE, RequestState())
    return state


def mark_authenticated(
    connection: HTTPConnection, requests: ActiveRequests, credential: RequestCredential | None
) -> bool:
    """Record that the sender of a request has been found.

    Args:
        credential: ``None`` if it cannot end, as an address or a signed URL.

    Returns:
        ``False`` if the credential has ended meanwhile.
    """
    state = request_state(connection.scope)
    place: RequestConnection | None = (connection.scope.get("extensions") or {}).get(_CONNECTION)
    if credential is not None:
        state.opened = requests.begin(credential, place)
        if state.opened.ended:
            return False
    state.authenticated = True
    if place is not None:
        place.authenticated()
    return True


class Authenticator(Generic[T]):
    """Dependency that finds the sender of a request, once for each request.

    A ``StrictRoute`` calls it before the body of the request is read.

    Args:
        find: raises the refusal of a sender who is not known.
    """

    def __init__(self, find: Find[T]) -> None:
        self._find = find

    async def __call__(self, connection: HTTPConnection) -> T:
        found = request_state(connection.scope).found
        if self not in found:
            found[self] = await self._find(connection)
        result: T = found[self]
        return result


class ActiveRequestMiddleware:
    """ASGI middleware that removes each request from ``ActiveRequests`` at its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = request_state(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            if state.opened is not None:
                requests: ActiveRequests = scope["app"].state.services.active_requests
                requests.close(state.opened)
