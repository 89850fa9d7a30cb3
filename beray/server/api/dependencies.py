"""Dependencies of routes: services, the authenticated user, and the user's own task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray.server.chats.service import Chats
from beray.server.http.active_requests import (
    ActiveRequests,
    Authenticator,
    RequestCredential,
    mark_authenticated,
)
from beray.server.http.client_address import Client, client_of
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.runners import Runners
from beray.server.runtime.fair_queue import QUEUE_RETRY_SECONDS, QueueFull
from beray.server.runtime.maintenance import Maintenance
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.storage.store import Store
from beray.server.storage.tables import Task, User
from beray.server.tasks.deletion import TaskDeletion
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.queue import RunQueue
from beray.server.workspace.workspace import Workspaces

if TYPE_CHECKING:
    # These modules import this one.
    from beray.server.accounts.service import Accounts
    from beray.server.api.chats import ChatConnections
    from beray.server.api.health import Readiness
    from beray.server.gateway_services import GatewayServices


@dataclass(frozen=True)
class Services:
    """Services that exist as long as the server runs."""

    settings: Settings
    store: Store
    feed: TaskFeed
    event_log: EventLog
    queue: RunQueue
    runners: Runners
    chats: Chats
    chat_connections: ChatConnections
    maintenance: Maintenance
    workspaces: Workspaces
    deletion: TaskDeletion
    accounts: Accounts
    gateway: GatewayServices
    active_requests: ActiveRequests
    sandbox: Sandbox
    readiness: Readiness


def services(request: Request) -> Services:
    """Return the services of the application."""
    found: Services = request.app.state.services
    return found


SESSION_ENDED: Final = "The session has expired or was ended. Sign in again."

AppServices = Annotated[Services, Depends(services)]


async def require_disk_space(app: AppServices) -> None:
    """Reject an upload with 507 if only the disk space reserved for recovery is left."""
    reserve = app.store.reserve
    if reserve.is_incomplete:
        await run_in_threadpool(reserve.require_complete)


async def current_client(request: Request, app: AppServices) -> Client:
    """Return the client address of a request, to which rate limits apply."""
    return client_of(request, app.settings.trusted_proxies)


CurrentClient = Annotated[Client, Depends(current_client)]
_bearer = HTTPBearer(auto_error=False, description="An access token from login or register.")


def secret_digest(secret: str) -> str:
    """Return the SHA-256 digest of a token or code, in hexadecimal. Only this is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


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
    found = await run_in_threadpool(app.store.session_of_token, digest)
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
    task = await run_in_threadpool(app.store.task, number) if number else None
    if task is None or task.user_id != user.id:
        raise HTTPException(404, f"Task {task_id} does not exist.")
    return task


OwnTask = Annotated[Task, Depends(own_task)]


def queue_full_error(full: QueueFull) -> HTTPException:
    """Return the 429 for a user whose queue is full."""
    return HTTPException(429, str(full), {"Retry-After": str(QUEUE_RETRY_SECONDS)})
