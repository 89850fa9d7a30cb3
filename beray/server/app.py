"""ASGI application of the server: routes, error handlers, and the start of its services."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse

from beray.schema import API_PREFIX, SHOULD_RETRY_HEADER
from beray.server.api import (
    accounts,
    admin,
    api_keys,
    chat_handshake,
    chats,
    diffs,
    files,
    gateway_auth,
    gateway_files,
    gateway_objects,
    health,
    history,
    own_account,
    prefab_runs,
    prefabs,
    sessions,
    setup,
    streams,
    tasks,
)
from beray.server.api.middleware import Activity, RequestContextMiddleware
from beray.server.api.personal import PersonalMiddleware
from beray.server.http.active_requests import ActiveRequestMiddleware
from beray.server.http.errors import ApiHTTPError, InvalidField
from beray.server.http.gateway_errors import GatewayHTTPError, gateway_error_response
from beray.server.http.validation_errors import InputProblem, from_validation_error
from beray.server.setting_types.uids import NoSandboxUid
from beray.server.storage.database_errors import (
    DAMAGED_MESSAGE,
    FULL_MESSAGE,
    StorageError,
    is_damaged,
    is_full,
)
from beray.server.storage.shortage import is_shortage, shortage_response
from beray.version import __version__

log = structlog.get_logger("beray.server")


def create_app(activity: Activity) -> FastAPI:
    """Return the ASGI application. It can serve requests inside ``running``.

    Args:
        activity: Object in which requests are recorded.
    """
    app = FastAPI(
        title="BeRay",
        version=__version__,
        summary="AI tasks in workspaces: create them, watch them live, download their files.",
        redirect_slashes=True,
    )
    app.add_exception_handler(RequestValidationError, _validation_failed)
    app.add_exception_handler(
        WebSocketRequestValidationError,
        chat_handshake.reject_chat_name,
    )
    app.add_exception_handler(ApiHTTPError, _rejected)
    app.add_exception_handler(GatewayHTTPError, gateway_error_response)
    app.add_exception_handler(StorageError, _database_failed)
    app.add_exception_handler(NoSandboxUid, _no_uid)
    # The middleware that is added last is the outermost.
    app.add_middleware(PersonalMiddleware)
    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(ActiveRequestMiddleware)
    app.add_middleware(Activity.Middleware, activity=activity)
    # Streams come before tasks, because /tasks/stream also matches the path of a task.
    for resource in (
        accounts,
        own_account,
        sessions,
        setup,
        admin,
        streams,
        tasks,
        files,
        history,
        diffs,
        chats,
        api_keys,
        gateway_auth,
        gateway_files,
        gateway_objects,
        prefab_runs,
        prefabs,
        health,
        chat_handshake,
    ):
        # include_router would build each route again, which takes most of the time of a start.
        app.router.routes.extend(resource.router.routes)
    return app


async def _validation_failed(_request: Request, error: Exception) -> JSONResponse:
    """Return a 422 without the input, which may contain a password."""
    assert isinstance(error, RequestValidationError)
    problems = [
        {"type": found["type"], **from_validation_error(found).to_wire()}
        for found in error.errors()
    ]
    return JSONResponse({"detail": problems}, 422)


async def _database_failed(request: Request, error: Exception) -> JSONResponse:
    """Return the response for a full disk, a lock or a damaged database; re-raise other errors."""
    if is_full(error):
        return _failure(request, 507, "STORAGE_FULL", FULL_MESSAGE)
    if is_shortage(error):
        message, headers = shortage_response(error)
        return _failure(request, 503, "UNAVAILABLE", message, headers)
    if is_damaged(error):
        log.error("the database is damaged", path=request.url.path, error=str(error))
        return _failure(
            request, 500, "DATABASE_DAMAGED", DAMAGED_MESSAGE, {SHOULD_RETRY_HEADER: "false"}
        )
    raise error


async def _no_uid(request: Request, error: Exception) -> JSONResponse:
    """Return a 503: the user's commands cannot run until the operator extends the uid range."""
    assert isinstance(error, NoSandboxUid)
    return _failure(request, 503, "NO_SANDBOX_UID", f"Commands cannot run: {error.strerror}.")


def _failure(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error response in the format of the BeRay API or of the gateway."""
    if request.url.path.startswith(f"{API_PREFIX}/"):
        return JSONResponse({"detail": message}, status, headers)
    return JSONResponse({"detail": {"error_code": code, "message": message}}, status, headers)


async def _rejected(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiHTTPError)
    if isinstance(error, InvalidField):
        problem = InputProblem(("body", error.field), error.problem)
        return JSONResponse({"detail": [{"type": "value_error", **problem.to_wire()}]}, 422)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse({"detail": str(error)}, error.status, headers)
