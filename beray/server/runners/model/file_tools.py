"""Model tools that read, write, edit and list files of the work_dir.

They access files through ``Workspace`` only. They are synchronous, and each call opens the
work_dir itself, so that they can be called in threads.
"""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from beray.server.runners.model import text_edit
from beray.server.workspace import safe_open
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.safe_open import quote_path
from beray.server.workspace.workspace import Workspace, open_work_dir
from beray.transfers import wire_names

READ_BYTES: Final = 60_000
"""Maximum size of the content that one call returns to the model."""
LINE_BYTES: Final = 4_000
"""Maximum size of one line that is returned to the model."""
EDIT_BYTES: Final = 16 * 1024**2
"""Maximum size of a file that can be edited, and maximum offset of a line that can be read."""
LIST_ENTRIES: Final = 1_000
_SNIFF_BYTES: Final = 8192
"""Size of the beginning of a file that is checked for NUL, which text files do not contain."""


class ToolError(Exception):
    """A tool call failed; the message is for the model."""


class FileTools:
    """Tools for the files of one work_dir.

    Args:
        work_dir: The work_dir.
        space: Disk quota for written files.
    """

    def __init__(self, work_dir: Path, *, space: DiskQuota | None = None) -> None:
        self._work_dir = work_dir
        self._space = space
        # Calls can be parallel, and an edit must read and write atomically.
        self._writing = threading.Lock()

    def open(self) -> Workspace:
        """Return a context manager that opens the work_dir."""
        return open_work_dir(self._work_dir, self._space)

    def read_file(self, path: str, first_line: int = 1, line_count: int | None = None) -> str:
        """Read a text file in the workspace, or some of its lines.

        Args:
            path: relative to the workspace.
            first_line: the first line to read; lines are counted from 1.
            line_count: the number of lines; all if not given. Long text is cut off with a note.
        """
        if first_line < 1 or (line_count is not None and line_count < 1):
            raise ToolError("first_line and line_count must be at least 1")
        with self.open() as workspace:
            raw, status = workspace.open_file(path)
            with raw:
                return _lines(path, raw, status.st_size, first_line, line_count)

    def write_file(self, path: str, content: str) -> str:
        """Write a complete text file in the workspace. Missing folders are created.

        Args:
            path: relative to the workspace.
            content: the complete text of the file; it replaces any previous content.
        """
        data = _encoded(content)
        with self._writing, self.open() as workspace:
            _replace(workspace, path, data)
        return f"{path}: {len(data):,} bytes written"

    def edit_file(self, path: str, old_text: str, new_text: str, replace_all: bool = False) -> str:
        """Replace text in a file of the workspace. The file keeps its line endings.

        Args:
            path: relative to the workspace.
            old_text: exactly as in the file, with enough context to occur only once.
            new_text: the replacement.
            replace_all: replace all occurrences.
        """
        if not old_text:
            raise ToolError("old_text is empty; use write_file to create a new file")
        old, new = _encoded(old_text), _encoded(new_text)
        if old == new:
            raise ToolError("old_text and new_text are the same")
        with self._writing, self.open() as workspace:
            data = _read_all(workspace, path)
            places = text_edit.find(data, old)
            if not places:
                raise ToolError(
                    f"old_text was not found in {quote_path(path)}: read the file and repeat its "
                    "text exactly, including spaces"
                )
            if len(places) > 1 and not replace_all:
                raise ToolError(
                    f"old_text occurs {len(places)} times in {quote_path(path)}: include more of "
                    "the surrounding text, or set replace_all"
                )
            _replace(workspace, path, text_edit.replace(data, places, new))
        return f"{path}: replaced {len(places)} {'time' if len(places) == 1 else 'times'}"

    def list_files(self, path: str = ".", recursive: bool = False, after: str | None = None) -> str:
        """List the files and folders in a folder of the workspace. Folders end with "/".

        Args:
            path: the folder, relative to the workspace.
            recursive: whether to include the contents of its folders.
            after: to continue a long listing, the last path that it returned.
        """
        directory = safe_open.parse_path(path)
        start = directory if after is None else safe_open.parse_path(after)
        if start[: len(directory)] != directory:
            raise ToolError(f"after: {quote_path(after or '')} is not in {quote_path(path)}")
        with self.open() as workspace:
            page = workspace.page(
                path,
                limit=LIST_ENTRIES,
                depth=None if recursive else 1,
                after=start[len(directory) :],
            )
        lines = [
            f"{item['path']}/"
            if item["type"] == "directory"
            else f"{item['path']} ({item['size']:,} bytes)"
            for item in page.items
        ]
        if page.end is not None:
            lines.append(f"[more entries: continue with after={page.items[-1]['path']!r}]")
        return "\n".join(lines) or "(the folder is empty)"

    def add(self, preferred: str, source: BinaryIO) -> str:
        """Write a new file without replacing an existing one.

        Args:
            preferred: Path of the file; if it is in use, a number is appended to its stem.
            source: Content of the file.

        Returns:
            The path of the file.

        Raises:
            PathError: The file cannot be created in its directory.
        """
        suffix = PurePosixPath(preferred).suffix
        stem = preferred.removesuffix(suffix)
        path, number = preferred, 1
        with self._writing, self.open() as workspace:
            while workspace.exists(path):
                number += 1
                path = f"{stem}-{number}{suffix}"
            with workspace.write(path) as writer:
                shutil.copyfileobj(source, writer)
        return path

    def sendable(self, path: str) -> str:
        """Return ``path`` of a regular file in its canonical form for the log.

        Raises:
            PathError: The path is invalid, or does not name a regular file.
        """
        with self.open() as workspace:
            workspace.open_file(path)[0].close()
        return wire_names.encode(b"/".join(safe_open.parse_file_path(path)))


def _lines(path: str, raw: BinaryIO, size: int, first: int, count: int | None) -> str:
    file = io.BufferedReader(cast("io.RawIOBase", raw))
    if b"\0" in file.peek(_SNIFF_BYTES)[:_SNIFF_BYTES]:
        raise ToolError(f"{quote_path(path)} is not a text file; it has {size:,} bytes")
    number, total, skipped = 0, 0, 0
    parts: list[bytes] = []
    end = None if count is None else first + count
    while end is None or number + 1 < end:
        line, length = _line(file)
        if not line:
            break
        number += 1
        if number < first:
            skipped += length
            if skipped > EDIT_BYTES:
                raise ToolError(
                    f"line {first} of {quote_path(path)} begins after {EDIT_BYTES:,} bytes; "
                    "use run_command to read it"
                )
            continue
        if total + len(line) > READ_BYTES:
            note = f"[cut off before line {number}: the file has {size:,} bytes in all]\n"
            return (b"".join(parts) + note.encode()).decode("utf-8", "replace")
        parts.append(line)
        total += len(line)
    if number < first and not (number == 0 and first == 1):
        raise ToolError(
            f"{quote_path(path)} has only {number} {'line' if number == 1 else 'lines'}"
        )
    return b"".join(parts).decode("utf-8", "replace")


def _line(file: io.BufferedReader[io.RawIOBase]) -> tuple[bytes, int]:
    """Return the next line, shortened to ``LINE_BYTES``, and its full length.

    At the end of the file, the line is empty.
    """
    line = file.readline(LINE_BYTES)
    length = len(line)
    if length < LINE_BYTES or line.endswith(b"\n"):
        return line, length
    while rest := file.readline(64 * 1024):
        length += len(rest)
        if rest.endswith(b"\n") or length > EDIT_BYTES:
            break
    if length == LINE_BYTES:
        return line, length
    return line + f"… [{length:,} bytes in this line]\n".encode(), length


def _read_all(workspace: Workspace, path: str) -> bytes:
    with workspace.open_file(path)[0] as file:
        data = io.BufferedReader(cast("io.RawIOBase", file)).read(EDIT_BYTES + 1)
    if len(data) > EDIT_BYTES:
        raise ToolError(
            f"{quote_path(path)} is too large to be edited (more than {EDIT_BYTES:,} bytes); "
            "use run_command"
        )
    return data


def _replace(workspace: Workspace, path: str, data: bytes) -> None:
    with workspace.write(path) as writer:
        writer.write(data)


def _encoded(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise ToolError(
            "the text contains a lone surrogate, which cannot be encoded in UTF-8; remove it"
        ) from None
