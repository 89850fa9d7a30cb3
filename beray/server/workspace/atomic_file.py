"""A file on its way into a work_dir: it is there whole, or not at all."""

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
from typing import TYPE_CHECKING, Final, Self

from beray.server.sandbox.ownership import inherit_owner
from beray.server.workspace import safe_open
from beray.server.workspace.disk_quota import Reservation
from beray.server.workspace.safe_open import open_directory, path_errors, quote_path
from beray.transfers import file_modes, wire_names

if TYPE_CHECKING:
    from beray.server.workspace.workspace import Workspace

_OWNER_ACCESS: Final = stat.S_IWUSR | stat.S_IXUSR
_mode_change_lock: Final = threading.Lock()


class AtomicFileWriter:
    """A file on its way into a work_dir: staged outside, renamed into place at the end.

    It and the folders that are made for it belong to the owner of the work_dir. If the server is
    killed before a folder does, the staged file is left and says so (see ``Workspaces``).

    Use it as a context manager, or call ``commit`` or ``discard``.

    Attributes:
        path: where the file will be, relative to the work_dir.
        size: bytes written so far.
    """

    def __init__(
        self,
        workspace: Workspace,
        requested_path: str,
        parents: list[bytes],
        name: bytes,
        staged: Path,
        reservation: Reservation | None,
        mode: int | None,
    ) -> None:
        self.path = wire_names.encode(b"/".join([*parents, name]))
        self.size = 0
        self._workspace = workspace
        self._requested_path = requested_path
        self._parents = parents
        self._name = name
        self._staged = staged
        self._reservation = reservation
        self._mode = mode
        self._file = open(staged, "xb")  # noqa: SIM115 - closed by commit and discard

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
            InsufficientSpace: it does not fit into the quota of the work_dir.
        """
        self.reserve(self.size + len(data))
        self._file.write(data)
        self.size += len(data)

    def reserve(self, size: int) -> None:
        """Reserve space for ``size`` bytes altogether, before they are there.

        Raises:
            InsufficientSpace: they do not fit into the quota of the work_dir.
        """
        if self._reservation is not None:
            self._reservation.grow_to(size)

    def commit(self) -> None:
        """Put the file into place, flushed to disk; on failure nothing is left.

        Unless a mode was given, it has the mode of the file that it replaces.

        Raises:
            InvalidPath, MissingPath: the place cannot be taken any more.
            OSError: the disk refuses.
        """
        try:
            self._file.flush()
            work_dir = self._workspace.descriptor
            with (
                path_errors(quote_path(self._requested_path)),
                created_directories(work_dir, self._parents) as folder,
            ):
                replaced = stat_replaceable(folder, self._name)
                os.fchmod(self._file.fileno(), self._final_mode(replaced))
                inherit_owner(self._file.fileno(), work_dir)
                os.fsync(self._file.fileno())
                self._file.close()
                rename_into(folder, self._staged, self._name)
                if self._reservation is not None:
                    self._reservation.close(written=True)
                fsync_directory(folder)
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave nothing behind. Idempotent, and harmless after ``commit``."""
        if self._reservation is not None:
            self._reservation.close(written=False)
        # What a full disk does not take is not wanted any more; the file closes all the same.
        with suppress(OSError):
            self._file.close()
        self._staged.unlink(missing_ok=True)

    def _final_mode(self, replaced: os.stat_result | None) -> int:
        if self._mode is not None:
            return self._mode & file_modes.BITS
        return file_modes.NEW_FILE if replaced is None else replaced.st_mode & file_modes.BITS


@contextmanager
def created_directories(work_dir: int, parts: Sequence[bytes]) -> Iterator[int]:
    """Open the folder at ``parts``, made where missing; what was made is unmade on failure.

    Args:
        work_dir: descriptor of the work_dir, whose owner the folders get.
    """
    made: list[int] = []
    folder = open_directory(work_dir, ())
    try:
        for depth, part in enumerate(parts):
            with suppress(FileExistsError):
                _with_owner_access(folder, partial(os.mkdir, part, dir_fd=folder))
                made.append(depth)
            deeper = open_directory(folder, (part,))
            os.close(folder)
            folder = deeper
            if depth in made:
                os.fchmod(folder, file_modes.NEW_DIRECTORY)
                inherit_owner(folder, work_dir)
        yield folder
    except BaseException:
        for depth in reversed(made):
            _remove_created(work_dir, parts[: depth + 1])
        raise
    finally:
        os.close(folder)


def rename_into(folder: int, staged: Path, name: bytes) -> None:
    """Rename what is at ``staged`` to ``name`` in ``folder``, whatever the mode of the folder is.

    Raises:
        OSError: it cannot be renamed.
    """
    _with_owner_access(folder, partial(os.rename, staged, name, dst_dir_fd=folder))


def _with_owner_access(folder: int, change: Callable[[], None]) -> None:
    """Change the entries of a folder; if its mode forbids that to its owner, for a moment not.

    Modes are data of the user, and an upload of a read-only folder can be repeated. A server that
    is root has this permission anyway.
    """
    try:
        change()
    except PermissionError:
        if os.fstat(folder).st_uid != os.geteuid():
            raise
        with _mode_change_lock:
            mode = stat.S_IMODE(os.fstat(folder).st_mode)
            os.fchmod(folder, mode | _OWNER_ACCESS)
            try:
                change()
            finally:
                os.fchmod(folder, mode)


def _remove_created(work_dir: int, parts: Sequence[bytes]) -> None:
    # It stays where somebody has put something into it, or moved it.
    with suppress(OSError):
        folder = open_directory(work_dir, parts[:-1])
        try:
            os.rmdir(parts[-1], dir_fd=folder)
        finally:
            os.close(folder)


def stat_replaceable(folder: int, name: bytes) -> os.stat_result | None:
    """Return the status of the regular file ``name`` in ``folder``; ``None`` if there is none.

    Raises:
        OSError: something other than a regular file has the name.
    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    safe_open.check_regular(status)
    return status


def freed_bytes(replaced: os.stat_result) -> int:
    """Return the bytes on disk that replacing a file frees."""
    return replaced.st_blocks * 512 if replaced.st_nlink == 1 else 0


def fsync_directory(folder: int) -> None:
    """Flush the entries of a folder to disk, where its file system can."""
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems cannot flush a folder; their renames are on disk at once.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
