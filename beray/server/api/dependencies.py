"""What routes ask for: the services, the caller, and the caller's own task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, HTTPException, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray.server.chats.service import ChatService
from beray.server.http.active_requests import Authenticator, Credential, OpenRequests, authenticate
from beray.server.http.client_address import Client, client_of
from beray.server.http.integers import INTEGER_SCHEMA, canonical
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
    # They ask for services themselves.
    from beray.server.accounts.service import Accounts
    from beray.server.api.chats import Seats
    from beray.server.api.health import Readiness
    from beray.server.gateway_services import Gateway


@dataclass(frozen=True)
class Services:
    """Everything that lives as long as the server."""

    settings: Settings
    store: Store
    feed: TaskFeed
    event_log: EventLog
    queue: RunQueue
    runners: Runners
    chats: ChatService
    seats: Seats
    maintenance: Maintenance
    workspaces: Workspaces
    deletion: TaskDeletion
    accounts: Accounts
    gateway: Gateway
    open_requests: OpenRequests
    sandbox: Sandbox
    readiness: Readiness


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


SESSION_ENDED: Final = "The session has expired or was ended; sign in again."

AppServices = Annotated[Services, Depends(services)]


async def require_space(app: AppServices) -> None:
    """Refuse an upload that would use space which is reserved for recovery."""
    reserve = app.store.reserve
    if reserve.is_short:
        await run_in_threadpool(reserve.require_whole)


async def current_client(request: Request, app: AppServices) -> Client:
    """Return the client, by which requests are limited."""
    return client_of(request, app.settings.trusted_proxies)


CurrentClient = Annotated[Client, Depends(current_client)]
_bearer = HTTPBearer(auto_error=False, description="An access token from login or register.")


def digest(secret: str) -> str:
    """What is stored of a token: enough to know it again, not enough to use it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def bearer_token(connection: HTTPConnection) -> str:
    """Return the credential of ``Authorization: Bearer`` (RFC 6750), empty if there is none."""
    return credential_of(connection, "bearer")


def credential_of(connection: HTTPConnection, scheme: str) -> str:
    """Return the credential that ``Authorization`` has for a scheme, empty if there is none."""
    given, _, credential = connection.headers.get("Authorization", "").strip().partition(" ")
    return credential.strip() if given.lower() == scheme else ""


async def user_of_session(connection: HTTPConnection, detail: object) -> User | None:
    """Authenticate a request by its bearer token. See ``user_of_token``."""
    return await user_of_token(connection, bearer_token(connection), detail)


async def user_of_token(connection: HTTPConnection, token: str, detail: object) -> User | None:
    """Authenticate a request by an access token that it has.

    Args:
        detail: of the refusal if the session ends while the request is under way.

    Returns:
        ``None`` if the token is missing, unknown, expired or ended.
    """
    app: Services = connection.app.state.services
    name = digest(token)
    found = await run_in_threadpool(app.store.session_of_token, name)
    if found is None:
        return None
    user, expires_at = found
    credential = Credential((name,), expires_at, detail)
    return user if authenticate(connection, app.open_requests, credential) else None


def signed_out(token: str) -> HTTPException:
    """Return the answer to a request whose access token is invalid, or empty."""
    detail = SESSION_ENDED if token else "Not signed in."
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


async def _session_user(connection: HTTPConnection) -> User:
    refused = signed_out(bearer_token(connection))
    user = await user_of_session(connection, refused.detail)
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
    number = canonical(task_id)
    task = await run_in_threadpool(app.store.task, number) if number else None
    if task is None or task.user_id != user.id:
        raise HTTPException(404, f"There is no task {task_id}.")
    return task


OwnTask = Annotated[Task, Depends(own_task)]


def too_many_queued(full: QueueFull) -> HTTPException:
    """Return the answer to a request of a user whose queue is full."""
    return HTTPException(429, str(full), {"Retry-After": str(QUEUE_RETRY_SECONDS)})
