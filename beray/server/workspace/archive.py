"""A ZIP of files of a work_dir, made while it is sent.

There is no temporary file, and no file is whole in memory. An archive is complete or
its stream raises: what was listed and then cannot be read is never left out in silence.

Source: PKWARE APPNOTE 6.3.10; Info-ZIP's extra field 0x5455, a file's time in UTC.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
import zipfile
from collections.abc import Generator, Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from beray.server.files import http_ranges
from beray.server.files.file_response import Blocks
from beray.server.files.http_ranges import IncompleteFile
from beray.server.workspace.safe_open import (
    MAX_PATH_BYTES,
    InvalidPath,
    check_regular,
    open_directory,
    open_regular,
    parse_path,
    path_errors,
    quote_path,
)
from beray.server.workspace.tree import TreeEntry, walk
from beray.server.workspace.workspace import Workspace
from beray.transfers import wire_names

PathParts = tuple[bytes, ...]

_SEND_BYTES: Final = 64 * 1024
"""How much is gathered before it is sent."""
_FIRST_DATE: Final = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp())
_LAST_DATE: Final = int(datetime(2107, 12, 31, tzinfo=UTC).timestamp())
_MS_DOS_DIRECTORY: Final = 0x10


def select_paths(workspace: Workspace, paths: Iterable[str]) -> list[PathParts]:
    """Return what ``paths`` name, sorted, each thing once; of no paths, the whole work_dir.

    Raises:
        MissingPath, InvalidPath: for the first path that does not exist, is not one of the
            work_dir, or holds what cannot be put into an archive.
    """
    named: set[PathParts] = set()
    for path in paths:
        parts = parse_path(path)
        with path_errors(quote_path(path)), closing(_entries(workspace, parts)) as entries:
            next(entries, None)
        named.add(parts)
    chosen = sorted(
        parts for parts in named if not any(parts[:end] in named for end in range(len(parts)))
    )
    for parts in chosen or [()]:
        with closing(_entries(workspace, parts)) as entries:
            for entry in entries:
                _check_archivable(entry)
    return chosen or [()]


def stream_zip(workspace: Workspace, chosen: Iterable[PathParts]) -> Blocks:
    """Give the bytes of a ZIP of what ``select`` chose; folders with all that is in them.

    Raises:
        IncompleteFile: something vanished, shrank or became unreadable on the way.
    """
    buffer = _ZipBuffer()
    try:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
            for parts in chosen:
                with closing(_entries(workspace, parts, strict=True)) as entries:
                    for entry in entries:
                        yield from _add_entry(archive, buffer, entry)
    except OSError as error:
        raise IncompleteFile(f"a file could not be read into the archive: {error}") from error
    yield buffer.take()


class _ZipBuffer:
    """Where the archive is written: gathers bytes until they are taken. It cannot seek."""

    def __init__(self) -> None:
        self._gathered: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        self._gathered.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here for anything."""

    def take(self) -> bytes:
        data = b"".join(self._gathered)
        self._gathered.clear()
        self.size = 0
        return data


def _entries(
    workspace: Workspace, parts: PathParts, *, strict: bool = False
) -> Generator[TreeEntry, None, None]:
    """What is at ``parts``, and all that is below it. The work_dir itself is no entry."""
    if parts:
        folder = open_directory(workspace.descriptor, parts[:-1])
        try:
            status = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                check_regular(status)
            entry = TreeEntry(b"/".join(parts), folder, status)
            yield entry
        finally:
            os.close(folder)
        if not entry.is_directory:
            return
    yield from walk(workspace.descriptor, parts, strict=strict)


def _check_archivable(entry: TreeEntry) -> None:
    path = quote_path(wire_names.encode(entry.path))
    if len(entry.path) > MAX_PATH_BYTES:
        raise InvalidPath(f"{path} is too long a path for an archive")
    needed = os.R_OK | os.X_OK if entry.is_directory else os.R_OK
    readable = os.access(entry.name, needed, dir_fd=entry.folder, effective_ids=True)
    if not readable and _exists(entry):
        with path_errors(path):
            raise PermissionError(errno.EACCES, "not readable")


def _exists(entry: TreeEntry) -> bool:
    try:
        os.stat(entry.name, dir_fd=entry.folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _add_entry(archive: zipfile.ZipFile, buffer: _ZipBuffer, entry: TreeEntry) -> Blocks:
    if entry.is_directory:
        info = _zip_info(f"{wire_names.encode(entry.path)}/", entry.status)
        if info.filename not in archive.NameToInfo:
            archive.mkdir(info)
    else:
        file, status = open_regular(entry.folder, entry.name)
        with file, archive.open(_zip_info(wire_names.encode(entry.path), status), "w") as member:
            # What is appended meanwhile is left out, so the size is known from the start.
            for block in http_ranges.read_range(file, range(status.st_size)):
                member.write(block)
                if buffer.size >= _SEND_BYTES:
                    yield buffer.take()
    if buffer.size >= _SEND_BYTES:
        yield buffer.take()


def _zip_info(name: str, status: os.stat_result) -> zipfile.ZipInfo:
    seconds = status.st_mtime_ns // 1_000_000_000
    dated = time.gmtime(min(max(seconds, _FIRST_DATE), _LAST_DATE))
    info = zipfile.ZipInfo(name, dated[:6])
    info.create_system = 3  # Unix: what the modes mean
    info.external_attr = (stat.S_IFMT(status.st_mode) | status.st_mode & 0o777) << 16
    if info.is_dir():
        info.external_attr |= _MS_DOS_DIRECTORY
        info.CRC = 0
    else:
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = status.st_size  # zipfile takes ZIP64 where this asks for it
    if -(2**31) <= seconds < 2**31:
        info.extra = struct.pack("<HHBi", 0x5455, 5, 1, seconds)
    return info
