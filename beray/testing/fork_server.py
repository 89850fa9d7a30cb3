"""Fast start of test servers: they are forked from a process that has imported their modules.

Imports take most of the time of starting ``python -m beray.server``. A ``ServerForker`` runs one
process, ``beray.testing.fork_server_process``, that imports them once for all servers of a test
session. POSIX only, like the server.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_POLL_SECONDS: Final = 0.005


class ForkedServer:
    """Forked server process, with the required part of the interface of ``subprocess.Popen``.

    Attributes:
        pid: Process id.
        returncode: Exit status, once ``poll`` or ``wait`` returned it.
    """

    def __init__(self, forker: ServerForker, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forker = forker

    def poll(self) -> int | None:
        """Return the exit status, -n after signal n; ``None`` while the process runs."""
        if self.returncode is None:
            self.returncode = self._forker.request({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit status.

        Raises:
            subprocess.TimeoutExpired: The process still runs after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"server {self.pid}", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return status

    def terminate(self) -> None:
        """Send SIGTERM, if the process runs."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if the process runs."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # The pid cannot be reused until the exit status has been collected.
        if self.poll() is None:
            os.kill(self.pid, number)


class ServerForker:
    """Handle on the process that servers are forked from, which is started on demand.

    That process ends with this one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def start(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        *,
        cheap_passwords: bool = False,
    ) -> ForkedServer:
        """Start ``python -m beray.server``.

        Args:
            arguments: Command line arguments.
            environ: Environment variables.
            log: File to which the output is appended.
            cheap_passwords: Hash passwords with the minimum cost of argon2.
        """
        log.touch()
        request = {
            "arguments": list(arguments),
            "environ": dict(environ),
            "log": str(log.absolute()),
            "cwd": str(Path.cwd()),
            "cheap_passwords": cheap_passwords,
        }
        return ForkedServer(self, self.request(request))

    def request(self, message: dict[str, Any]) -> Any:
        """Send a request to the process and return its response.

        Raises:
            RuntimeError: The process has ended; its error is on standard error.
        """
        with self._lock:
            process = self._running_process()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
                response = process.stdout.readline()
            except BrokenPipeError:
                response = ""
        if not response:
            raise RuntimeError(
                "the process that test servers are forked from has ended with exit status "
                f"{process.wait()}"
            )
        return json.loads(response)

    def close(self) -> None:
        """End the process and the servers that still run."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def _running_process(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "beray.testing.fork_server_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            atexit.register(self.close)
        return self._process
