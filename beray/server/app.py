"""Wires the server: services, routes, and what every answer has in common."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import Final

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DatabaseError
from starlette.concurrency import run_in_threadpool

from beray.schema import SHOULD_RETRY_HEADER
from beray.server.accounts.email_address import account_key
from beray.server.accounts.run_token import RunTokens
from beray.server.accounts.service import Accounts, running_accounts
from beray.server.api import (
    accounts as auth,
)
from beray.server.api import (
    api_keys,
    chat_handshake,
    files,
    gateway_files,
    gateway_objects,
    health,
    prefab_runs,
    prefabs,
    streams,
    tasks,
)
from beray.server.api import (
    chats as agent_ws,
)
from beray.server.api import gateway_auth as access
from beray.server.api.chats import ChatConnections
from beray.server.api.dependencies import Services
from beray.server.api.health import Readiness
from beray.server.api.middleware import API_PREFIX, Activity, RequestContextMiddleware
from beray.server.api.personal import PersonalMiddleware
from beray.server.api.token_listener import TokenListener
from beray.server.chats.service import Chats
from beray.server.gateway_services import running_gateway
from beray.server.http.active_requests import ActiveRequestMiddleware, ActiveRequests
from beray.server.http.errors import ApiHTTPError
from beray.server.http.gateway_errors import GatewayHTTPError, gateway_error_response
from beray.server.http.validation_errors import from_validation_error
from beray.server.runners import Runners
from beray.server.runners.mcp import operators
from beray.server.runtime.maintenance import Maintenance
from beray.server.runtime.shortage import is_shortage, refusal
from beray.server.sandbox import work_dir_owners
from beray.server.sandbox.sandbox import Sandbox
from beray.server.sandbox.uids import NoSandboxUid
from beray.server.settings import Settings
from beray.server.storage.database_errors import DAMAGED_MESSAGE, FULL_MESSAGE, is_damaged, is_full
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve, keep_reserve_filled
from beray.server.storage.store import Store
from beray.server.storage.tokens import InternalTokenStore
from beray.server.tasks.deletion import TaskDeletion
from beray.server.tasks.end_writer import EndWriter
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.feed import TaskFeed
from beray.server.tasks.queue import RunQueue
from beray.server.tasks.run import Runs, conversation_file
from beray.server.workspace.watcher import FileWatch
from beray.server.workspace.workspace import Workspaces
from beray.version import __version__

DATABASE_FILE: Final = "beray.sqlite3"

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
        chat_handshake.reject_chat_name,
    )
    app.add_exception_handler(ApiHTTPError, _refused)
    app.add_exception_handler(GatewayHTTPError, gateway_error_response)
    app.add_exception_handler(DatabaseError, _database_failed)
    app.add_exception_handler(NoSandboxUid, _no_uid)
    # The last one added is the outermost.
    app.add_middleware(PersonalMiddleware)
    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(ActiveRequestMiddleware)
    app.add_middleware(Activity.Middleware, activity=activity)
    api = APIRouter(prefix=API_PREFIX)
    # The streams first: /tasks/stream is no task.
    for part in (auth, streams, tasks, files, agent_ws, api_keys):
        api.include_router(part.router)
    app.include_router(api)
    for part in (
        access,
        gateway_files,
        gateway_objects,
        prefab_runs,
        prefabs,
        health,
        chat_handshake,
    ):
        app.include_router(part.router)
    return app


@asynccontextmanager
async def running(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """Start the services of ``app``, and close them.

    Raises:
        UnusableDatabase, SandboxUnavailable, UnusableWorkDir, ObjectStoreUnavailable,
        McpServersFileError, OSError, SQLAlchemyError: they do not start.
    """
    async with AsyncExitStack() as closing:
        reserve = DiskReserve(settings.data_dir / FILE_NAME, settings.reserve_bytes)
        starting = closing.enter_context(ExitStack())
        starting.enter_context(reserve.released_for_startup())
        store = await run_in_threadpool(Store, settings.data_dir / DATABASE_FILE, reserve)
        closing.push_async_callback(run_in_threadpool, store.close)
        sandbox = await Sandbox.detect(settings)
        await run_in_threadpool(operators.load, settings.mcp_servers)  # checks the file
        for setting in _address_settings(settings):
            if sandbox.networks.state.mode == "host":
                log.warning(
                    f"{setting} admits no address of this host, and none that a proxy reports: "
                    "tasks use the network of this host"
                )
        workspaces = await run_in_threadpool(
            Workspaces,
            settings.data_dir / "workspaces",
            sandbox.disk_space,
            uid_of=sandbox.uid_of,
            reserve=reserve,
        )
        users = await run_in_threadpool(store.users_of_tasks)
        await run_in_threadpool(work_dir_owners.settle, workspaces.root, users, sandbox.uid_of)
        deletion = TaskDeletion(store, workspaces, partial(conversation_file, settings))
        await run_in_threadpool(deletion.report_unknown, users)
        feed = TaskFeed(store)
        event_log = EventLog(store, feed)
        event_log.start()
        closing.push_async_callback(event_log.close)
        url: str | None = getattr(app.state, "url", None)
        active_requests = ActiveRequests()
        listener = None
        if sandbox.kind == "bubblewrap":
            listener = TokenListener(app, settings.data_dir / "scratch")
        tokens = InternalTokenStore(store)
        access = RunTokens(url, tokens, active_requests, listener)
        gateway = await closing.enter_async_context(
            running_gateway(settings, store, sandbox, tokens, access)
        )
        runners = Runners(settings, sandbox)
        closing.push_async_callback(runners.close)
        watch = FileWatch(workspaces.root)
        watch.start()
        closing.push_async_callback(watch.close)
        runs = Runs(
            settings, store, event_log, runners, workspaces, sandbox, watch, access,
            has_prefabs=lambda: bool(gateway.prefabs.registry.newest()),
        )  # fmt: skip
        ends = EndWriter(event_log)
        closing.push_async_callback(ends.close)
        queue = RunQueue(
            store, event_log, runs, workspaces, ends=ends,
            slots=settings.slots, user_slots=settings.slots_per_user,
        )  # fmt: skip
        closing.push_async_callback(queue.close)
        chats = Chats(settings, store, feed, event_log, runners, runs, workspaces, ends=ends)
        closing.push_async_callback(chats.close)
        accounts = await closing.enter_async_context(running_accounts(settings, store))
        await _warn_of_missing_accounts(settings, accounts)
        app.state.sandbox = sandbox
        app.state.services = Services(
            settings,
            store,
            feed,
            event_log,
            queue,
            runners,
            chats,
            ChatConnections(),
            Maintenance(),
            workspaces,
            deletion,
            accounts,
            gateway,
            active_requests,
            sandbox,
            Readiness(settings, store, sandbox),
        )
        await runners.start()
        await queue.start()
        starting.close()
        await closing.enter_async_context(deletion.running())
        await closing.enter_async_context(keep_reserve_filled(reserve))
        yield


def _address_settings(settings: Settings) -> list[str]:
    """Return the names of the settings that admit clients by their address."""
    given = {
        "BERAY_GATEWAY_ALLOW": settings.gateway_allow,
        "BERAY_AGENT_WS_ALLOW": settings.agent_ws_allow,
    }
    return [name for name, value in given.items() if value]


async def _warn_of_missing_accounts(settings: Settings, accounts: Accounts) -> None:
    for _, email in settings.agent_ws_users():
        if await accounts.user(account_key(email)) is None:
            log.warning(
                "BERAY_AGENT_WS_ALLOW names an account that does not exist; clients from its "
                "addresses are refused until it is registered",
                email=email,
            )


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    """A validation error, without the input: it may be a password."""
    assert isinstance(error, RequestValidationError)
    problems = [
        {"type": found["type"], **from_validation_error(found).to_wire()}
        for found in error.errors()
    ]
    return JSONResponse({"detail": problems}, 422)


async def _database_failed(request: Request, error: Exception) -> JSONResponse:
    """A full disk, a lock of another process, or damage; anything else is a crash."""
    if is_full(error):
        return _failure(request, 507, "STORAGE_FULL", FULL_MESSAGE)
    if is_shortage(error):
        message, headers = refusal(error)
        return _failure(request, 503, "UNAVAILABLE", message, headers)
    if is_damaged(error):
        log.error("the database is damaged", path=request.url.path, error=str(error))
        return _failure(
            request, 500, "DATABASE_DAMAGED", DAMAGED_MESSAGE, {SHOULD_RETRY_HEADER: "false"}
        )
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
    assert isinstance(error, ApiHTTPError)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse({"detail": str(error)}, error.status, headers)
