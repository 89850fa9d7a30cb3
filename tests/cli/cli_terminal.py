"""The program on a pseudo terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from typing import Self

from tests.support import WAIT_SECONDS

# One process runs several commands, because starting a process takes longer than a command.
# As a session leader, it gets its controlling terminal by opening it.
# If the tests run in the background, the process inherits an ignored SIGINT.
_CHILD = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.open(os.ttyname(0), os.O_RDWR)
from beray.cli import main
for argv in json.loads(os.environ["COMMANDS"]):
    sys.stdout.write(f"<begin {argv[0]!a}>\\n"); sys.stdout.flush()
    status = main(argv)
    sys.stdout.write(f"<exit {status}>\\n"); sys.stdout.flush()
"""


class Terminal:
    """Terminal in which a program, or several commands in turn, are running."""

    def __init__(
        self, *commands: list[str], program: list[str] | None = None, **environ: str
    ) -> None:
        self._commands = commands
        self._program = program or [sys.executable, "-c", _CHILD]
        self._environ = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "100", **environ}
        self.seen = ""
        self._read_to = 0

    def __enter__(self) -> Self:
        self._master, slave = pty.openpty()
        self.prepare(slave)
        self.process = subprocess.Popen(
            self._program,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, **self._environ, "COMMANDS": json.dumps(self._commands)},
        )
        os.close(slave)
        return self

    def prepare(self, terminal: int) -> None:
        """Prepare the terminal before the program starts."""

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str) -> str:
        """Wait for ``text`` after the last match, and return the output between them."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (found := self.seen.find(text, self._read_to)) < 0:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(left, 0))
            assert ready, f"{text!r} did not come; seen: {self.seen!r}"
            self.seen += self._read().decode(errors="surrogateescape")
        before, self._read_to = self.seen[self._read_to : found], found + len(text)
        return before

    def echoes(self) -> bool:
        """Return True if the terminal echoes input."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def end(self) -> str:
        """Wait for the end of the program, and return its complete output."""
        while piece := self._read():
            self.seen += piece.decode(errors="surrogateescape")
        self.process.wait(WAIT_SECONDS)
        return self.seen

    def _read(self) -> bytes:
        try:
            return os.read(self._master, 65536)
        except OSError:  # Linux: the other side is closed.
            return b""
