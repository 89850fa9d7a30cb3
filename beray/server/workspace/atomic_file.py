"""Atomic writing of files into a work_dir."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from beray.server.workspace import safe_open
from beray.server.workspace.disk_quota import Reservation
from beray.server.workspace.ownership import inherit_owner
from beray.server.workspace.safe_open import open_directory, path_errors, quote_path
from beray.transfers import file_modes, wire_names

_OWNER_ACCESS: Final = stat.S_IWUSR | stat.S_IXUSR
_mode_change_lock: Final = threading.Lock()


class OpenDirectory(Protocol):
    """Directory that is open as a descriptor."""

    @property
    def descriptor(self) -> int:
        """Descriptor of the directory."""


class AtomicFileWriter:
    """Writer of a file that is staged outside the work_dir and renamed into place.

    The file and the directories that are created for it belong to the owner of the work_dir. If
    the server is killed before it has set the owner of a directory, the staged file remains and
    marks the work_dir for repair (see ``Workspaces``).

    Use it as a context manager, or call ``commit`` or ``discard``.

    Attributes:
        path: Path of the file, relative to the work_dir.
        size: Bytes written so far.
    """

    def __init__(
        self,
        work_dir: OpenDirectory,
        requested_path: str,
        parents: list[bytes],
        name: bytes,
        staged: Path,
        reservation: Reservation | None,
        mode: int | None,
    ) -> None:
        self.path = wire_names.encode(b"/".join([*parents, name]))
        self.size = 0
        self._work_dir = work_dir
        self._requested_path = requested_path
        self._parents = parents
        self._name = name
        self._staged = staged
        self._reservation = reservation
        self._mode = mode
        self._file = staged.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.commit()
        else:
            self.discard()

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``.

        Raises:
            InsufficientSpace: The data exceeds the quota of the work_dir.
        """
        self.reserve(self.size + len(data))
        self._file.write(data)
        self.size += len(data)

    def reserve(self, size: int) -> None:
        """Reserve space for a file of ``size`` bytes before it is written.

        Raises:
            InsufficientSpace: The file exceeds the quota of the work_dir.
        """
        if self._reservation is not None:
            self._reservation.grow_to(size)

    def commit(self) -> None:
        """Flush the file to disk and move it into place; on failure, remove everything.

        Without an explicit mode, the file keeps the mode of the file that it replaces.

        Raises:
            InvalidPath: The path is no longer a valid path of a file.
            MissingPath: The work_dir was removed.
            OSError: The file cannot be written or renamed.
        """
        try:
            self._file.flush()
            work_dir = self._work_dir.descriptor
            with (
                path_errors(quote_path(self._requested_path)),
                created_directories(work_dir, self._parents) as directory,
            ):
                replaced = stat_replaceable(directory, self._name)
                os.fchmod(self._file.fileno(), self._final_mode(replaced))
                inherit_owner(self._file.fileno(), work_dir)
                os.fsync(self._file.fileno())
                self._file.close()
                rename_into(directory, self._staged, self._name)
                if self._reservation is not None:
                    self._reservation.close(written=True)
                fsync_directory(directory)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the staged file. Idempotent, and without effect after ``commit``."""
        if self._reservation is not None:
            self._reservation.close(written=False)
        # A full disk can make close fail; the file is closed nevertheless and not needed.
        with suppress(OSError):
            self._file.close()
        self._staged.unlink(missing_ok=True)

    def _final_mode(self, replaced: os.stat_result | None) -> int:
        if self._mode is not None:
            return self._mode & file_modes.BITS
        return file_modes.NEW_FILE if replaced is None else replaced.st_mode & file_modes.BITS


@contextmanager
def created_directories(work_dir: int, parts: Sequence[bytes]) -> Iterator[int]:
    """Open the directory at ``parts``, creating missing ones; remove these on failure.

    Args:
        work_dir: Descriptor of the work_dir, whose owner the directories get.
        parts: Parts of the path below the work_dir.
    """
    created: list[int] = []
    directory = open_directory(work_dir, ())
    try:
        for depth, part in enumerate(parts):
            with suppress(FileExistsError):
                with_owner_access(directory, partial(os.mkdir, part, dir_fd=directory))
                created.append(depth)
            deeper = open_directory(directory, (part,))
            os.close(directory)
            directory = deeper
            if depth in created:
                os.fchmod(directory, file_modes.NEW_DIRECTORY)
                inherit_owner(directory, work_dir)
        yield directory
    except BaseException:
        for depth in reversed(created):
            _remove_created(work_dir, parts[: depth + 1])
        raise
    finally:
        os.close(directory)


def rename_into(directory: int, staged: Path, name: bytes) -> None:
    """Rename ``staged`` to ``name`` in a directory, whatever the mode of the directory is.

    Raises:
        OSError: The file cannot be renamed.
    """
    with_owner_access(directory, partial(os.rename, staged, name, dst_dir_fd=directory))


def with_owner_access(directory: int, change: Callable[[], None]) -> None:
    """Change the entries of a directory, also if its mode denies its owner write access.

    The mode is then changed for a moment. Modes are data of the user: uploading files into a
    read-only directory again must work. A server that is root has this permission anyway.
    """
    try:
        change()
    except PermissionError:
        if os.fstat(directory).st_uid != os.geteuid():
            raise
        with _mode_change_lock:
            mode = stat.S_IMODE(os.fstat(directory).st_mode)
            os.fchmod(directory, mode | _OWNER_ACCESS)
            try:
                change()
            finally:
                os.fchmod(directory, mode)


def _remove_created(work_dir: int, parts: Sequence[bytes]) -> None:
    # The directory is kept if it has content by now, or was moved.
    with suppress(OSError):
        directory = open_directory(work_dir, parts[:-1])
        try:
            os.rmdir(parts[-1], dir_fd=directory)
        finally:
            os.close(directory)


def stat_replaceable(directory: int, name: bytes) -> os.stat_result | None:
    """Return the status of the regular file ``name`` in a directory, or None if missing.

    Raises:
        OSError: The name belongs to something other than a regular file.
    """
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    safe_open.check_regular(status)
    return status


def freed_bytes(replaced: os.stat_result) -> int:
    """Return the bytes on disk that replacing a file frees."""
    return replaced.st_blocks * 512 if replaced.st_nlink == 1 else 0


def fsync_directory(directory: int) -> None:
    """Flush the entries of a directory to disk, if its file system supports that."""
    try:
        os.fsync(directory)
    except OSError as error:
        # Some network file systems cannot flush directories; their renames are synchronous.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
