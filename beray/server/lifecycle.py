"""Life cycle of the server: locks the data directory, listens, and stops in order."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from filelock import FileLock
from filelock import Timeout as LockTimeout
from pydantic import ValidationError
from sse_starlette.sse import AppStatus

from beray.config import write_private_file
from beray.sanitize import one_line
from beray.server import startup_report
from beray.server.api.chats import HEARTBEAT_SECONDS
from beray.server.api.middleware import Activity
from beray.server.app import create_app
from beray.server.connections import open_files
from beray.server.connections._compat import Timeouts, protocols
from beray.server.connections.request_head import HEAD_BYTES
from beray.server.connections.table import ConnectionTable
from beray.server.gateway_services import ObjectStoreUnavailable
from beray.server.http.client_address import client_at
from beray.server.http.validation_errors import from_validation_error
from beray.server.runners.mcp.operators import McpServersFileError
from beray.server.runtime import allocator, logging_setup
from beray.server.sandbox import detection
from beray.server.sandbox.layout import check_layout
from beray.server.sandbox.masking import UnmaskableLayout
from beray.server.sandbox.probe import Decision
from beray.server.sandbox.sandbox import Sandbox, SandboxUnavailable
from beray.server.sandbox.work_dir_owners import UnusableWorkDir
from beray.server.services import DATABASE_FILE, Services, running
from beray.server.settings import Settings
from beray.server.storage.database import UnusableDatabase
from beray.server.storage.database_errors import StorageError
from beray.server.storage.shortage import is_shortage
from beray.server.storage.times import utc_now
from beray.version import __version__

LOCK_FILE: Final = "server.lock"
"""File in the data directory that is locked while a server uses it."""
ANNOUNCE_FILE: Final = "server.json"
"""File in the data directory with the URL and the token of the embedded server."""
LOCK_SECONDS: Final = 5.0
"""Time limit for locking the data directory."""
GRACEFUL_SECONDS: Final = 10
"""Time limit for runs and connections to end when the server stops."""
MAX_PROBLEM_CHARACTERS: Final = 2000
"""Maximum length of the reason why the server cannot start."""

_UNUSABLE: Final = (
    UnusableDatabase, SandboxUnavailable, UnusableWorkDir, ObjectStoreUnavailable,
    McpServersFileError,
)  # fmt: skip
"""Errors whose message contains the operator's next step."""

log = structlog.get_logger("beray.server")


class CannotServe(Exception):
    """The server cannot start; the message contains the reason and the next step."""


class DataDirInUse(CannotServe):
    """Another server uses the data directory."""


class BeRayServer(uvicorn.Server):
    """uvicorn server with the BeRay application on a given socket.

    Args:
        settings: Settings of the server; the listener is recorded in them.
        listener: Listening socket.
        activity: Activity of clients.
    """

    embedded = False

    def __init__(self, *, settings: Settings, listener: socket.socket, activity: Activity) -> None:
        self.settings = settings
        self.activity = activity
        self._listener = listener
        settings.set_listener(listener.getsockname()[0], embedded=self.embedded)
        self._app = create_app(activity)
        self._app.state.url = self.url
        self._running = AsyncExitStack()
        self._leaving: asyncio.Task[None] | None = None
        self._connections = connection_table(settings)
        http, web_socket = protocols(
            self._connections, Timeouts(settings.head_seconds, settings.body_seconds)
        )
        # A stream ends after its last event; it is not closed at the signal.
        AppStatus.enable_automatic_graceful_drain = False
        super().__init__(
            uvicorn.Config(
                self._app,
                http=http,
                ws=web_socket,
                h11_max_incomplete_event_size=HEAD_BYTES,
                backlog=open_files.BACKLOG,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ws_ping_interval=HEARTBEAT_SECONDS,
                ws_ping_timeout=HEARTBEAT_SECONDS,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=settings.trusted_proxies,
            )
        )

    @property
    def url(self) -> str:
        """URL of the listener."""
        return _url(*self._listener.getsockname()[:2])

    @property
    def services(self) -> Services:
        """Services of the running application."""
        services: Services = self._app.state.services
        return services

    @property
    def sandbox(self) -> Sandbox:
        """Sandbox of the running application."""
        sandbox: Sandbox = self._app.state.sandbox
        return sandbox

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the services, and then accept connections.

        Raises:
            CannotServe: The services cannot start.
        """
        try:
            await self._running.enter_async_context(running(self._app, self.settings))
            asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
            await super().startup(sockets)
            # Objects that the start created stay alive; exclude them from later collections.
            gc.freeze()
            gc.enable()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._toggle_maintenance)
            await self.on_ready()
        except BaseException as error:
            await self._running.aclose()
            problem = _problem(error, self.settings.data_dir)
            if problem is None:
                raise
            raise CannotServe(problem) from error

    async def on_ready(self) -> None:
        """Report the start. Called when the server accepts requests."""
        runners = str(self.services.runners)
        log.info("serving", url=self.url, data_dir=str(self.settings.data_dir), runners=runners)
        decision = Decision(self.sandbox.kind, self.sandbox.problem)
        report = await asyncio.to_thread(
            startup_report.collect,
            self.settings,
            self.url,
            decision,
            self.sandbox.networks.state,
        )
        # Like a log line, a report that cannot be written, for example on a full disk, is skipped.
        with suppress(OSError):
            print(startup_report.as_text(report), file=sys.stderr, flush=True)  # noqa: T201
        await self._print_setup_link()

    async def _print_setup_link(self) -> None:
        """Print the link that creates the first administrator, unless there is one."""
        services = self.services
        if self.embedded or await asyncio.to_thread(services.account_repository.has_administrator):
            return
        link = services.first_administrator.open(self.settings.public_url or self.url)
        text = f"No administrator exists. Open this link once to create one:\n  {link}"
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the runs, so that watchers receive their final events; then close the connections."""
        deadline = time.monotonic() + GRACEFUL_SECONDS
        try:
            async with asyncio.timeout(GRACEFUL_SECONDS):
                await self.services.chat_connections.send_disconnect_notices()
                await self.services.executor.close()
                await self.services.gateway.prefabs.runs.close()
        except TimeoutError:
            log.error("some runs did not end in time", seconds=GRACEFUL_SECONDS)
        self.services.event_log.drain()
        await self.services.chat_connections.close()
        self.config.timeout_graceful_shutdown = max(1, round(deadline - time.monotonic()))
        await super().shutdown(sockets)
        await self._running.aclose()

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Close idle connections when no connection can be accepted, and log a single line.

        asyncio retries after a second. Other errors are handled as by default.
        """
        error = context.get("exception")
        if error is None or "socket" not in context or not is_shortage(error):
            loop.default_exception_handler(context)
            return
        self._connections.shed(open_files.BACKLOG)
        log.error(
            "no connection can be accepted", error=str(error), connections=len(self._connections)
        )

    def _toggle_maintenance(self) -> None:
        maintenance = self.services.maintenance
        maintenance.on = not maintenance.on
        log.info("maintenance", on=maintenance.on)
        if maintenance.on:
            self._leaving = asyncio.create_task(
                self.services.chat_connections.close_after_answers()
            )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on SIGHUP as on SIGTERM, unless it is ignored (nohup)."""
        with super().capture_signals():
            previous = signal.getsignal(signal.SIGHUP)
            if previous != signal.SIG_IGN:
                signal.signal(signal.SIGHUP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(signal.SIGHUP, previous)

    def serve_until_stopped(self) -> None:
        """Serve until a signal or ``should_exit`` stops the server."""
        self.run(sockets=[self._listener])


class EmbeddedServer(BeRayServer):
    """Server of one user, which announces its URL in a file and stops when it is idle.

    Attributes:
        idle_seconds: Time without activity after which the server stops.
    """

    embedded = True
    idle_seconds = 900.0

    async def on_ready(self) -> None:
        """Report the start, announce the server and watch its activity."""
        await super().on_ready()
        announcement = {
            "url": self.url,
            "token": await asyncio.to_thread(self.services.accounts.sign_in_locally),
            "pid": os.getpid(),
            "started_at": utc_now(),
            "version": __version__,
            "data_dir": str(self.settings.data_dir),
            "sandbox": self.sandbox.kind,
            "runners": str(self.services.runners),
        }
        content = json.dumps(announcement)
        path = self.settings.data_dir / ANNOUNCE_FILE
        await asyncio.to_thread(
            self.services.reserve.use, lambda: write_private_file(path, content)
        )
        print("ready", flush=True)  # noqa: T201 - the parent process waits for this line
        self._watch = asyncio.create_task(self._stop_when_idle())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Remove the announcement, and shut down."""
        # First, so that no further client connects: the signal ends the process after this method.
        (self.settings.data_dir / ANNOUNCE_FILE).unlink(missing_ok=True)
        await super().shutdown(sockets)

    async def _stop_when_idle(self) -> None:
        while not self.should_exit:
            services = self.services
            runs = services.gateway.prefabs.runs
            idle = services.executor.idle and runs.idle
            if idle and self.activity.quiet_seconds() > self.idle_seconds:
                log.info("stopping after a time without activity", seconds=self.idle_seconds)
                self.should_exit = True
            await asyncio.sleep(min(self.idle_seconds / 4, 5.0))


def connection_table(settings: Settings) -> ConnectionTable:
    """Return the table of connections with the limits of the settings."""
    allowed = open_files.measured(settings.max_runs).connections
    proxies = settings.trusted_proxies
    return ConnectionTable(
        max_connections=min(allowed, settings.max_connections or allowed),
        max_per_client=settings.max_address_connections,
        client_at=lambda address: client_at(address, proxies),
    )


def serve(host: str, port: int, data_dir: Path) -> None:
    """Serve until SIGINT or SIGTERM.

    Files that the process creates from now on are accessible to its user only.

    Raises:
        CannotServe: The address or the data directory is in use, a setting is invalid, or the
            content of the data directory cannot be used.
    """
    os.umask(0o077)
    logging_setup.configure()
    allocator.return_free_memory()
    open_files.raise_limit()
    settings = load_settings(data_dir)
    _require_layout(settings)
    with locked_data_dir(settings.data_dir, LOCK_SECONDS), _listen(host, port) as listener:
        BeRayServer(settings=settings, listener=listener, activity=Activity()).serve_until_stopped()


def serve_embedded(data_dir: Path, idle_seconds: float) -> None:
    """Serve the user on a free port of the loopback interface.

    Args:
        data_dir: Data directory.
        idle_seconds: Time without activity after which the server stops.

    Raises:
        CannotServe: As for ``serve``.
    """
    os.umask(0o077)
    logging_setup.configure()
    allocator.return_free_memory()
    open_files.raise_limit()
    settings = load_settings(data_dir)
    # The only user is the operator, who pays for the models: permit all of them.
    settings.models = settings.models or "*"
    settings.prefab_authors = settings.prefab_authors or "*"
    _require_layout(settings)
    # The previous server may still be stopping.
    with (
        locked_data_dir(settings.data_dir, LOCK_SECONDS + GRACEFUL_SECONDS),
        _listen("127.0.0.1", 0) as listener,
    ):
        server = EmbeddedServer(settings=settings, listener=listener, activity=Activity())
        server.idle_seconds = idle_seconds
        server.serve_until_stopped()


def check(host: str, port: int, data_dir: Path) -> startup_report.StartupReport:
    """Return the report of a server with these options, without starting it.

    Nothing is changed: no port is bound, no lock is taken, no file is written.

    Raises:
        CannotServe: The host is unknown, or a setting is invalid.
    """
    settings = load_settings(data_dir)
    address = _resolved(host, port)[-1]
    settings.set_listener(str(address[0]), embedded=False)
    open_files.raise_limit()

    async def collect() -> startup_report.StartupReport:
        decision = await detection.decide(settings)
        sandboxed = decision.kind == "bubblewrap"
        network = await detection.find_network(settings, sandboxed=sandboxed)
        return startup_report.collect(settings, _url(host, port), decision, network)

    return asyncio.run(collect())


def _problem(error: BaseException, data_dir: Path) -> str | None:
    """Return why the server cannot start, on one line, or None if the operator cannot fix it."""
    if isinstance(error, _UNUSABLE):
        return one_line(str(error), MAX_PROBLEM_CHARACTERS)
    if isinstance(error, StorageError | OSError):
        problem = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
        return one_line(f"{data_dir} cannot be used: {problem}")
    return None


def load_settings(data_dir: Path) -> Settings:
    """Return the settings of the environment for a data directory.

    Raises:
        CannotServe: A setting is invalid.
    """
    try:
        return Settings(data_dir=data_dir.absolute())
    except ValidationError as error:
        problems = [
            from_validation_error(details, has_public_values=True) for details in error.errors()
        ]
        text = "; ".join(
            f"BERAY_{str((problem.loc or ('S3_*',))[0]).upper()}: {problem.msg}"
            for problem in problems
        )
        raise CannotServe(f"a setting is invalid: {text}") from None


def _require_layout(settings: Settings) -> None:
    """Reject a data directory that commands would see, before anything is written there.

    Raises:
        CannotServe: The data directory cannot be hidden from commands.
    """
    try:
        check_layout(settings)
    except UnmaskableLayout as error:
        raise CannotServe(str(error)) from None


@contextmanager
def locked_data_dir(data_dir: Path, seconds: float) -> Iterator[None]:
    """Create and lock the data directory, because two servers would overwrite each other's data.

    Raises:
        DataDirInUse: Another server uses the directory.
        CannotServe: The directory cannot be used.
    """
    lock = FileLock(data_dir / LOCK_FILE, mode=0o600)
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
        # Immediately: while the lock is held, clients would take the announcement of a server
        # that died for that of this server.
        (data_dir / ANNOUNCE_FILE).unlink(missing_ok=True)
        _make_private(data_dir)
    except LockTimeout:
        raise DataDirInUse(
            f"another server uses {data_dir}; stop it, or choose another directory with --data-dir"
        ) from None
    except OSError as error:
        raise CannotServe(
            f"{data_dir} cannot be used: {error.strerror}{_owner_hint(data_dir)}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _owner_hint(data_dir: Path) -> str:
    """Return the next step if the data directory belongs to another user; otherwise ""."""
    try:
        owner = data_dir.stat().st_uid
    except OSError:
        return ""
    if owner == os.geteuid():
        return ""
    return (
        f"; it belongs to uid {owner}, and this server runs as uid {os.geteuid()}: run it as that "
        f"user, or change the owner: sudo chown -R {os.geteuid()} {data_dir}"
    )


def _make_private(data_dir: Path) -> None:
    """Make files private that an earlier version may have created with wider permissions."""
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            (data_dir / f"{DATABASE_FILE}{ending}").chmod(0o600)
    for name in ("workspaces", "scratch", "outbox", "objects", "prefabs", "agent-homes"):
        with suppress(FileNotFoundError):
            (data_dir / name).chmod(0o700)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _resolved(host: str, port: int) -> tuple[int, int, int, tuple[Any, ...]]:
    """Return family, type, protocol and address of the socket to listen on.

    Raises:
        CannotServe: The host does not exist, or the port is invalid.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError) as error:
        raise _cannot_listen(host, port, error) from None
    return family, kind, protocol, address


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        CannotServe: The address is in use, or cannot be used.
    """
    family, kind, protocol, address = _resolved(host, port)
    try:
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except (OSError, OverflowError) as error:
        raise _cannot_listen(host, port, error) from None
    return listener


def _cannot_listen(host: str, port: int, error: Exception) -> CannotServe:
    reason = getattr(error, "strerror", None) or str(error)
    return CannotServe(f"cannot listen on {host}:{port}: {reason}")
