"""Runs the server: takes the data folder for itself, listens, and leaves cleanly."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from filelock import FileLock
from filelock import Timeout as LockTimeout
from pydantic import ValidationError

from beray.config import write_private
from beray.server.accounts import local_sign_in
from beray.server.app import create_app
from beray.server.dependencies import Services
from beray.server.middleware import Activity
from beray.server.settings import Settings
from beray.server.store import utc_now
from beray.version import __version__

LOCK_FILE: Final = "server.lock"
ANNOUNCE_FILE: Final = "server.json"
LOCK_SECONDS: Final = 5.0
GRACEFUL_SECONDS: Final = 10

log = structlog.get_logger("beray.server")


class CannotServe(Exception):
    """The server cannot start; the text says why and what to do."""


class BeRayServer(uvicorn.Server):
    """A uvicorn server on a socket and a data folder of its own."""

    def __init__(self, settings: Settings, listener: socket.socket, activity: Activity) -> None:
        self.settings = settings
        self.activity = activity
        self._listener = listener
        self._app = create_app(settings, activity)
        super().__init__(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACEFUL_SECONDS,
            )
        )

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def services(self) -> Services:
        found: Services = self._app.state.services
        return found

    @property
    def sandbox_kind(self) -> str:
        kind: str = self._app.state.sandbox.kind
        return kind

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            await self.on_ready()

    async def on_ready(self) -> None:
        """Called once the server answers."""
        log.info("serving", url=self.url, data_dir=str(self.settings.data_dir))

    def serve_until_stopped(self) -> None:
        self.run(sockets=[self._listener])
        if not self.started:
            raise CannotServe("the server could not start; its log says why")


class EmbeddedServer(BeRayServer):
    """One user's own server: says where it is, and leaves when nobody needs it."""

    idle_seconds = 900.0

    async def on_ready(self) -> None:
        await super().on_ready()
        announcement = {
            "url": self.url,
            "token": await asyncio.to_thread(local_sign_in, self.services),
            "pid": os.getpid(),
            "started_at": utc_now(),
            "version": __version__,
            "data_dir": str(self.settings.data_dir),
            "sandbox": self.sandbox_kind,
        }
        write_private(self.settings.data_dir / ANNOUNCE_FILE, json.dumps(announcement))
        print("ready", flush=True)  # noqa: T201 - whoever started this waits for the line
        self._watch = asyncio.create_task(self._leave_when_idle())

    async def _leave_when_idle(self) -> None:
        while not self.should_exit:
            if self.services.queue.idle and self.activity.quiet_seconds() > self.idle_seconds:
                log.info("leaving, nobody was here for a while", seconds=self.idle_seconds)
                self.should_exit = True
            await asyncio.sleep(min(self.idle_seconds / 4, 5.0))


def serve(host: str, port: int, data_dir: Path) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        CannotServe: the address or the data folder is taken, or a setting is wrong.
    """
    _configure_logging()
    settings = _settings(data_dir)
    with _own(settings.data_dir), _listening(host, port) as listener:
        BeRayServer(settings, listener, Activity()).serve_until_stopped()


def serve_embedded(data_dir: Path, idle_seconds: float) -> None:
    """Serve the user on a free port of the loopback interface.

    Raises:
        CannotServe: as ``serve``.
    """
    _configure_logging()
    settings = _settings(data_dir)
    with _own(settings.data_dir), _listening("127.0.0.1", 0) as listener:
        server = EmbeddedServer(settings, listener, Activity())
        server.idle_seconds = idle_seconds
        try:
            server.serve_until_stopped()
        finally:
            (settings.data_dir / ANNOUNCE_FILE).unlink(missing_ok=True)


def _settings(data_dir: Path) -> Settings:
    try:
        return Settings(data_dir=data_dir.absolute())
    except ValidationError as error:
        problems = "; ".join(
            f"BERAY_{str(problem['loc'][0]).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        )
        raise CannotServe(f"a setting is wrong: {problems}") from None


def _own(data_dir: Path) -> FileLock:
    """Take the data folder: two servers on one would each lose what the other wrote."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(data_dir / LOCK_FILE, mode=0o600)
        lock.acquire(timeout=LOCK_SECONDS)
    except LockTimeout:
        raise CannotServe(f"another server uses {data_dir}; stop it or give a --data-dir") from None
    except OSError as error:
        raise CannotServe(f"{data_dir} cannot be used: {error.strerror}") from None
    return lock


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CannotServe(f"cannot listen on {host}:{port}: {reason}") from None
    return listener


def _configure_logging() -> None:
    """Lines for people on a terminal, JSON for machines elsewhere, both on stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    people = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if people else structlog.processors.JSONRenderer()
    )
    rendering = [renderer] if people else [structlog.processors.format_exc_info, renderer]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # alembic reports every look at the schema.
    logging.getLogger("alembic").setLevel(logging.WARNING)
