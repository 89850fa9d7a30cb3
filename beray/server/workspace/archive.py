"""ZIP archives of files in a work_dir, produced while they are sent.

There is no temporary file, and no file is completely in memory. The stream of an archive is
complete or raises: a listed file that cannot be read is never omitted silently.

Source: PKWARE APPNOTE 6.3.10; Info-ZIP's extra field 0x5455 (time of a file in UTC).
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
"""Size of the chunks of the stream."""
_FIRST_DATE: Final = int(datetime(1980, 1, 1, tzinfo=UTC).timestamp())
_LAST_DATE: Final = int(datetime(2107, 12, 31, tzinfo=UTC).timestamp())
_MS_DOS_DIRECTORY: Final = 0x10


def select_paths(workspace: Workspace, paths: Iterable[str]) -> list[PathParts]:
    """Return the selected paths without duplicates, sorted; without ``paths``, the work_dir.

    Raises:
        MissingPath: A path does not exist.
        InvalidPath: A path is outside the work_dir, or contains a file that cannot be read or
            whose path is too long for an archive.
    """
    selected: set[PathParts] = set()
    for path in paths:
        parts = parse_path(path)
        with path_errors(quote_path(path)), closing(_entries(workspace, parts)) as entries:
            next(entries, None)
        selected.add(parts)
    chosen = sorted(
        parts for parts in selected if not any(parts[:end] in selected for end in range(len(parts)))
    )
    for parts in chosen or [()]:
        with closing(_entries(workspace, parts)) as entries:
            for entry in entries:
                _check_archivable(entry)
    return chosen or [()]


def stream_zip(workspace: Workspace, chosen: Iterable[PathParts]) -> Blocks:
    """Yield a ZIP archive of the paths from ``select_paths``, including directory contents.

    Raises:
        IncompleteFile: A file disappeared, shrank or became unreadable meanwhile.
    """
    archive = ZipStream()
    yield from archive.add_files(workspace, chosen)
    yield archive.close()


class ZipStream:
    """ZIP archive whose bytes are taken while members are added."""

    def __init__(self) -> None:
        self._buffer = _ZipBuffer()
        self._archive = zipfile.ZipFile(  # type: ignore[call-overload]
            self._buffer, "w", zipfile.ZIP_DEFLATED
        )

    def add_files(
        self, workspace: Workspace, chosen: Iterable[PathParts], prefix: str = ""
    ) -> Blocks:
        """Add the paths from ``select_paths``, including directory contents.

        Args:
            workspace: The work_dir.
            chosen: Paths in it.
            prefix: Start of the names of the members.

        Raises:
            IncompleteFile: A file disappeared, shrank or became unreadable meanwhile.
        """
        try:
            for parts in chosen:
                with closing(_entries(workspace, parts, strict=True)) as entries:
                    for entry in entries:
                        yield from _add_entry(self._archive, self._buffer, entry, prefix)
        except OSError as error:
            raise IncompleteFile(f"a file could not be read into the archive: {error}") from error

    def add_directory(self, name: str, mode: int, mtime_ns: int) -> None:
        """Add a directory with its permission bits; its content is added separately."""
        _add_directory(self._archive, name, stat.S_IFDIR | mode, mtime_ns)

    def add_file(
        self, name: str, content: Iterable[bytes], *, size: int, mode: int, mtime_ns: int
    ) -> Blocks:
        """Add a file with its content of ``size`` bytes and its permission bits."""
        info = _zip_info(name, stat.S_IFREG | mode, mtime_ns, size)
        yield from _add_file(self._archive, self._buffer, info, content)
        if self._buffer.size >= _SEND_BYTES:
            yield self._buffer.take()

    def add_content(self, name: str, content: Iterable[bytes]) -> Blocks:
        """Add a member whose size is not known in advance."""
        info = zipfile.ZipInfo(name, time.gmtime()[:6])
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = 3  # Unix: defines the meaning of the modes
        info.external_attr = (stat.S_IFREG | 0o600) << 16
        with self._archive.open(info, "w", force_zip64=True) as member:
            for block in content:
                member.write(block)
                if self._buffer.size >= _SEND_BYTES:
                    yield self._buffer.take()

    def close(self) -> bytes:
        """Return the rest of the archive."""
        self._archive.close()
        return self._buffer.take()


class _ZipBuffer:
    """File object without seek that collects the bytes of the archive until ``take``."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        """Append ``data``."""
        self._chunks.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing; ``zipfile`` requires this method."""

    def take(self) -> bytes:
        """Return and remove the collected bytes."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self.size = 0
        return data


def _entries(
    workspace: Workspace, parts: PathParts, *, strict: bool = False
) -> Generator[TreeEntry, None, None]:
    """Yield the entry at ``parts`` and all below it. The work_dir itself is not an entry."""
    if parts:
        directory = open_directory(workspace.descriptor, parts[:-1])
        try:
            status = os.stat(parts[-1], dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                check_regular(status)
            entry = TreeEntry(b"/".join(parts), directory, status)
            yield entry
        finally:
            os.close(directory)
        if not entry.is_directory:
            return
    yield from walk(workspace.descriptor, parts, strict=strict)


def _check_archivable(entry: TreeEntry) -> None:
    path = quote_path(wire_names.encode(entry.path))
    if len(entry.path) > MAX_PATH_BYTES:
        raise InvalidPath(f"{path} is too long for an archive; the limit is {MAX_PATH_BYTES} bytes")
    needed = os.R_OK | os.X_OK if entry.is_directory else os.R_OK
    readable = os.access(entry.name, needed, dir_fd=entry.directory, effective_ids=True)
    if not readable and _exists(entry):
        with path_errors(path):
            raise PermissionError(errno.EACCES, "not readable")


def _exists(entry: TreeEntry) -> bool:
    try:
        os.stat(entry.name, dir_fd=entry.directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _add_entry(
    archive: zipfile.ZipFile, buffer: _ZipBuffer, entry: TreeEntry, prefix: str
) -> Blocks:
    name = prefix + wire_names.encode(entry.path)
    if entry.is_directory:
        _add_directory(archive, name, entry.status.st_mode, entry.status.st_mtime_ns)
    else:
        file, status = open_regular(entry.directory, entry.name)
        with file:
            info = _zip_info(name, status.st_mode, status.st_mtime_ns, status.st_size)
            # Data that is appended meanwhile is omitted, so the size is known from the start.
            content = http_ranges.read_range(file, range(status.st_size))
            yield from _add_file(archive, buffer, info, content)
    if buffer.size >= _SEND_BYTES:
        yield buffer.take()


def _add_directory(archive: zipfile.ZipFile, name: str, mode: int, mtime_ns: int) -> None:
    info = _zip_info(f"{name}/", mode, mtime_ns)
    if info.filename not in archive.NameToInfo:
        archive.mkdir(info)


def _add_file(
    archive: zipfile.ZipFile, buffer: _ZipBuffer, info: zipfile.ZipInfo, content: Iterable[bytes]
) -> Blocks:
    with archive.open(info, "w") as member:
        for block in content:
            member.write(block)
            if buffer.size >= _SEND_BYTES:
                yield buffer.take()


def _zip_info(name: str, mode: int, mtime_ns: int, size: int = 0) -> zipfile.ZipInfo:
    """Return the header of a member.

    Args:
        name: Name; that of a directory ends with ``/``.
        mode: Type and permission bits.
        mtime_ns: Time of the last modification, in nanoseconds since 1970.
        size: Bytes of a file.
    """
    seconds = mtime_ns // 1_000_000_000
    dated = time.gmtime(min(max(seconds, _FIRST_DATE), _LAST_DATE))
    info = zipfile.ZipInfo(name, dated[:6])
    info.create_system = 3  # Unix: defines the meaning of the modes
    info.external_attr = (stat.S_IFMT(mode) | mode & 0o777) << 16
    if info.is_dir():
        info.external_attr |= _MS_DOS_DIRECTORY
        info.CRC = 0
    else:
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = size  # zipfile uses ZIP64 if the size requires it
    if -(2**31) <= seconds < 2**31:
        info.extra = struct.pack("<HHBi", 0x5455, 5, 1, seconds)
    return info
