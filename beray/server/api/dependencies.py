"""Dependencies of routes: services, the authenticated user, and the user's own task.

Each route names the credentials that it accepts by the type of its user or task.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, HTTPException, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from beray import schema
from beray.server.accounts.actors import Actor
from beray.server.http.active_requests import (
    ActiveRequest,
    Authenticator,
    RequestCredential,
    api_key_credential_id,
    mark_authenticated,
    request_state,
)
from beray.server.http.client_address import Client, client_of, is_own_address
from beray.server.http.integers import INTEGER_SCHEMA, parse_integer
from beray.server.runtime.fair_queue import QUEUE_RETRY_SECONDS, QueueFull
from beray.server.services import Services
from beray.server.storage.accounts import ADMINISTRATOR
from beray.server.storage.api_keys import API_KEY_PREFIX, scopes_of
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
bearer_scheme: Final = HTTPBearer(
    auto_error=False,
    description="An access token from login or register, or an API key with the scope of the call.",
)


def bearer_token(connection: HTTPConnection) -> str:
    """Return the token of ``Authorization: Bearer`` (RFC 6750); "" if it is missing."""
    return authorization_credential(connection, "bearer")


def authorization_credential(connection: HTTPConnection, scheme: str) -> str:
    """Return the credential of ``Authorization`` for a scheme, in lower case; "" if missing."""
    sent_scheme, _, credential = connection.headers.get("Authorization", "").strip().partition(" ")
    return credential.strip() if sent_scheme.lower() == scheme else ""


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials that a route accepts, besides the access token of a session.

    Attributes:
        scopes: Scopes of which an API key needs one; empty if the route accepts no API key.
        before_password_change: Whether the route can be used by a session whose user has to
            change the password first.
    """

    scopes: tuple[schema.Scope, ...] = ()
    before_password_change: bool = False


async def authenticate_bearer(
    connection: HTTPConnection, detail: object, access: Access
) -> User | None:
    """Authenticate a request by its bearer token. See ``authenticate_token``."""
    return await authenticate_token(connection, bearer_token(connection), detail, access)


async def authenticate_token(
    connection: HTTPConnection, token: str, detail: object, access: Access
) -> User | None:
    """Authenticate a request by the access token of a session, or by an API key.

    Args:
        connection: The request.
        token: The access token or the API key.
        detail: ``detail`` of the error response if the credential ends during the request.
        access: Credentials that the route accepts.

    Returns:
        The user; ``None`` if the token is empty, unknown, expired or ended.

    Raises:
        HTTPException: 403, the route does not accept the credential.
    """
    app: Services = connection.app.state.services
    if token.startswith(API_KEY_PREFIX):
        return await _authenticate_key(connection, app, token, detail, access)
    digest = secret_digest(token)
    found = await run_in_threadpool(app.token_repository.find, digest, app.settings.token_seconds)
    if found is None:
        return None
    if found.user.must_change_password and not access.before_password_change:
        raise HTTPException(
            403,
            "An administrator requires a new password. Change it with `beray password change`.",
        )

    async def renewed() -> str | None:
        current = await run_in_threadpool(app.token_repository.find, digest)
        return None if current is None else current.session.expires_at

    credential = RequestCredential((digest,), found.session.expires_at, detail, renewed)
    return _marked(connection, app, credential, found.user)


async def _authenticate_key(
    connection: HTTPConnection, app: Services, token: str, detail: object, access: Access
) -> User | None:
    found = await run_in_threadpool(app.gateway.api_keys.find, token)
    if found is None:
        return None
    key, user = found
    scopes = scopes_of(key)
    if not access.scopes:
        raise HTTPException(
            403, "This needs a sign-in with a password; an API key does not permit it."
        )
    if not set(access.scopes).intersection(scopes):
        raise HTTPException(
            403,
            f"The API key does not have the scope {access.scopes[0]}; it has: {', '.join(scopes)}.",
        )
    credential = RequestCredential((api_key_credential_id(key.id),), key.expires_at, detail)
    return _marked(connection, app, credential, user)


def _marked(
    connection: HTTPConnection, app: Services, credential: RequestCredential, user: User
) -> User | None:
    return user if mark_authenticated(connection, app.active_requests, credential) else None


def unauthorized(token: str) -> HTTPException:
    """Return the 401 for a request whose access token is invalid or empty."""
    if token.startswith(API_KEY_PREFIX):
        detail = "The API key is wrong, has expired or was revoked."
    else:
        detail = SESSION_ENDED if token else "Not signed in."
    return HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})


def user_with(access: Access) -> Authenticator[User]:
    """Return the dependency that authenticates the user of a request."""

    async def find(connection: HTTPConnection) -> User:
        error = unauthorized(bearer_token(connection))
        user = await authenticate_bearer(connection, error.detail, access)
        if user is None:
            raise error
        return user

    return Authenticator(find)


async def _administrator(connection: HTTPConnection) -> User:
    user = await session_user(connection)
    if user.role != ADMINISTRATOR:
        raise HTTPException(403, "Only administrators can do this.")
    return user


def _documented(
    authenticator: Authenticator[User], *scopes: str
) -> Callable[..., Coroutine[Any, Any, User]]:
    """Return the dependency that calls an authenticator, and describes it in the OpenAPI schema.

    Args:
        authenticator: Dependency that authenticates the user.
        scopes: Scopes or roles that the schema names; they are not checked here.
    """
    sender: Any = Depends(authenticator)
    credential: Any = Security(bearer_scheme, scopes=scopes)

    async def authenticated_user(
        user: User = sender, _: HTTPAuthorizationCredentials | None = credential
    ) -> User:
        return user

    return authenticated_user


_ANY: Final[tuple[schema.Scope, ...]] = ("tasks:read", "tasks:write", "files")
session_user: Final = user_with(Access())
task_writer: Final = user_with(Access(("tasks:write",)))

SessionUser = Annotated[User, Depends(_documented(session_user))]
"""User who signed in with a password."""
AnyUser = Annotated[
    User, Depends(_documented(user_with(Access(_ANY, before_password_change=True)), *_ANY))
]
"""User of a session, or of an API key with any scope besides ``gateway``."""
OwnAccountUser = Annotated[
    User, Depends(_documented(user_with(Access(before_password_change=True))))
]
"""User who signed in, and may have to change the password first."""
TaskReader = Annotated[User, Depends(_documented(user_with(Access(("tasks:read",))), "tasks:read"))]
"""User of a session, or of an API key with the scope ``tasks:read``."""
TaskWriter = Annotated[User, Depends(_documented(task_writer, "tasks:write"))]
"""User of a session, or of an API key with the scope ``tasks:write``."""
FileUser = Annotated[User, Depends(_documented(user_with(Access(("files",))), "files"))]
"""User of a session, or of an API key with the scope ``files``."""
Administrator = Annotated[User, Depends(_documented(Authenticator(_administrator), ADMINISTRATOR))]
"""Administrator who signed in."""


async def current_actor(request: Request, client: CurrentClient) -> Actor:
    """Return the sender of a request for the audit log, without a signed-in user."""
    return Actor(
        client=client,
        address=request.client.host if request.client else "",
        device=request.headers.get("User-Agent", ""),
        request_id=request_state(request.scope).request_id,
    )


CurrentActor = Annotated[Actor, Depends(current_actor)]


def end_requests(
    app: Services, credential_ids: Iterable[str], *, except_for: ActiveRequest | None = None
) -> None:
    """End the active requests of credentials that were revoked.

    Args:
        app: Services of the server.
        credential_ids: Digests of sessions, and ``api_key_credential_id`` of keys.
        except_for: The request that revoked them; it still needs its response.
    """
    for credential_id in credential_ids:
        app.active_requests.end(credential_id, except_for=except_for)


_TaskId = Annotated[
    str, Path(json_schema_extra=INTEGER_SCHEMA, description="Id of the task or chat.")
]


async def _own_task(task_id: str, user: User, app: Services) -> Task:
    """Return the user's task; 404 if it does not exist or belongs to another user."""
    number = parse_integer(task_id)
    task = await run_in_threadpool(app.task_repository.get, number) if number else None
    if task is None or task.user_id != user.id:
        raise HTTPException(404, f"Task {task_id} does not exist.")
    return task


async def _readable_task(task_id: _TaskId, user: TaskReader, app: AppServices) -> Task:
    return await _own_task(task_id, user, app)


async def _writable_task(task_id: _TaskId, user: TaskWriter, app: AppServices) -> Task:
    return await _own_task(task_id, user, app)


async def _task_of_files(task_id: _TaskId, user: FileUser, app: AppServices) -> Task:
    return await _own_task(task_id, user, app)


ReadableTask = Annotated[Task, Depends(_readable_task)]
"""Task of a ``TaskReader``."""
WritableTask = Annotated[Task, Depends(_writable_task)]
"""Task of a ``TaskWriter``."""
TaskOfFiles = Annotated[Task, Depends(_task_of_files)]
"""Task of a ``FileUser``."""


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
