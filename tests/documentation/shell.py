"""Shell of one page: commands in files or terminals, and the state that they leave."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from pathlib import Path
from typing import Final

import pyte

from tests.cli.cli_terminal import Terminal

SECONDS: Final = 100.0
"""Time limit of one block."""
COLUMNS: Final = 118
_LINES: Final = 36
_SCREEN_LINES: Final = 300
# Lines that a program does not wrap itself are compared without the terminal's wrapping.
_SCREEN_COLUMNS: Final = 400
_SCRIPT: Final = """\
. {state}
cd "$(cat {directory})"
trap 'status=$?; export -p > {state}; pwd > {directory}; exit $status' EXIT
{options}
{code}
"""


class Shell:
    """Commands that share variables and the current directory.

    Args:
        folder: Directory for the state.
        environ: Variables at the beginning.
        directory: Current directory at the beginning.
    """

    def __init__(self, folder: Path, environ: dict[str, str], directory: Path) -> None:
        self._folder = folder
        self._state = folder / "state.sh"
        self._directory = folder / "directory"
        self._state.write_text("".join(_export(*item) for item in environ.items()), "utf-8")
        self._directory.write_text(f"{directory}\n", "utf-8")
        self._count = 0
        self._background: list[subprocess.Popen[bytes]] = []

    @property
    def directory(self) -> Path:
        """Current directory."""
        return Path(self._directory.read_text("utf-8").rstrip("\n"))

    def environ(self) -> dict[str, str]:
        """Return the exported variables."""
        script = f". {self._state}; env -0"
        found = subprocess.run(["bash", "-c", script], env={}, stdout=subprocess.PIPE, check=True)
        pairs = (item.partition("=") for item in found.stdout.decode().split("\0") if item)
        return {name: value for name, _, value in pairs if name not in ("_", "SHLVL", "PWD")}

    def export(self, name: str, value: str) -> None:
        """Export a variable for the following commands."""
        with self._state.open("a", encoding="utf-8") as file:
            file.write(_export(name, value))

    def run(self, code: str, *, producer: str | None = None) -> tuple[int, str]:
        """Run commands without a terminal, and return exit status and output.

        Args:
            code: The commands. They end at the first one that fails.
            producer: Commands whose output is the standard input.
        """
        output = self._path("output")
        source = None
        with output.open("wb") as file:
            if producer is not None:
                source = subprocess.Popen(
                    ["bash", self._script(producer, keep=False)],
                    env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=file,
                )  # fmt: skip
            process = subprocess.Popen(
                ["bash", self._script(code)],
                env={},
                stdin=source.stdout if source is not None else subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                status = process.wait()
                file.write(b"\n[the time limit of the block has passed]\n")
            finally:
                if source is not None and source.stdout is not None:
                    source.stdout.close()
                    source.wait(SECONDS)
        return status, output.read_text("utf-8", errors="replace")

    def run_on_terminal(
        self, code: str, script: str = "", *, previous: int = 0
    ) -> tuple[int, list[str]]:
        """Run commands on a terminal, and return exit status and the lines that it shows.

        Args:
            code: The commands.
            script: Alternating strings to wait for and keys to type, in the syntax of a shell.
            previous: Exit status of the previous command, for ``$?``.
        """
        words = shlex.split(script)
        program = ["bash", self._script(code, options=f"(exit {previous})")]
        with _ScreenTerminal(program=program, TERM="xterm-256color") as terminal:
            for text, keys in zip(words[::2], words[1::2], strict=True):
                terminal.until_shown(text)
                terminal.type(keys.encode().decode("unicode_escape"))
            status = terminal.read_to_end()
            return status, terminal.lines()

    def start(self, code: str, text: str) -> None:
        """Start commands in the background, and wait until they have written ``text``."""
        output = self._path("output")
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", self._script(code, keep=False)],
                env={}, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self._background.append(process)
        deadline = time.monotonic() + SECONDS
        while text not in output.read_text("utf-8", errors="replace"):
            written = output.read_text("utf-8", errors="replace")
            assert process.poll() is None, f"the program has ended:\n{written}"
            assert time.monotonic() < deadline, f"{text!r} was not written:\n{written}"
            time.sleep(0.05)

    def close(self) -> None:
        """End the commands in the background."""
        for process in self._background:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise

    def _script(self, code: str, *, keep: bool = True, options: str = "set -eo pipefail") -> str:
        path = self._path("sh")
        script = _SCRIPT.format(
            state=shlex.quote(str(self._state)),
            directory=shlex.quote(str(self._directory)),
            options=options,
            code=code,
        )
        if not keep:
            script = re.sub(r"^trap .*\n", "", script, count=1, flags=re.M)
        path.write_text(script, "utf-8")
        return str(path)

    def _path(self, suffix: str) -> Path:
        self._count += 1
        return self._folder / f"{self._count}.{suffix}"


class _ScreenTerminal(Terminal):
    """Terminal whose output is rendered."""

    def __init__(self, program: list[str], **environ: str) -> None:
        size = {"COLUMNS": str(COLUMNS), "LINES": str(_LINES)}
        super().__init__(program=program, **{**size, **environ})
        self._screen = pyte.Screen(COLUMNS, _LINES)
        self._stream = pyte.ByteStream(self._screen)
        self._raw = b""

    def prepare(self, terminal: int) -> None:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, COLUMNS, 0, 0))

    def until_shown(self, text: str) -> None:
        """Wait until the screen shows ``text``."""
        deadline = time.monotonic() + SECONDS
        while text not in "\n".join(self._screen.display):
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._master], [], [], left)
            piece = self._read() if ready else b""
            assert piece, f"{text!r} was not shown:\n" + "\n".join(self._screen.display)

    def read_to_end(self) -> int:
        """Read until the program has ended, and return its exit status."""
        deadline = time.monotonic() + SECONDS
        while True:
            left = max(deadline - time.monotonic(), 0)
            ready, _, _ = select.select([self._master], [], [], left)
            assert ready, "the time limit of the command has passed:\n" + "\n".join(self.lines())
            if not self._read():
                return self.process.wait(SECONDS)

    def lines(self) -> list[str]:
        """Return everything that the terminal has shown, without empty lines at the end."""
        screen = pyte.Screen(_SCREEN_COLUMNS, _SCREEN_LINES)
        pyte.ByteStream(screen).feed(self._raw)
        return "\n".join(line.rstrip() for line in screen.display).rstrip("\n").splitlines()

    def _read(self) -> bytes:
        piece = super()._read()
        # Requests for the terminal's modes, which pyte would show as text. A piece may consist of
        # nothing else, so the unchanged piece is returned: an empty one is the end.
        shown = re.sub(rb"\x1b\[\?[0-9]+\$p", b"", piece)
        self._raw += shown
        self._stream.feed(shown)
        return piece


def _export(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}\n"
