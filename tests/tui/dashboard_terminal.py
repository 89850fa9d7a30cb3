"""The real dashboard on a pseudo terminal, whose screen is read as a person reads it."""

from __future__ import annotations

import fcntl
import select
import struct
import sys
import termios
import time
from collections.abc import Callable

import psutil
import pyte

from tests.cli.cli_terminal import Terminal
from tests.support import WAIT_SECONDS

_PROGRAM = ("-m", "beray.cli")


class DashboardTerminal(Terminal):
    """``beray`` without arguments, on a terminal of the given size.

    Attributes:
        raw: every byte that the program has written.
    """

    def __init__(
        self, columns: int, lines: int, program: tuple[str, ...] = _PROGRAM, **environ: str
    ) -> None:
        size = {"COLUMNS": str(columns), "LINES": str(lines)}
        colours = {"TERM": "xterm-256color", "NO_COLOR": ""}
        super().__init__(program=[sys.executable, *program], **{**colours, **size, **environ})
        self._size = struct.pack("HHHH", lines, columns, 0, 0)
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""

    def prepare(self, terminal: int) -> None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, self._size)

    @property
    def shown(self) -> str:
        return "\n".join(self._screen.display)

    @property
    def title(self) -> str:
        return str(self._screen.title)

    def until_shown(self, *texts: str) -> None:
        self._until(lambda: all(text in self.shown for text in texts), f"{texts} did not come")

    def until_told(self, *sequences: str) -> None:
        """Wait for operating system commands, which are shown nowhere."""
        wanted = [f"\x1b]{sequence}".encode() for sequence in sequences]
        self._until(lambda: all(one in self.raw for one in wanted), f"{sequences} did not come")

    def until_gone(self, text: str) -> None:
        self._until(lambda: text not in self.shown, f"{text} did not go")

    def put_out_of_focus(self) -> None:
        """Tell the dashboard that nobody looks, and wait until its list has lost the focus.

        The frame of what has the focus is of another colour than that of the events.
        """

        def lit() -> bool:
            row = next(y for y, line in enumerate(self._screen.display) if "╭─ Events" in line)
            events = self._screen.display[row].index("╭─ Events")
            return bool(self._screen.buffer[row][events].fg != self._screen.buffer[1][0].fg)

        self.until_shown("╭─ Tasks", "╭─ Events")
        self._until(lit, "the list does not get the focus")
        self.type("\x1b[O")
        self._until(lambda: not lit(), "the focus does not go")

    def _until(self, seen: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not seen():
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(left, 0))
            piece = self._read() if ready else b""
            assert piece, f"{otherwise}; the screen:\n{self.shown}"

    def until(self, seen: Callable[[], bool]) -> None:
        """Read what the program writes until ``seen`` returns true."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not seen():
            assert time.monotonic() < deadline, f"not seen in time; the screen:\n{self.shown}"
            if select.select([self._master], [], [], 0.02)[0]:
                self._read()

    def state(self) -> str:
        """Return the state of the process, such as ``psutil.STATUS_STOPPED``."""
        return psutil.Process(self.process.pid).status()

    def leave(self) -> int:
        """Press q, and give the exit status."""
        self.type("q")
        return self.read_to_end()

    def read_to_end(self) -> int:
        """Read until the program has ended, and return its exit status."""
        while self._read():
            pass
        return self.process.wait(WAIT_SECONDS)

    def _read(self) -> bytes:
        piece = super()._read()
        self.raw += piece
        # A request for the terminal's modes, which pyte would show as text.
        self._stream.feed(piece.replace(b"\x1b[?2026$p", b"").replace(b"\x1b[?2048$p", b""))
        return piece
