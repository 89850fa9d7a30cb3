"""Wires the server: services, routes, and what every answer has in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from beray.server import auth, files, tasks
from beray.server.accounts import Refused
from beray.server.dependencies import Services
from beray.server.event_log import EventLog
from beray.server.mail import Mailer
from beray.server.middleware import Activity, Envelope
from beray.server.queue import RunQueue
from beray.server.runners import Runners
from beray.server.sandbox import Sandbox
from beray.server.settings import Settings
from beray.server.store import Store
from beray.server.workspace import Workspaces
from beray.version import __version__


def create_app(settings: Settings, activity: Activity | None = None) -> FastAPI:
    """The ASGI application. Its services live as long as its lifespan."""
    app = FastAPI(
        title="BeRay",
        version=__version__,
        summary="AI tasks in workspaces: create them, watch them live, take their files.",
        lifespan=_lifespan,
        redirect_slashes=True,
    )
    app.state.settings = settings
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Refused, _refused)
    # The last one added is the outermost.
    app.add_middleware(Envelope)
    app.add_middleware(Activity.Middleware, activity=activity or Activity())
    api = APIRouter(prefix="/api/v1")
    for part in (auth, tasks, files):
        api.include_router(part.router)
    app.include_router(api)
    app.add_api_route("/healthz", _health, tags=["server"])
    return app


async def _health() -> dict[str, str]:
    """Whether the server answers, and which version it is."""
    return {"status": "ok", "version": __version__}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    sandbox = await Sandbox.detect(settings.sandbox, network=settings.sandbox_network)
    store = await run_in_threadpool(Store, settings.data_dir / "beray.sqlite3")
    workspaces = await run_in_threadpool(Workspaces, settings.data_dir / "workspaces")
    event_log = EventLog(store)
    event_log.start()
    runners = Runners(settings, sandbox)
    queue = RunQueue(store, event_log, runners, workspaces.path, settings.slots)
    mailer = Mailer(settings, settings.data_dir / "outbox")
    app.state.sandbox = sandbox
    app.state.services = Services(settings, store, event_log, queue, workspaces, mailer)
    await queue.start()
    try:
        yield
    finally:
        await queue.close()
        await event_log.close()
        await run_in_threadpool(store.close)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """A validation error, without the input: it may be a password."""
    assert isinstance(error, RequestValidationError)
    problems: list[dict[str, Any]] = [
        {"type": problem["type"], "loc": list(problem["loc"]), "msg": problem["msg"]}
        for problem in error.errors()
    ]
    return JSONResponse({"detail": problems}, 422)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse({"detail": str(error)}, error.status, headers)
