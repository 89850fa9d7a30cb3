"""Tools for the files of the work_dir. All of them go through its ``Workspace``.

Synchronous; each opens the work_dir for itself, so that they can be called in threads.
"""

from __future__ import annotations

import io
import os
import shutil
import threading
from pathlib import Path
from typing import BinaryIO, Final, cast

from beray.server.runners.model import text_edit
from beray.server.workspace import safe_open
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.safe_open import quote_path
from beray.server.workspace.workspace import Workspace, open_work_dir
from beray.transfers import wire_names

READ_BYTES: Final = 60_000
"""Most that the model is given of a file at once."""
LINE_BYTES: Final = 4_000
EDIT_BYTES: Final = 16 * 1024**2
"""Largest file that is edited, or looked through for a line."""
LIST_ENTRIES: Final = 1_000
_LOOK_BYTES: Final = 8192


class Refused(Exception):
    """A tool could not do what it was asked to; the text is for the model."""


class FileTools:
    def __init__(self, work_dir: Path, space: DiskQuota | None = None) -> None:
        self._work_dir = work_dir
        self._space = space
        # Calls can be parallel, and an edit is a reading and a writing.
        self._writing = threading.Lock()

    def open(self) -> Workspace:
        """Open the work_dir; a context manager."""
        return open_work_dir(self._work_dir, self._space)

    def read_file(self, path: str, first_line: int = 1, line_count: int | None = None) -> str:
        """Read a text file of the workspace, or some of its lines.

        Args:
            path: relative to the workspace.
            first_line: the first line that is wanted; lines are counted from 1.
            line_count: how many lines; all if not given. Long texts are cut off, and say so.
        """
        if first_line < 1 or (line_count is not None and line_count < 1):
            raise Refused("first_line and line_count begin at 1")
        with self.open() as workspace:
            raw, status = workspace.open_file(path)
            with raw:
                return _lines(path, raw, status.st_size, first_line, line_count)

    def write_file(self, path: str, content: str) -> str:
        """Write a text file in the workspace, whole. Missing folders are made.

        Args:
            path: relative to the workspace.
            content: all of the file's text; what was there before is replaced.
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
            raise Refused("old_text is empty; write_file makes a new file")
        old, new = _encoded(old_text), _encoded(new_text)
        if old == new:
            raise Refused("old_text and new_text are the same")
        with self._writing, self.open() as workspace:
            data = _whole(workspace, path)
            places = text_edit.find(data, old)
            if not places:
                raise Refused(
                    f"old_text was not found in {quote_path(path)}: read the file and repeat its "
                    "text exactly, including spaces"
                )
            if len(places) > 1 and not replace_all:
                raise Refused(
                    f"old_text occurs {len(places)} times in {quote_path(path)}: include more of "
                    "the surrounding text, or set replace_all"
                )
            _replace(workspace, path, text_edit.replace(data, places, new))
        return f"{path}: replaced {len(places)} {'time' if len(places) == 1 else 'times'}"

    def list_files(self, path: str = ".", recursive: bool = False, after: str | None = None) -> str:
        """List the files and folders in a folder of the workspace. Folders end with "/".

        Args:
            path: the folder, relative to the workspace.
            recursive: also what is in its folders.
            after: to continue a long listing, the last path that it has returned.
        """
        folder = safe_open.parse_path(path)
        start = folder if after is None else safe_open.parse_path(after)
        if start[: len(folder)] != folder:
            raise Refused(f"after: {quote_path(after or '')} is not in {quote_path(path)}")
        with self.open() as workspace:
            page = workspace.page(
                path,
                limit=LIST_ENTRIES,
                depth=None if recursive else 1,
                after=start[len(folder) :],
            )
        lines = [
            f"{item['path']}/"
            if item["type"] == "directory"
            else f"{item['path']} ({item['size']:,} bytes)"
            for item in page.items
        ]
        if page.end is not None:
            lines.append(f"[there are more: continue with after={page.items[-1]['path']!r}]")
        return "\n".join(lines) or "(nothing is there)"

    def add(self, wanted: str, source: BinaryIO) -> str:
        """Write a new file, over nothing that is there; its path: ``wanted``, or one like it.

        Raises:
            PathError: its folder cannot be used.
        """
        stem, suffix = os.path.splitext(wanted)
        path, number = wanted, 1
        with self._writing, self.open() as workspace:
            while workspace.exists(path):
                number += 1
                path = f"{stem}-{number}{suffix}"
            with workspace.write(path) as writer:
                shutil.copyfileobj(source, writer)
        return path

    def sendable(self, path: str) -> str:
        """Return ``path`` as the log names it; it is a regular file.

        Raises:
            PathError: it is not, or cannot be used.
        """
        with self.open() as workspace:
            workspace.open_file(path)[0].close()
        return wire_names.encode(b"/".join(safe_open.parse_file_path(path)))


def _lines(path: str, raw: BinaryIO, size: int, first: int, count: int | None) -> str:
    file = io.BufferedReader(cast("io.RawIOBase", raw))
    if b"\0" in file.peek(_LOOK_BYTES)[:_LOOK_BYTES]:
        raise Refused(f"{quote_path(path)} is not a text file; it has {size:,} bytes")
    number, given, skipped = 0, 0, 0
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
                raise Refused(f"line {first} is too far into {quote_path(path)}; use run_command")
            continue
        if given + len(line) > READ_BYTES:
            rest = f"[cut off before line {number}: the file has {size:,} bytes in all]\n"
            return (b"".join(parts) + rest.encode()).decode("utf-8", "replace")
        parts.append(line)
        given += len(line)
    if number < first and not (number == 0 and first == 1):
        raise Refused(f"{quote_path(path)} has {number} lines only")
    return b"".join(parts).decode("utf-8", "replace")


def _line(file: io.BufferedReader[io.RawIOBase]) -> tuple[bytes, int]:
    """The next line, at most ``LINE_BYTES`` of it, and how long it is; empty at the end."""
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


def _whole(workspace: Workspace, path: str) -> bytes:
    with workspace.open_file(path)[0] as file:
        data = io.BufferedReader(cast("io.RawIOBase", file)).read(EDIT_BYTES + 1)
    if len(data) > EDIT_BYTES:
        raise Refused(f"{quote_path(path)} is too large to be edited; use run_command")
    return data


def _replace(workspace: Workspace, path: str, data: bytes) -> None:
    with workspace.write(path) as writer:
        writer.write(data)


def _encoded(content: str) -> bytes:
    try:
        return content.encode()
    except UnicodeEncodeError:
        raise Refused("the text has a lone surrogate in it, which no file can hold") from None
