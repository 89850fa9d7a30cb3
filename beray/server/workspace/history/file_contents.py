"""Storage of the contents of files as blobs, while tasks may change the files."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Final, NamedTuple

from pyfastcdc import FastCDC

from beray.server.storage.shortage import is_shortage
from beray.server.workspace.history.blobs import BlobWriter
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.manifest import Chunk, encode_chunks
from beray.server.workspace.safe_open import change_mode, open_regular
from beray.transfers import file_modes

LARGE_FILE_BYTES: Final = 1024 * 1024
"""Size from which on a file is stored in chunks whose ends depend on its content."""
CHUNK_BYTES: Final = 1024 * 1024
"""Average size of a chunk."""
MAX_READS: Final = 3
"""Number of attempts to read a file that changes meanwhile."""
RACY_NS: Final = 10_000_000
"""Age of a change, in nanoseconds, below which another change may have the same time stamp."""

_REPLACED: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""Errors of ``open_regular`` for names that do not belong to a regular file."""

Signature = tuple[int, int, int, int, int]
"""Mode, size, times of modification and change in nanoseconds, and inode of a file."""


def signature(status: os.stat_result) -> Signature:
    """Return the signature of a file. An unchanged signature means an unchanged file."""
    return (
        status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino,
    )  # fmt: skip


class StoredFile(NamedTuple):
    """File whose content was stored.

    Attributes:
        entry: Its entry, without a digest if the content is not stored.
        signature: Signature of the file; None if it has to be read again next time.
        problem: Reason why the content is not stored, or may be inconsistent.
    """

    entry: Entry
    signature: Signature | None
    problem: str | None = None


class ScanCancelled(Exception):
    """A scan was cancelled."""


class FileReplaced(Exception):
    """A file was removed, or replaced by a link, a directory or a special file."""


class FileContents:
    """Reader of files that stores their contents.

    Args:
        writer: Writer of the blobs.
        file_limit: Size of the largest file whose content is stored, in bytes.
        is_cancelled: Returns True if the contents are no longer wanted.
    """

    def __init__(
        self,
        writer: BlobWriter,
        file_limit: int,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._writer = writer
        self._is_cancelled = is_cancelled
        self._file_limit = file_limit
        self._chunks = FastCDC(avg_size=CHUNK_BYTES)

    def store(self, directory: int, name: bytes, status: os.stat_result) -> StoredFile:
        """Store the content of a regular file.

        Args:
            directory: Descriptor of its directory.
            name: Name of the file.
            status: Status of the file.

        Raises:
            FileReplaced: The file was removed, or replaced by something else.
            OSError: The content cannot be stored.
            ScanCancelled: ``is_cancelled`` returned True.
        """
        self._check_cancelled()
        if status.st_size > self._file_limit:
            reason = f"it is larger than BERAY_HISTORY_FILE_BYTES ({self._file_limit:,} bytes)"
            return StoredFile(_unstored(status), signature(status), reason)
        for _ in range(MAX_READS):
            began = time.time_ns()
            try:
                file, status, changed_ns = _open(directory, name)
            except PermissionError:
                return StoredFile(_unstored(status), signature(status), "it cannot be read")
            with file:
                entry, problem = self._store_content(file.fileno(), status)
                after = os.fstat(file.fileno())
            if signature(after) == signature(status):
                is_racy = began - changed_ns < RACY_NS
                known = None if is_racy or not entry.digest else signature(status)
                return StoredFile(entry, known, problem)
        return StoredFile(entry, None, "it changed while it was read")

    def _check_cancelled(self) -> None:
        if self._is_cancelled():
            raise ScanCancelled

    def _store_content(self, file: int, status: os.stat_result) -> tuple[Entry, str | None]:
        """Store the content of an open file; return its entry, and why it is not stored."""
        writer = self._writer
        if status.st_size < LARGE_FILE_BYTES:
            content = _read_to_end(file, LARGE_FILE_BYTES)
            if len(content) < LARGE_FILE_BYTES:
                digest = hashlib.sha256(content).digest()
                if (problem := writer.add_within_limits(digest, content)) is not None:
                    return _unstored(status), problem
                return _stored(status, len(content), digest), None
            os.lseek(file, 0, os.SEEK_SET)
        if not writer.fits(status.st_size):
            missing = writer.missing_bytes(self._cut(file))
            if missing and (problem := writer.space_problem(missing)) is not None:
                return _unstored(status), problem
            os.lseek(file, 0, os.SEEK_SET)
        whole, size = hashlib.sha256(), 0
        chunks: list[Chunk] = []
        for digest, content in self._cut(file):
            size += len(content)
            whole.update(content)
            if (problem := writer.add_within_limits(digest, content)) is not None:
                return _unstored(status), problem
            chunks.append(Chunk(digest, len(content)))
        chunk_list = writer.add(encode_chunks(chunks))
        return _stored(status, size, whole.digest(), chunk_list), None

    def _cut(self, file: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the chunks of an open file with their digests."""
        for chunk in self._chunks.cut_stream(_Descriptor(file)):
            self._check_cancelled()
            content = bytes(chunk.data)
            yield hashlib.sha256(content).digest(), content


def _stored(status: os.stat_result, size: int, digest: bytes, chunks: bytes = b"") -> Entry:
    mode = status.st_mode & file_modes.BITS
    return Entry("file", mode, size, status.st_mtime_ns, digest=digest, reference=chunks)


def _unstored(status: os.stat_result) -> Entry:
    mode = status.st_mode & file_modes.BITS
    return Entry("file", mode, status.st_size, status.st_mtime_ns)


class _Descriptor:
    """File that ``FastCDC.cut_stream`` reads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def readinto(self, buffer: memoryview) -> int:
        """Read into a buffer; return the number of bytes, 0 at the end."""
        return os.readv(self._descriptor, [buffer])


def _read_to_end(file: int, limit: int) -> bytes:
    """Return the content of a file up to ``limit`` bytes."""
    parts: list[bytes] = []
    while limit > 0 and (part := os.read(file, limit)):
        parts.append(part)
        limit -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _open(directory: int, name: bytes) -> tuple[BinaryIO, os.stat_result, int]:
    """Open a regular file, if necessary with a permission for its owner that it does not have.

    The mode is data of the user, so it is changed only for a moment.

    Returns:
        The file, its status, and the time of its last change by others in nanoseconds.

    Raises:
        FileReplaced: The name belongs to something else, or to nothing.
        PermissionError: The file cannot be opened.
    """
    try:
        try:
            file, status = open_regular(directory, name)
        except PermissionError:
            before = os.stat(name, dir_fd=directory, follow_symlinks=False)
            with _permission_to_read(directory, name, before):
                file, _ = open_regular(directory, name)
            status = os.fstat(file.fileno())
            return file, status, max(before.st_mtime_ns, before.st_ctime_ns)
    except OSError as error:
        if error.errno in _REPLACED:
            raise FileReplaced from None
        raise
    return file, status, max(status.st_mtime_ns, status.st_ctime_ns)


@contextmanager
def _permission_to_read(directory: int, name: bytes, status: os.stat_result) -> Iterator[None]:
    """Give a file the permission that its owner needs to open it, during the block.

    Raises:
        PermissionError: This server is not the owner.
    """
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IRUSR or status.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, "not permitted by the mode")
    try:
        change_mode(directory, name, mode | stat.S_IRUSR)
    except OSError as error:
        if is_shortage(error) or error.errno in _REPLACED:
            raise
        raise PermissionError(errno.EACCES, "the mode cannot be changed") from None
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            change_mode(directory, name, mode)
