"""Program on a pseudo-terminal, timed by its output."""

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

_TIMEOUT_SECONDS = 60.0


class TerminalProgram:
    """Context manager that runs ``argv`` on a terminal of 120 × 40 cells, and kills it on exit."""

    def __init__(self, argv: list[str], environ: dict[str, str]) -> None:
        self._argv = argv
        # Bytecode is cached, as on a user's machine.
        inherited = {
            key: value for key, value in os.environ.items() if key[:15] != "PYTHONDONTWRITE"
        }
        self._environ = {**inherited, "TERM": "xterm-256color", **environ}
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
        """Send keys to the program."""
        os.write(self._terminal, keys.encode())

    def read_for(self, seconds: float) -> None:
        """Read and discard output for a duration."""
        deadline = time.perf_counter() + seconds
        while (remaining := deadline - time.perf_counter()) > 0:
            self._read(remaining)

    def seconds_until(self, text: str) -> float:
        """Return the time until the program writes ``text``, in seconds.

        Raises:
            RuntimeError: The text was not written within 60 seconds.
        """
        start = time.perf_counter()
        seen = b""
        while text.encode() not in self._last[-200:] + seen:
            if time.perf_counter() - start > _TIMEOUT_SECONDS:
                raise RuntimeError(
                    f"{text!r} was not shown within {_TIMEOUT_SECONDS:.0f} s; "
                    f"last output: {seen[-500:]!r}"
                )
            self._last = seen
            seen = self._read(_TIMEOUT_SECONDS)
        self._last = b""
        return time.perf_counter() - start

    def _read(self, seconds: float) -> bytes:
        ready, _, _ = select.select([self._terminal], [], [], seconds)
        return os.read(self._terminal, 1 << 16) if ready else b""
