"""A program on a pseudo terminal, timed by what it writes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from types import TracebackType
from typing import Self

_PATIENCE = 60.0


class OnTerminal:
    """Runs ``argv`` on a terminal of 120 x 40; a context manager that kills it at the end."""

    def __init__(self, argv: list[str], environ: dict[str, str]) -> None:
        self._argv = argv
        # As on a user's machine, where Python keeps the bytecode of what it imports.
        kept = {key: value for key, value in os.environ.items() if key[:15] != "PYTHONDONTWRITE"}
        self._environ = {**kept, "TERM": "xterm-256color", **environ}
        self.pid = 0
        self._terminal = -1
        self._last = b""

    def __enter__(self) -> Self:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(self._argv[0], self._argv, self._environ)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def read_for(self, seconds: float) -> None:
        """Let it write for so long."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._read(left)

    def seconds_until(self, text: str) -> float:
        """How long it takes from now until ``text`` is written."""
        start = time.perf_counter()
        seen = b""
        while text.encode() not in self._last[-200:] + seen:
            if time.perf_counter() - start > _PATIENCE:
                raise RuntimeError(f"{text!r} was not shown in time: {seen[-500:]!r}")
            self._last = seen
            seen = self._read(_PATIENCE)
        self._last = b""
        return time.perf_counter() - start

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        return os.read(self._terminal, 1 << 16) if ready else b""
