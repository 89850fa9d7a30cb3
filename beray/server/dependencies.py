"""What routes ask for: the services, the caller, and the caller's own task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from beray.server.chats import Chats
from beray.server.client_address import Client, client_of
from beray.server.event_log import EventLog
from beray.server.fair_queue import QUEUE_RETRY_SECONDS, QueueFull
from beray.server.maintenance import Maintenance
from beray.server.queue import RunQueue
from beray.server.runners import Runners
from beray.server.sandbox.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.store import Store
from beray.server.tables import Task, User
from beray.server.task_feed import TaskFeed
from beray.server.workspace import Workspaces

if TYPE_CHECKING:
    # They ask for services themselves.
    from beray.server.accounts import Accounts
    from beray.server.agent_ws import Seats
    from beray.server.gateway.services import Gateway


@dataclass(frozen=True)
class Services:
    """Everything that lives as long as the server."""

    settings: Settings
    store: Store
    feed: TaskFeed
    event_log: EventLog
    queue: RunQueue
    runners: Runners
    chats: Chats
    seats: Seats
    maintenance: Maintenance
    workspaces: Workspaces
    accounts: Accounts
    gateway: Gateway
    sandbox: Sandbox


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


AppServices = Annotated[Services, Depends(services)]


async def current_client(request: Request, app: AppServices) -> Client:
    """Return the client, by which requests are limited."""
    return client_of(request, app.settings.trusted_proxies)


CurrentClient = Annotated[Client, Depends(current_client)]
_bearer = HTTPBearer(auto_error=False, description="An access token from login or register.")


def digest(secret: str) -> str:
    """What is stored of a token: enough to know it again, not enough to use it."""
    return hashlib.sha256(secret.encode()).hexdigest()


async def current_token(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    if credentials is None:
        raise HTTPException(401, "Not signed in.", {"WWW-Authenticate": "Bearer"})
    return credentials.credentials


CurrentToken = Annotated[str, Depends(current_token)]


async def current_user(token: CurrentToken, app: AppServices) -> User:
    user = await run_in_threadpool(app.store.user_of_token, digest(token))
    if user is None:
        raise HTTPException(
            401, "The session has expired or was ended; sign in again.",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    return user


CurrentUser = Annotated[User, Depends(current_user)]


async def own_task(task_id: int, user: CurrentUser, app: AppServices) -> Task:
    """The caller's task. Somebody else's is as absent as one that never was."""
    task = await run_in_threadpool(app.store.task, task_id) if 0 < task_id < 2**63 else None
    if task is None or task.user_id != user.id:
        raise HTTPException(404, f"There is no task {task_id}.")
    return task


OwnTask = Annotated[Task, Depends(own_task)]


def too_many_queued(full: QueueFull) -> HTTPException:
    """Return the answer to a request of a user whose queue is full."""
    return HTTPException(429, str(full), {"Retry-After": str(QUEUE_RETRY_SECONDS)})
