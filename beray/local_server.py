"""The user's own server: start it or join it, in the background, on loopback.

A lock file decides: the server holds ``server.lock`` in its data folder as long as it
lives, and whoever starts one holds ``start.lock`` meanwhile. Only while the first is
held does ``server.json`` tell the truth; a token is never sent to an address that a
dead server left behind.
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
START_SECONDS: Final = 60.0
LOG_FILE: Final = "server.log"
_LOG_BYTES: Final = 1024 * 1024


class ServerStartError(BeRayException):
    """The user's own server could not be started."""


@dataclass(frozen=True)
class ServerStatus:
    """What a running server says of itself. Times are UTC, ISO 8601."""

    url: str
    pid: int
    started_at: str
    version: str
    data_dir: str
    sandbox: str
    token: str = field(repr=False)
    runners: str = ""

    def target(self) -> Target:
        return Target(self.url, LOCAL, self.token, embedded=True)


def data_dir() -> Path:
    return home() / "server"


def ensure() -> Target:
    """Return the user's own server, started if it was not running.

    Raises:
        ServerStartError: it did not start; the text says why and where its log is.
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
        raise ServerStartError("another process is starting the server and does not end") from None
    except OSError as error:
        raise ServerStartError(f"{folder} cannot be used: {error.strerror}") from None
    if running is None:
        raise ServerStartError(f"the server left at once; its log is {folder / LOG_FILE}")
    return running.target()


def status() -> ServerStatus | None:
    """What is running, or ``None``."""
    folder = data_dir()
    if not _held(folder / "server.lock"):
        return None
    try:
        stored = json.loads((folder / "server.json").read_text("utf-8"))
        known = ServerStatus.__dataclass_fields__.keys() & stored.keys()
        told = ServerStatus(**{name: stored[name] for name in known})
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    # The lock may be a successor's that has not yet removed what a killed server left.
    return told if _alive(told.pid) else None


def stop(timeout: float = 10.0) -> bool:
    """Stop the server and wait until it has left; ``False`` where none was running.

    Raises:
        ServerStartError: it is still there after ``timeout`` seconds.
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
            f"the server (process {running.pid}) did not leave within {timeout:g} s"
        ) from None


def _alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        # One that this process has started stays, dead, until it is waited for.
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _held(path: Path) -> bool:
    """Whether some process holds the lock; a file that nobody holds proves nothing."""
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
    """Start a server that outlives this process, and wait for its first word."""
    if os.name != "posix":
        raise ServerStartError(
            "a server of your own runs on Linux and macOS; "
            "set BERAY_URL to the URL of another server"
        )
    if find_spec("fastapi") is None:
        raise ServerStartError(
            f"the server is not installed; {how_to_install('server')}; "
            "or set BERAY_URL to the URL of another server"
        )
    idle = os.environ.get("BERAY_IDLE_SECONDS", str(IDLE_SECONDS))
    log_path = folder / LOG_FILE
    with _opened_log(log_path) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "beray.server", "--embedded", idle, "--data-dir", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
    assert process.stdout is not None
    too_late = threading.Timer(START_SECONDS, process.kill)
    too_late.daemon = True
    too_late.start()
    with process.stdout:
        ready = process.stdout.readline()
    too_late.cancel()
    if not ready:
        code = process.wait()
        raise ServerStartError(
            f"the server did not start (exit status {code}): {_last_line(log_path)}; "
            f"its log is {log_path}"
        )


def _opened_log(path: Path) -> IO[bytes]:
    """The log, kept for the last starts and never larger than it is worth."""
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    return os.fdopen(descriptor, "ab")


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2000))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
