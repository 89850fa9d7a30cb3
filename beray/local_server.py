"""The user's embedded server: start it, find it, or stop it.

The server runs in the background and listens on loopback. It holds ``server.lock`` in its data
directory while it runs; a process that starts it holds ``start.lock`` meanwhile. ``server.json`` is
valid only while ``server.lock`` is held, so a token is never sent to the address of a server that
has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Final

from filelock import FileLock
from filelock import Timeout as LockTimeout

from beray.config import LOCAL, Target, home
from beray.exceptions import BeRayException
from beray.installation import how_to_install

IDLE_SECONDS: Final = 15 * 60
"""Time without requests and running tasks after which the server stops."""
START_SECONDS: Final = 60.0
LOG_FILE: Final = "server.log"
_LOG_BYTES: Final = 1024 * 1024


class ServerStartError(BeRayException):
    """The embedded server could not be started or stopped."""


@dataclass(frozen=True)
class ServerStatus:
    """Description of a running embedded server. Times are UTC, ISO 8601."""

    url: str
    pid: int
    started_at: str
    version: str
    data_dir: str
    sandbox: str
    token: str = field(repr=False)
    runners: str = ""

    def target(self) -> Target:
        """Return the server as a target of clients."""
        return Target(self.url, LOCAL, self.token, embedded=True)


def data_dir() -> Path:
    """Return the data directory of the embedded server."""
    return home() / "server"


def ensure() -> Target:
    """Return the embedded server, and start it if it is not running.

    Raises:
        ServerStartError: The server did not start. The message contains the reason and the path of
            the log.
    """
    running = status()
    if running is not None:
        return running.target()
    folder = data_dir()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(folder / "start.lock", timeout=START_SECONDS, mode=0o600):
            running = status()
            if running is None:
                _start(folder)
                running = status()
    except LockTimeout:
        raise ServerStartError(
            f"another process has been starting the server for more than {START_SECONDS:g} s; "
            "end that process and try again"
        ) from None
    except OSError as error:
        raise ServerStartError(
            f"cannot use the data directory {folder}: {error.strerror}"
        ) from None
    if running is None:
        raise ServerStartError(
            f"the server stopped right after its start; see its log, {folder / LOG_FILE}"
        )
    return running.target()


def status() -> ServerStatus | None:
    """Return the running server; ``None`` if it is not running."""
    folder = data_dir()
    if not _is_locked(folder / "server.lock"):
        return None
    try:
        stored = json.loads((folder / "server.json").read_text("utf-8"))
        known = ServerStatus.__dataclass_fields__.keys() & stored.keys()
        server = ServerStatus(**{name: stored[name] for name in known})
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    # The lock may belong to a new server that has not yet replaced the file of a killed one.
    return server if _is_alive(server.pid) else None


def stop(timeout: float = 10.0) -> bool:
    """Stop the server and wait until it has ended.

    Args:
        timeout: Seconds to wait.

    Returns:
        False if the server was not running.

    Raises:
        ServerStartError: The server still runs after ``timeout`` seconds.
    """
    import signal

    running = status()
    if running is None:
        return False
    os.kill(running.pid, signal.SIGTERM)
    try:
        with FileLock(data_dir() / "server.lock", timeout=timeout, mode=0o600):
            return True
    except LockTimeout:
        raise ServerStartError(
            f"the server (process {running.pid}) did not stop within {timeout:g} s"
        ) from None


def _is_alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        # A child of this process remains as a zombie until it is waited for.
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    """Return True if a process holds the lock; the file may exist without being locked."""
    if not path.exists():
        return False
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire(blocking=False)
    except LockTimeout:
        return True
    lock.release()
    return False


def _start(folder: Path) -> None:
    """Start a server that outlives this process, and wait until it reports that it is ready."""
    if os.name != "posix":
        raise ServerStartError(
            "the embedded server runs only on Linux and macOS; "
            "set BERAY_URL to the URL of another server"
        )
    if find_spec("fastapi") is None:
        raise ServerStartError(
            f"the server is not installed; {how_to_install('server')}; "
            "or set BERAY_URL to the URL of another server"
        )
    idle = os.environ.get("BERAY_IDLE_SECONDS", str(IDLE_SECONDS))
    log_path = folder / LOG_FILE
    with _open_log(log_path) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "beray.server", "--embedded", idle, "--data-dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    assert process.stdout is not None
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.daemon = True
    timer.start()
    with process.stdout:
        ready = process.stdout.readline()
    timer.cancel()
    if not ready:
        code = process.wait()
        raise ServerStartError(
            f"the server did not start (exit status {code}): {_last_line(log_path)}; "
            f"see its log, {log_path}"
        )


def _open_log(path: Path) -> IO[bytes]:
    """Open the log for appending; rotate it if it is larger than 1 MiB."""
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab")


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
