"""What runners that start a program of the owner's have in common."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import PurePath
from typing import Final

TAIL_BYTES: Final = 4096
CHUNK_BYTES: Final = 32 * 1024


class ProgramError(Exception):
    """The program cannot do its work; the text says why, in words for the user."""


def split(command: str | None, setting: str) -> list[str]:
    """Return the arguments of a command line, as a POSIX shell would split it.

    Raises:
        ProgramError: ``setting`` holds no command.
    """
    try:
        arguments = shlex.split(command or "")
    except ValueError as error:
        raise ProgramError(f"{setting} is no command line: {error}") from None
    if not arguments or not arguments[0]:
        raise ProgramError(f"{setting} names no program")
    return arguments


def name_of(arguments: list[str]) -> str:
    """What a program is called, without the folders it is in."""
    return repr(PurePath(arguments[0]).name)


class Tail:
    """The last of what a program has said."""

    def __init__(self, most: int = TAIL_BYTES) -> None:
        self._most = most
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > self._most:
            del self._kept[: -self._most]

    async def drain(self, stream: asyncio.StreamReader) -> None:
        """Read ``stream`` to its end."""
        while chunk := await stream.read(CHUNK_BYTES):
            self.add(chunk)

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


def unstartable(arguments: list[str], exit_code: int | None, said: str) -> str | None:
    """Why a program could not be started; ``None`` where it was.

    ``said`` is what came on its standard error. The supervisor and bubblewrap speak there
    in the place of a program that they do not find.
    """
    for line in said.splitlines():
        if exit_code == 127 and line.startswith(f"{arguments[0]}: "):
            return line.removeprefix(f"{arguments[0]}: ")
        if line.startswith(f"bwrap: execvp {arguments[0]}: "):
            return line.removeprefix(f"bwrap: execvp {arguments[0]}: ")
    return None


def cannot_start(setting: str, arguments: list[str], reason: str) -> str:
    """The words for a program that could not be started."""
    return (
        f"The program of {setting}, {name_of(arguments)}, cannot be started: {reason}. "
        "It must be installed on the server, and what it needs beside the system's programs "
        "must be named in BERAY_AGENT_PATHS."
    )
