"""Command lines of the operator's programs: parsing, last output and start failures."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import PurePath
from typing import Final

TAIL_BYTES: Final = 4096
CHUNK_BYTES: Final = 32 * 1024


class ProgramError(Exception):
    """A program cannot be run; the message is for the user."""


def split(command: str | None, setting: str) -> list[str]:
    """Return the arguments of a command line, split like a POSIX shell does.

    Args:
        command: The command line.
        setting: Name of the environment variable that contains it, for messages.

    Raises:
        ProgramError: The command line is empty or has unbalanced quotes.
    """
    try:
        arguments = shlex.split(command or "")
    except ValueError as error:
        reason = str(error).lower()
        raise ProgramError(f"{setting} is not a valid command line: {reason}.") from None
    if not arguments or not arguments[0]:
        raise ProgramError(f"{setting} does not name a program.")
    return arguments


def program_name(arguments: list[str]) -> str:
    """Return the quoted name of the program without its directory."""
    return repr(PurePath(arguments[0]).name)


class Tail:
    """Last bytes of a program's output.

    Args:
        max_bytes: Number of bytes that are kept.
    """

    def __init__(self, max_bytes: int = TAIL_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        """Append output and discard what exceeds the limit at the beginning."""
        self._kept += data
        if len(self._kept) > self._max_bytes:
            del self._kept[: -self._max_bytes]

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Read ``stream`` to its end."""
        while chunk := await stream.read(CHUNK_BYTES):
            self.add(chunk)

    @property
    def text(self) -> str:
        """Decoded output without surrounding whitespace."""
        return self._kept.decode(errors="replace").strip()


def start_failure(arguments: list[str], exit_code: int | None, stderr: str) -> str | None:
    """Return why a program could not be started, or None if it was started.

    Args:
        arguments: The program and its arguments.
        exit_code: Its exit status; None if it still runs.
        stderr: Its standard error, to which the supervisor and bubblewrap write a line if they
            cannot execute the program.
    """
    for line in stderr.splitlines():
        if exit_code == 127 and line.startswith(f"{arguments[0]}: "):
            return line.removeprefix(f"{arguments[0]}: ")
        if line.startswith(f"bwrap: execvp {arguments[0]}: "):
            return line.removeprefix(f"bwrap: execvp {arguments[0]}: ")
    return None


def start_failure_message(setting: str, arguments: list[str], reason: str) -> str:
    """Return the message for a program that could not be started."""
    return (
        f"The program of {setting}, {program_name(arguments)}, cannot be started: {reason}. "
        "Install it on the server, and list the files that it needs outside of the system "
        "directories in BERAY_AGENT_PATHS."
    )
