"""Servers that start at once: forked from a process that has imported what they need.

A start of ``python -m beray.server`` is mostly imports. ``Forks`` has one process do
them, ``beray.testing.fork_server_process``, once for all servers of a test session. POSIX only, as
the server.
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


class Fork:
    """One forked process, with as much of ``subprocess.Popen`` as a server needs."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._forks = forks

    def poll(self) -> int | None:
        """Its exit status once it has ended, else ``None``; -n where signal n ended it."""
        if self.returncode is None:
            self.returncode = self._forks.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"server {self.pid}", timeout or 0.0)
            time.sleep(_POLL_SECONDS)
        return status

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Until it is known to have ended, nobody else can have its pid.
        if self.poll() is None:
            os.kill(self.pid, number)


class Forks:
    """The process that is forked. It ends with the process that made it."""

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
    ) -> Fork:
        """Run ``python -m beray.server`` with ``arguments``; its output is appended to ``log``.

        Args:
            cheap_passwords: hash passwords with the least work that argon2 can do.
        """
        log.touch()
        request = {
            "arguments": list(arguments),
            "environ": dict(environ),
            "log": os.path.abspath(log),
            "cwd": os.getcwd(),
            "cheap_passwords": cheap_passwords,
        }
        return Fork(self, self.ask(request))

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer to one request.

        Raises:
            RuntimeError: the process is gone; what it said is on standard error.
        """
        with self._lock:
            process = self._running()
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:
                answer = ""
        if not answer:
            raise RuntimeError(f"the process that servers are forked from ended: {process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def _running(self) -> subprocess.Popen[str]:
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
