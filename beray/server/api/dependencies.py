"""Dependencies of routes: services, the authenticated user, and the user's own task."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray.server.http.active_requests import (
    Authenticator,
    RequestCredential,
    mark_authenticated,
)
from beray.server.http.client_address import Client, client_of, is_own_address
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.runtime.fair_queue import QUEUE_RETRY_SECONDS, QueueFull
from beray.server.services import Services
from beray.server.storage.digests import secret_digest
from beray.server.storage.tables import Task, User


def services(request: Request) -> Services:
    """Return the services of the application."""
    found: Services = request.app.state.services
    return found


SESSION_ENDED: Final = "The session has expired or was ended. Sign in again."

AppServices = Annotated[Services, Depends(services)]


async def require_disk_space(app: AppServices) -> None:
    """Reject an upload with 507 if only the disk space reserved for recovery is left."""
    if app.reserve.is_incomplete:
        await run_in_threadpool(app.reserve.require_complete)


async def current_client(request: Request, app: AppServices) -> Client:
    """Return the client address of a request, to which rate limits apply."""
    return client_of(request, app.settings.trusted_proxies)


CurrentClient = Annotated[Client, Depends(current_client)]
_bearer = HTTPBearer(auto_error=False, description="An access token from login or register.")


def bearer_token(connection: HTTPConnection) -> str:
    """Return the token of ``Authorization: Bearer`` (RFC 6750); "" if it is missing."""
    return authorization_credential(connection, "bearer")


def authorization_credential(connection: HTTPConnection, scheme: str) -> str:
    """Return the credential of ``Authorization`` for a scheme, in lower case; "" if missing."""
    sent_scheme, _, credential = connection.headers.get("Authorization", "").strip().partition(" ")
    return credential.strip() if sent_scheme.lower() == scheme else ""


async def authenticate_bearer(connection: HTTPConnection, detail: object) -> User | None:
    """Authenticate a request by its bearer token. See ``authenticate_token``."""
    return await authenticate_token(connection, bearer_token(connection), detail)


async def authenticate_token(connection: HTTPConnection, token: str, detail: object) -> User | None:
    """Authenticate a request by an access token.

    Args:
        connection: The request.
        token: The access token.
        detail: ``detail`` of the error response if the session ends during the request.

    Returns:
        The user; ``None`` if the token is empty, unknown, expired or ended.
    """
    app: Services = connection.app.state.services
    digest = secret_digest(token)
    found = await run_in_threadpool(app.token_repository.find, digest)
    if found is None:
        return None
    user, expires_at = found
    credential = RequestCredential((digest,), expires_at, detail)
    return user if mark_authenticated(connection, app.active_requests, credential) else None


def unauthorized(token: str) -> HTTPException:
    """Return the 401 for a request whose access token is invalid or empty."""
    detail = SESSION_ENDED if token else "Not signed in."
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


async def _session_user(connection: HTTPConnection) -> User:
    error = unauthorized(bearer_token(connection))
    user = await authenticate_bearer(connection, error.detail)
    if user is None:
        raise error
    return user


session_user: Final = Authenticator(_session_user)


async def current_user(
    user: Annotated[User, Depends(session_user)],
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> User:
    """Return the user that the access token of a request belongs to."""
    return user


CurrentUser = Annotated[User, Depends(current_user)]


async def own_task(
    task_id: Annotated[str, Path(json_schema_extra=INTEGER_SCHEMA)],
    user: CurrentUser,
    app: AppServices,
) -> Task:
    """Return the user's task; 404 if it does not exist or belongs to another user."""
    number = parse_integer(task_id)
    task = await run_in_threadpool(app.task_repository.get, number) if number else None
    if task is None or task.user_id != user.id:
        raise HTTPException(404, f"Task {task_id} does not exist.")
    return task


OwnTask = Annotated[Task, Depends(own_task)]


def queue_full_error(full: QueueFull) -> HTTPException:
    """Return the 429 for a user whose queue is full."""
    return HTTPException(429, str(full), {"Retry-After": str(QUEUE_RETRY_SECONDS)})


def is_admitted_by_address(app: Services, connection: HTTPConnection) -> bool:
    """Return True if the address of a client can replace a credential, provided it is listed.

    Addresses that processes of tasks may use are excluded. In a network namespace of its own, such
    a process reaches this server only with an address of this host: through a proxy elsewhere, or
    through a relay to this port that the operator has allowed. On the host's network it has the
    addresses of this host, and can impersonate a trusted proxy.

    Requests of web pages, which contain an ``Origin``, are also excluded: any page could send
    requests from the address of its user.
    """
    address = connection.client.host if connection.client else ""
    if not address or "Origin" in connection.headers:
        return False
    settings = app.settings
    own = is_own_address(address)
    if app.sandbox.networks.state.mode == "host":
        return not settings.trusted_proxies and not own
    forwarded = bool(settings.trusted_proxies) and "X-Forwarded-For" in connection.headers
    port = (connection.scope.get("server") or ("", None))[1]
    relayed = any(destination.port == port for destination in settings.network_destinations())
    return not (own and (forwarded or relayed))
