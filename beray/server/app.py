"""Wires the server: services, routes, and what every answer has in common."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DatabaseError

from beray.schema import SHOULD_RETRY_HEADER
from beray.server.api import (
    accounts,
    api_keys,
    chat_handshake,
    chats,
    files,
    gateway_auth,
    gateway_files,
    gateway_objects,
    health,
    prefab_runs,
    prefabs,
    streams,
    tasks,
)
from beray.server.api.middleware import API_PREFIX, Activity, Envelope
from beray.server.api.personal import PersonalMiddleware
from beray.server.http.active_requests import SessionMiddleware
from beray.server.http.errors import Refused
from beray.server.http.gateway_errors import GatewayRefused, refused
from beray.server.http.validation_errors import of_validation
from beray.server.sandbox.uids import NoSandboxUid
from beray.server.storage.database_errors import DAMAGED, FULL, is_damaged, is_full
from beray.server.storage.shortage import is_shortage, refusal
from beray.version import __version__

log = structlog.get_logger("beray.server")


def create_app(activity: Activity) -> FastAPI:
    """The ASGI application. It answers while ``running``."""
    app = FastAPI(
        title="BeRay",
        version=__version__,
        summary="AI tasks in workspaces: create them, watch them live, take their files.",
        redirect_slashes=True,
    )
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(
        WebSocketRequestValidationError,
        chat_handshake.refuse_chat_name,
    )
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(GatewayRefused, refused)
    app.add_exception_handler(DatabaseError, _database_failed)
    app.add_exception_handler(NoSandboxUid, _no_uid)
    # The last one added is the outermost.
    app.add_middleware(PersonalMiddleware)
    app.add_middleware(Envelope)
    app.add_middleware(SessionMiddleware)
    app.add_middleware(Activity.Middleware, activity=activity)
    api = APIRouter(prefix=API_PREFIX)
    # The streams first: /tasks/stream is no task.
    for resource in (accounts, streams, tasks, files, chats, api_keys):
        api.include_router(resource.router)
    app.include_router(api)
    for resource in (
        gateway_auth,
        gateway_files,
        gateway_objects,
        prefab_runs,
        prefabs,
        health,
        chat_handshake,
    ):
        app.include_router(resource.router)
    return app


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """A validation error, without the input: it may be a password."""
    assert isinstance(error, RequestValidationError)
    problems = [{"type": found["type"], **of_validation(found).told()} for found in error.errors()]
    return JSONResponse({"detail": problems}, 422)


async def _database_failed(request: Request, error: Exception) -> JSONResponse:
    """A full disk, a lock of another process, or damage; anything else is a crash."""
    if is_full(error):
        return _failure(request, 507, "STORAGE_FULL", FULL)
    if is_shortage(error):
        message, headers = refusal(error)
        return _failure(request, 503, "UNAVAILABLE", message, headers)
    if is_damaged(error):
        log.error("the database is damaged", path=request.url.path, error=str(error))
        return _failure(request, 500, "DATABASE_DAMAGED", DAMAGED, {SHOULD_RETRY_HEADER: "false"})
    raise error


async def _no_uid(request: Request, error: Exception) -> JSONResponse:
    """Commands of this user cannot run until the operator extends the range of uids."""
    assert isinstance(error, NoSandboxUid)
    return _failure(request, 503, "NO_SANDBOX_UID", f"Nothing can be run: {error.strerror}.")


def _failure(
    request: Request,
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error as the API, or the gateway, has it."""
    if request.url.path.startswith(f"{API_PREFIX}/"):
        return JSONResponse({"detail": message}, status, headers)
    return JSONResponse({"detail": {"error_code": code, "message": message}}, status, headers)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse({"detail": str(error)}, error.status, headers)
