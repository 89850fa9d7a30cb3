"""A file on its way into a work_dir: it is there whole, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from beray import wire_names
from beray.server import beneath
from beray.server.beneath import open_folder, refusals, shown
from beray.server.quota import Reservation
from beray.server.sandbox.ownership import inherit_owner

if TYPE_CHECKING:
    from beray.server.workspace import Workspace


class Writer:
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
        asked: str,
        parents: list[bytes],
        name: bytes,
        staged: Path,
        reservation: Reservation | None,
    ) -> None:
        self.path = wire_names.encode(b"/".join([*parents, name]))
        self.size = 0
        self._workspace = workspace
        self._asked = asked
        self._parents = parents
        self._name = name
        self._staged = staged
        self._reservation = reservation
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
            NoSpace: it does not fit into the quota of the work_dir.
        """
        self.require_space(self.size + len(data))
        self._file.write(data)
        self.size += len(data)

    def require_space(self, size: int) -> None:
        """Reserve space for ``size`` bytes altogether, before they are there.

        Raises:
            NoSpace: they do not fit into the quota of the work_dir.
        """
        if self._reservation is not None:
            self._reservation.grow_to(size)

    def commit(self) -> None:
        """Put the file into place, flushed to disk; on failure nothing is left.

        Raises:
            InvalidPath, MissingPath: the place cannot be taken any more.
            OSError: the disk refuses.
        """
        try:
            self._file.flush()
            inherit_owner(self._file.fileno(), self._workspace.descriptor)
            os.fsync(self._file.fileno())
            self._file.close()
            with refusals(shown(self._asked)), self._made_parent() as folder:
                require_free(folder, self._name)
                os.rename(self._staged, self._name, dst_dir_fd=folder)
                if self._reservation is not None:
                    self._reservation.close(written=True)
                _flush_folder(folder)
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

    @contextmanager
    def _made_parent(self) -> Iterator[int]:
        """The folder that the file belongs in, made where missing; unmade on failure."""
        made: list[int] = []
        folder = open_folder(self._workspace.descriptor, ())
        try:
            for depth, part in enumerate(self._parents):
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                    made.append(depth)
                deeper = open_folder(folder, (part,))
                os.close(folder)
                folder = deeper
                if depth in made:
                    inherit_owner(folder, self._workspace.descriptor)
            yield folder
        except BaseException:
            for depth in reversed(made):
                self._unmake(depth)
            raise
        finally:
            os.close(folder)

    def _unmake(self, depth: int) -> None:
        # It stays where somebody has put something into it, or moved it.
        with suppress(OSError):
            folder = open_folder(self._workspace.descriptor, self._parents[:depth])
            try:
                os.rmdir(self._parents[depth], dir_fd=folder)
            finally:
                os.close(folder)


def require_free(folder: int, name: bytes) -> int | None:
    """Return the bytes on disk that replacing the file ``name`` frees; ``None``: there is none.

    Raises:
        OSError: something other than a regular file has the name.
    """
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    beneath.require_regular(status)
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _flush_folder(folder: int) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems cannot flush a folder; their renames are on disk at once.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
