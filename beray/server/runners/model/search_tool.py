"""Model tool that searches the files of the work_dir with ``grep`` in the sandbox.

A backtracking engine may take exponential time for a regular expression that a model writes.
``grep -E`` does not backtrack. As a process it can be terminated, and inside the sandbox it cannot
follow symbolic links out of the work_dir.
"""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.server.runners.model.file_tools import FileTools, ToolError
from beray.server.sandbox.sandbox import Sandbox
from beray.server.workspace import safe_open
from beray.transfers import wire_names

SECONDS: Final = 20.0
"""Time limit of a search."""
LINES: Final = 200
"""Maximum number of lines in a result."""
LINE_CHARACTERS: Final = 300
_OUTPUT_BYTES: Final = 4 * 1024**2
_IN_BRACKETS: Final = {"\\d": "0-9", "\\w": "[:alnum:]_", "\\s": "[:space:]", "\\t": "\t"}
# For grep, the CR of a CRLF line end is a character of the line.
_OUTSIDE_BRACKETS: Final = {"\\d": "[0-9]", "\\D": "[^0-9]", "\\t": "\t", "$": "\r?$"}
_BRACKET: Final = re.compile(
    r"\[(?P<not>\^?)(?P<content>\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]", re.DOTALL
)


@dataclass(slots=True)
class SearchTool:
    """Search tool for one work_dir."""

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
            pattern: an extended regular expression (grep -E), or plain text.
            path: the folder or file to search, relative to the workspace.
            is_regex: whether the pattern is a regular expression.
            ignore_case: whether upper and lower case are the same.
            file_pattern: only files whose names match this, such as "*.py".
        """
        if not pattern or "\n" in pattern or "\0" in pattern:
            raise ToolError("pattern must be a single non-empty line")
        root = await asyncio.to_thread(self._search_root, path)
        command = ["grep", "-rHnsI", "--null", "--exclude-dir=.git", "--exclude-dir=.beray"]
        command += ["-i"] if ignore_case else []
        command += [f"--include={file_pattern}"] if file_pattern else []
        command += ["-E" if is_regex else "-F", "-e", to_posix(pattern) if is_regex else pattern]
        return await self._search([*command, "--", root])

    def _search_root(self, path: str) -> str:
        """Return ``path`` as an argument for ``grep``.

        Raises:
            PathError: The path is neither a directory nor a regular file, or contains a symbolic
                link.
        """
        parts = safe_open.parse_path(path)
        with self.files.open() as workspace:
            try:
                with safe_open.path_errors(safe_open.quote_path(path)):
                    directory = safe_open.open_directory(workspace.descriptor, parts)
            except safe_open.InvalidPath:
                workspace.open_file(path)[0].close()
            else:
                os.close(directory)
        return "./" + os.fsdecode(b"/".join(parts))

    async def _search(self, command: list[str]) -> str:
        lines: list[str] = []
        message, note, size = "", "", 0
        async with self.sandbox.process(command, self.work_dir) as process:
            assert process.stdout is not None
            try:
                async with asyncio.timeout(SECONDS):
                    rest = name_start = b""
                    while chunk := await process.stdout.read(64 * 1024):
                        size += len(chunk)
                        *complete, rest = (rest + chunk).split(b"\n")
                        for line in complete:
                            name, separator, text = (name_start + line).partition(b"\0")
                            name_start = b""
                            if separator:
                                lines.append(_shown(name, text))
                            elif name.startswith(b"./"):
                                name_start = name + b"\n"  # a line break in a file name
                            elif not message:
                                message = line.decode("utf-8", "replace")[:300]
                        if len(lines) > LINES or size > _OUTPUT_BYTES:
                            note = f"[only the first {LINES} lines; there are more]"
                            break
                    else:
                        exit_code = await process.wait()
                        if exit_code > 1 and not lines:
                            reason = message or f"grep exited with status {exit_code}"
                            raise ToolError(f"the search failed: {reason}")
            except TimeoutError:
                note = f"[not all files were searched: the time limit of {SECONDS:g} s was reached]"
        shown = [*lines[:LINES], note] if note else lines
        return "\n".join(shown) or "(nothing was found)"


def to_posix(pattern: str) -> str:
    r"""Convert a regular expression in common syntax to a POSIX extended one.

    Non-capturing groups become groups, and ``\d``, ``\D`` and ``\t`` their equivalents. In bracket
    expressions, escaped characters are moved to the positions where POSIX takes them literally.
    ``$`` also matches before the CR of a CRLF line end.
    """
    pattern = pattern.replace("(?:", "(")
    result: list[str] = []
    position = 0
    while position < len(pattern):
        bracket = _BRACKET.match(pattern, position)
        if bracket:
            result.append(_bracket_expression(bracket["not"], bracket["content"]))
            position = bracket.end()
            continue
        length = 2 if pattern[position] == "\\" else 1
        piece = pattern[position : position + length]
        result.append(_OUTSIDE_BRACKETS.get(piece, piece))
        position += length
    return "".join(result)


def _bracket_expression(negated: str, content: str) -> str:
    """Return a POSIX bracket expression, in which ``]`` is first, ``-`` last and ``^`` not first.

    POSIX has no escape sequences in bracket expressions.
    """
    pieces = re.findall(r"\[:\w+:\]|\\.|.", content, re.DOTALL)
    first = "]" if "\\]" in pieces or "]" in pieces[:1] else ""
    last = "-" if "\\-" in pieces else ""
    kept = [_IN_BRACKETS.get(piece, piece) for piece in pieces]
    middle = "".join(piece.removeprefix("\\") for piece in kept if piece not in ("]", "\\]", "\\-"))
    if middle.startswith("^") and not (negated or first):
        middle, last = middle[1:], f"{last}^"
    return f"[{negated}{first}{middle}{last}]"


def _shown(name: bytes, text: bytes) -> str:
    path = wire_names.encode(name.removeprefix(b"./"))
    number, _, line = text.removesuffix(b"\r").decode("utf-8", "replace").partition(":")
    line = line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}…"
    return f"{path}:{number}:{line}"
