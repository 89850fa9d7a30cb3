"""Registry of active requests by the credential that authenticated them.

When a session ends, an API key is revoked or a token expires, every stream, transfer and
WebSocket that was opened with it is closed. Tasks do not belong to a session and continue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")
FindSender = Callable[[HTTPConnection], Awaitable[T]]

_STATE: Final = "beray.request"
_CONNECTION: Final = "beray.connection"
REMEMBERED_SECONDS: Final = 60.0
"""Time for which an ended credential is remembered, for requests that were being authenticated
when it ended."""


class RequestConnection(Protocol):
    """Connection of a client, as provided to its current request."""

    def authenticated(self) -> None:
        """Record that the current request is authenticated."""

    def end(self, detail: object) -> None:
        """End the current request; ``detail`` is its error response if none has begun."""


@dataclass(frozen=True, slots=True)
class RequestCredential:
    """Credential that authenticated a request.

    Attributes:
        ids: Digest of the token, and ``api_key_credential_id`` of the API key that it was issued
            for. The credential ends when one of them is ended.
        expires_at: UTC, ISO 8601; ``None`` if active requests do not end at a fixed time.
        detail: ``detail`` of the error response after the credential has ended.
        renewed: Returns the current expiry when ``expires_at`` is reached, because other requests
            may have extended it; ``None`` if the credential has ended.
    """

    ids: tuple[str, ...]
    expires_at: str | None
    detail: object
    renewed: Callable[[], Awaitable[str | None]] | None = None


def api_key_credential_id(key_id: int) -> str:
    """Return the credential id of an API key."""
    return f"api-key:{key_id}"


class ActiveRequest:
    """A request that was authenticated and has not been completed.

    Attributes:
        ended: True if its credential has ended.
    """

    def __init__(self, credential: RequestCredential, connection: RequestConnection | None) -> None:
        self.credential = credential
        self.ended = False
        self._connection = connection

    def end(self) -> None:
        """End the request because its credential has ended. Idempotent."""
        if not self.ended:
            self.ended = True
            if self._connection is not None:
                self._connection.end(self.credential.detail)


class ActiveRequests:
    """Registry of active requests. Used on one event loop."""

    def __init__(self) -> None:
        self._by_id: dict[str, set[ActiveRequest]] = {}
        self._timers: dict[ActiveRequest, asyncio.TimerHandle] = {}
        self._renewals: set[asyncio.Task[None]] = set()
        self._ended: dict[str, float] = {}

    @property
    def is_empty(self) -> bool:
        """True if no request is registered or waits to be ended by the expiry of its credential."""
        return not self._by_id and not self._timers

    def add(
        self, credential: RequestCredential, connection: RequestConnection | None
    ) -> ActiveRequest:
        """Add a request, which is ended when its credential expires or is ended.

        If the credential has already ended, the returned request is ``ended`` and is not added.
        """
        request = ActiveRequest(credential, connection)
        if any(credential_id in self._ended for credential_id in credential.ids):
            request.ended = True
            return request
        for credential_id in credential.ids:
            self._by_id.setdefault(credential_id, set()).add(request)
        if credential.expires_at is not None:
            self._schedule(request, credential.expires_at)
        return request

    def _schedule(self, request: ActiveRequest, expires_at: str) -> None:
        left = datetime.fromisoformat(expires_at) - datetime.now(UTC)
        loop = asyncio.get_running_loop()
        self._timers[request] = loop.call_later(
            max(0.0, left.total_seconds()), self._on_expiry, request
        )

    def _on_expiry(self, request: ActiveRequest) -> None:
        renewed = request.credential.renewed
        if renewed is None:
            request.end()
            return
        renewal = asyncio.create_task(self._renew(request, renewed))
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)

    async def _renew(
        self, request: ActiveRequest, renewed: Callable[[], Awaitable[str | None]]
    ) -> None:
        """End a request, unless the expiry of its credential was extended."""
        expires_at = None
        try:
            expires_at = await renewed()
        finally:
            # A credential that cannot be read does not stay valid.
            if expires_at is None:
                request.end()
            elif request in self._timers:
                self._schedule(request, expires_at)

    def remove(self, request: ActiveRequest) -> None:
        """Remove a completed request. Idempotent."""
        timer = self._timers.pop(request, None)
        if timer is not None:
            timer.cancel()
        for credential_id in request.credential.ids:
            requests = self._by_id.get(credential_id, set())
            requests.discard(request)
            if not requests:
                self._by_id.pop(credential_id, None)

    def end(self, credential_id: str, *, except_for: ActiveRequest | None = None) -> None:
        """End all requests that a credential authenticated.

        Args:
            credential_id: One of ``RequestCredential.ids``.
            except_for: The request that ended the credential; it still needs its response.
        """
        now = time.monotonic()
        self._ended = {
            ended_id: at for ended_id, at in self._ended.items() if now - at < REMEMBERED_SECONDS
        }
        self._ended[credential_id] = now
        for request in list(self._by_id.get(credential_id, ())):
            if request is not except_for:
                request.end()

    def restore(self, credential_ids: Iterable[str]) -> None:
        """Accept credentials again that were ended only for some time."""
        for credential_id in credential_ids:
            self._ended.pop(credential_id, None)


@dataclass(slots=True)
class RequestState:
    """State of a request in its ASGI scope.

    Attributes:
        authenticated: True after the sender was authenticated.
        active: Entry in ``ActiveRequests``, if the request has a credential that can end.
        senders: Results of authenticators.
        request_id: ``X-Request-ID`` of the response; empty for WebSockets.
    """

    authenticated: bool = False
    request_id: str = ""
    active: ActiveRequest | None = None
    senders: dict[Hashable, Any] = field(default_factory=dict)


def request_state(scope: Scope) -> RequestState:
    """Return the state of the request with this ASGI scope."""
    state: RequestState = scope.setdefault(_STATE, RequestState())
    return state


def mark_authenticated(
    connection: HTTPConnection, requests: ActiveRequests, credential: RequestCredential | None
) -> bool:
    """Record that a request is authenticated.

    Args:
        connection: The request.
        requests: Registry of active requests.
        credential: The credential; ``None`` if it cannot end, such as an address or a signed URL.

    Returns:
        False if the credential has ended meanwhile.
    """
    state = request_state(connection.scope)
    client: RequestConnection | None = (connection.scope.get("extensions") or {}).get(_CONNECTION)
    if credential is not None:
        state.active = requests.add(credential, client)
        if state.active.ended:
            return False
    state.authenticated = True
    if client is not None:
        client.authenticated()
    return True


class Authenticator(Generic[T]):
    """Dependency that authenticates the sender of a request, once per request.

    A ``StrictRoute`` calls it before the body of the request is read.

    Args:
        find: Returns the sender, or raises the exception of an error response.
    """

    def __init__(self, find: FindSender[T]) -> None:
        self._find = find

    async def __call__(self, connection: HTTPConnection) -> T:
        """Return the sender of a request."""
        senders = request_state(connection.scope).senders
        if self not in senders:
            senders[self] = await self._find(connection)
        sender: T = senders[self]
        return sender


class ActiveRequestMiddleware:
    """ASGI middleware that removes each completed request from ``ActiveRequests``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        state = request_state(scope)
        try:
            await self._app(scope, receive, send)
        finally:
            if state.active is not None:
                requests: ActiveRequests = scope["app"].state.services.active_requests
                requests.remove(state.active)
