"""Searches the files of the work_dir, by the system's grep and in the sandbox.

A regular expression of a model's may run without end in an engine that backtracks.
``grep -E`` does not, and it is a process: it can be ended, and it cannot leave the
work_dir, whatever links lead out of it.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.server.runners.model.file_tools import FileTools, Refused
from beray.server.sandbox.sandbox import Sandbox
from beray.server.workspace import safe_open
from beray.transfers import wire_names

SECONDS: Final = 20.0
LINES: Final = 200
LINE_CHARACTERS: Final = 300
_OUTPUT_BYTES: Final = 4 * 1024**2
_INSIDE: Final = {"\\d": "0-9", "\\w": "[:alnum:]_", "\\s": "[:space:]", "\\t": "\t"}
# grep takes the CR of a CRLF line end for a character of the line.
_OUTSIDE: Final = {"\\d": "[0-9]", "\\D": "[^0-9]", "\\t": "\t", "$": "\r?$"}
_BRACKET: Final = re.compile(
    r"\[(?P<not>\^?)(?P<content>\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]", re.DOTALL
)


@dataclass(slots=True)
class SearchTool:
    sandbox: Sandbox
    work_dir: Path
    files: FileTools

    async def search_files(
        self,
        pattern: str,
        path: str = ".",
        is_regex: bool = True,
        ignore_case: bool = False,
        file_pattern: str | None = None,
    ) -> str:
        """Search the text files of the workspace; each line found is given as path:line:text.

        Args:
            pattern: an extended regular expression (grep -E), or a plain text.
            path: the folder or file to search, relative to the workspace.
            is_regex: whether the pattern is a regular expression.
            ignore_case: whether upper and lower case are the same.
            file_pattern: only files whose names match this, such as "*.py".
        """
        if not pattern or "\n" in pattern or "\0" in pattern:
            raise Refused("give a pattern of one line")
        where = await asyncio.to_thread(self._where, path)
        command = ["grep", "-rHnsI", "--null", "--exclude-dir=.git", "--exclude-dir=.beray"]
        command += ["-i"] if ignore_case else []
        command += [f"--include={file_pattern}"] if file_pattern else []
        command += ["-E" if is_regex else "-F", "-e", extended(pattern) if is_regex else pattern]
        return await self._found([*command, "--", where])

    def _where(self, path: str) -> str:
        """``path``, for a command line; it is a folder or a regular file, through no link."""
        parts = safe_open.parse_path(path)
        with self.files.open() as workspace:
            try:
                with safe_open.path_errors(safe_open.quote_path(path)):
                    folder = safe_open.open_directory(workspace.descriptor, parts)
            except safe_open.InvalidPath:
                workspace.open_file(path)[0].close()
            else:
                os.close(folder)
        return "./" + os.fsdecode(b"/".join(parts))

    async def _found(self, command: list[str]) -> str:
        lines: list[str] = []
        complaint, note, size = "", "", 0
        async with self.sandbox.process(command, self.work_dir) as process:
            assert process.stdout is not None
            try:
                async with asyncio.timeout(SECONDS):
                    rest = name_start = b""
                    while chunk := await process.stdout.read(64 * 1024):
                        size += len(chunk)
                        *whole, rest = (rest + chunk).split(b"\n")
                        for line in whole:
                            name, separator, text = (name_start + line).partition(b"\0")
                            name_start = b""
                            if separator:
                                lines.append(_shown(name, text))
                            elif name.startswith(b"./"):
                                name_start = name + b"\n"  # a line break in a file name
                            elif not complaint:
                                complaint = line.decode("utf-8", "replace")[:300]
                        if len(lines) > LINES or size > _OUTPUT_BYTES:
                            note = f"[the first {LINES} lines; there are more]"
                            break
                    else:
                        exit_code = await process.wait()
                        if exit_code > 1 and not lines:
                            raise Refused(f"the search failed: {complaint or exit_code}")
            except TimeoutError:
                note = f"[not all files were searched: that takes more than {SECONDS:g} s]"
        shown = [*lines[:LINES], note] if note else lines
        return "\n".join(shown) or "(nothing was found)"


def extended(pattern: str) -> str:
    """A regular expression as most people write them, as POSIX writes it."""
    pattern = pattern.replace("(?:", "(")
    result: list[str] = []
    position = 0
    while position < len(pattern):
        bracket = _BRACKET.match(pattern, position)
        if bracket:
            result.append(_bracket(bracket["not"], bracket["content"]))
            position = bracket.end()
            continue
        length = 2 if pattern[position] == "\\" else 1
        piece = pattern[position : position + length]
        result.append(_OUTSIDE.get(piece, piece))
        position += length
    return "".join(result)


def _bracket(negated: str, content: str) -> str:
    """A bracket expression. In POSIX's, nothing is escaped: what is special has its place."""
    pieces = re.findall(r"\[:\w+:\]|\\.|.", content, re.DOTALL)
    first = "]" if "\\]" in pieces or "]" in pieces[:1] else ""
    last = "-" if "\\-" in pieces else ""
    kept = [_INSIDE.get(piece, piece) for piece in pieces]
    middle = "".join(piece.removeprefix("\\") for piece in kept if piece not in ("]", "\\]", "\\-"))
    if middle.startswith("^") and not (negated or first):
        middle, last = middle[1:], f"{last}^"
    return f"[{negated}{first}{middle}{last}]"


def _shown(name: bytes, text: bytes) -> str:
    path = wire_names.encode(name.removeprefix(b"./"))
    number, _, line = text.removesuffix(b"\r").decode("utf-8", "replace").partition(":")
    line = line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}…"
    return f"{path}:{number}:{line}"
