"""What routes ask for: the services, the caller, and the caller's own task."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray.server.http.active_requests import Authenticator, RequestCredential, mark_authenticated
from beray.server.http.client_address import Client, client_of, is_own_address
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.runtime.fair_queue import QUEUE_RETRY_SECONDS, QueueFull
from beray.server.services import Services
from beray.server.storage.tables import Task, User
from beray.server.storage.tokens import secret_digest


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


SESSION_ENDED: Final = "The session has expired or was ended; sign in again."

AppServices = Annotated[Services, Depends(services)]


async def require_disk_space(app: AppServices) -> None:
    """Refuse an upload that would use space which is reserved for recovery."""
    reserve = app.store.reserve
    if reserve.is_incomplete:
        await run_in_threadpool(reserve.require_complete)


async def current_client(request: Request, app: AppServices) -> Client:
    """Return the client, by which requests are limited."""
    return client_of(request, app.settings.trusted_proxies)


CurrentClient = Annotated[Client, Depends(current_client)]
_bearer = HTTPBearer(auto_error=False, description="An access token from login or register.")


def bearer_token(connection: HTTPConnection) -> str:
    """Return the credential of ``Authorization: Bearer`` (RFC 6750), empty if there is none."""
    return authorization_credential(connection, "bearer")


def authorization_credential(connection: HTTPConnection, scheme: str) -> str:
    """Return the credential that ``Authorization`` has for a scheme, empty if there is none."""
    given, _, credential = connection.headers.get("Authorization", "").strip().partition(" ")
    return credential.strip() if given.lower() == scheme else ""


async def authenticate_bearer(connection: HTTPConnection, detail: object) -> User | None:
    """Authenticate a request by its bearer token. See ``authenticate_token``."""
    return await authenticate_token(connection, bearer_token(connection), detail)


async def authenticate_token(connection: HTTPConnection, token: str, detail: object) -> User | None:
    """Authenticate a request by an access token that it has.

    Args:
        detail: of the refusal if the session ends while the request is under way.

    Returns:
        ``None`` if the token is missing, unknown, expired or ended.
    """
    app: Services = connection.app.state.services
    name = secret_digest(token)
    found = await run_in_threadpool(app.store.session_of_token, name)
    if found is None:
        return None
    user, expires_at = found
    credential = RequestCredential((name,), expires_at, detail)
    return user if mark_authenticated(connection, app.active_requests, credential) else None


def unauthorized(token: str) -> HTTPException:
    """Return the answer to a request whose access token is invalid, or empty."""
    detail = SESSION_ENDED if token else "Not signed in."
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


async def _session_user(connection: HTTPConnection) -> User:
    refused = unauthorized(bearer_token(connection))
    user = await authenticate_bearer(connection, refused.detail)
    if user is None:
        raise refused
    return user


session_user: Final = Authenticator(_session_user)


async def current_user(
    user: Annotated[User, Depends(session_user)],
    _credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> User:
    """Return the user whose access token a request has."""
    return user


CurrentUser = Annotated[User, Depends(current_user)]


async def own_task(
    task_id: Annotated[str, Path(json_schema_extra=INTEGER_SCHEMA)],
    user: CurrentUser,
    app: AppServices,
) -> Task:
    """Return the caller's task. A task of another user is as absent as one that never existed."""
    number = parse_integer(task_id)
    task = await run_in_threadpool(app.store.task, number) if number else None
    if task is None or task.user_id != user.id:
        raise HTTPException(404, f"There is no task {task_id}.")
    return task


OwnTask = Annotated[Task, Depends(own_task)]


def queue_full_error(full: QueueFull) -> HTTPException:
    """Return the answer to a request of a user whose queue is full."""
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
