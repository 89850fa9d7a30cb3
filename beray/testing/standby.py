"""Process that becomes the fork server of a test server, without repeating its imports.

A server with a language model or an agent starts ``fork_server_process``, which imports the
packages of its runners in seconds. The process that test servers are forked from imports them
once, in ``preload``. Each such server forks a standby process before it has threads, which runs
the program of the fork server when the server starts it for the first time.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

NAME: Final = "beray-standby"
"""Name of the process on Linux."""
_RUNNERS: Final = {
    "BERAY_MODEL": "model",
    "BERAY_MODELS": "model",
    "BERAY_ACP": "acp",
    "BERAY_AGENT_URL": "agent",
}
"""Settings and the runners whose packages a server with this setting imports."""
_MAX_REQUEST_BYTES: Final = 1024 * 1024


def configured_runners(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with which a server starts a fork server, such as ``BERAY_MODEL``."""
    return {name: environ[name] for name in _RUNNERS if environ.get(name)}


def preload(environ: Mapping[str, str]) -> None:
    """Import the packages of the runners that are configured in ``environ``."""
    worker = importlib.import_module("beray.server.runners.subprocess.worker")
    settings = importlib.import_module("beray.server.settings")
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    try:
        # The server reports invalid settings and missing packages itself.
        with suppress(ValueError, ImportError):
            loaded = settings.Settings(data_dir=Path())
            for name in sorted({_RUNNERS[setting] for setting in configured_runners(environ)}):
                worker.preload(name, loaded)
    finally:
        os.environ.clear()
        os.environ.update(before)


class StandbyProcess:
    """Standby process, with the interface that ``ForkServer`` uses. For one event loop.

    Attributes:
        returncode: Exit status; None while the process runs.
    """

    def __init__(self) -> None:
        self._control, child_control = socket.socketpair()
        self.returncode: int | None = None
        self._reaper = threading.Thread(target=self._reap, daemon=True)
        self._pid = os.fork()
        if self._pid == 0:
            self._control.close()
            _stand_by(child_control)
        child_control.close()

    async def start(self, arguments: Sequence[str], requests: socket.socket) -> None:
        """Let the process run the program ``fork_server_process``."""
        message = json.dumps(list(arguments)).encode()
        with self._control:
            socket.send_fds(self._control, [message], [requests.fileno()])
        self._reaper.start()

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit status."""
        await asyncio.to_thread(self._reaper.join)
        assert self.returncode is not None
        return self.returncode

    def _reap(self) -> None:
        _, status = os.waitpid(self._pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)


def install() -> None:
    """Fork the standby process, which this server's first fork server will use.

    Must be called before the process has threads.
    """
    fork_server: Any = importlib.import_module("beray.server.runners.subprocess.fork_server")
    start_process = fork_server.start_process
    standby: list[StandbyProcess] = [StandbyProcess()]

    async def start(arguments: Sequence[str], requests: socket.socket) -> Any:
        if not standby:
            return await start_process(arguments, requests)
        process = standby.pop()
        await process.start(arguments, requests)
        return process

    fork_server.start_process = start


def _stand_by(control: socket.socket) -> NoReturn:
    """Wait for the start and run the fork server; exit if the server ends before."""
    status = 1
    try:
        comm = Path("/proc/self/comm")
        if comm.exists():
            comm.write_text(NAME)
        message, descriptors, _, _ = socket.recv_fds(control, _MAX_REQUEST_BYTES, 1)
        control.close()
        if message:
            open_files, data_dir, *runners = json.loads(message)
            null = os.open(os.devnull, os.O_WRONLY)
            for descriptor, number in ((descriptors[0], 0), (null, 1)):
                os.dup2(descriptor, number)
                os.close(descriptor)
            program: Any = importlib.import_module(
                "beray.server.runners.subprocess.fork_server_process"
            )
            program.main(int(open_files), Path(data_dir), runners)
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)
