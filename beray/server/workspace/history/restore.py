"""Change of a work_dir to the state of a checkpoint.

New contents are written to a staging directory first. A full disk, a damaged content or an exceeded
quota therefore changes nothing. The changes of the work_dir itself need no space worth mentioning,
and can be repeated: a restore that a crash interrupts is planned and applied again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from beray.server.workspace import tree
from beray.server.workspace.atomic_file import rename_into, with_owner_access
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.disk_usage import BLOCK_BYTES, DiskUsage
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.local_copies import LocalCopies
from beray.server.workspace.history.reader import Change, CheckpointReader
from beray.server.workspace.ownership import inherit_owner
from beray.server.workspace.safe_open import open_directory
from beray.transfers import wire_names

Parts = tuple[bytes, ...]
CANCEL_CHECK_FILES: Final = 100
"""Number of staged files after which a cancellation is noticed."""


class ContentNotStored(Exception):
    """A file cannot be restored, because its content is not in the checkpoint.

    Attributes:
        path: Path of the file, relative to the work_dir.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class RestoreCancelled(Exception):
    """A restore was cancelled before it changed the work_dir."""


def select(changes: Iterable[Change], paths: Sequence[Parts]) -> list[Change]:
    """Return the changes that restore some paths: those at, below and, if new, above them.

    Args:
        changes: Changes from the current state to that of the checkpoint.
        paths: Paths to restore; empty for all.
    """
    if not paths:
        return list(changes)
    selected = []
    for change in changes:
        parts = tuple(change.path.split(b"/"))
        is_inside = any(parts[: len(path)] == path for path in paths)
        # A directory in which a selected path is created has to exist.
        leads_to = any(path[: len(parts)] == parts for path in paths)
        if is_inside or (leads_to and change.new is not None and change.new.kind == "directory"):
            selected.append(change)
    return selected


class Restorer:
    """Applies changes to one work_dir.

    Args:
        work_dir: Descriptor of the work_dir.
        staging: Directory for new contents, on the same file system. It must not exist.
        reader: Reader of the contents.
        quota: Quota of the work_dir; None for no quota.
        copies: Files of another work_dir that have some of the contents.
        is_cancelled: Returns True if the restore is no longer wanted; called before changes.
    """

    def __init__(
        self,
        work_dir: int,
        staging: Path,
        reader: CheckpointReader,
        *,
        quota: DiskQuota | None = None,
        copies: LocalCopies | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work_dir = work_dir
        self._staging = staging
        self._reader = reader
        self._quota = quota
        self._copies = copies
        self._is_cancelled = is_cancelled
        self._staged: dict[bytes, Path] = {}

    @contextmanager
    def staged(self, changes: Sequence[Change]) -> Iterator[None]:
        """Write the new contents, and remove those that were not applied at the end of the block.

        Raises:
            ContentNotStored: The content of a file is not in the checkpoint.
            DamagedContent: A content is damaged; ``reason`` names the file.
            RestoreCancelled: ``is_cancelled`` returned True.
            InsufficientSpace: The contents do not fit into the quota.
            OSError: The contents cannot be written.
        """
        for change in changes:
            if _needs_content(change) and change.new is not None and not change.new.is_stored:
                raise ContentNotStored(wire_names.encode(change.path))
        with self._reserved(changes):
            tree.make_empty(self._staging)
            try:
                for number, change in enumerate(filter(_needs_content, changes)):
                    if number % CANCEL_CHECK_FILES == 0 and self._is_cancelled():
                        raise RestoreCancelled
                    self._stage(number, change)
                yield
            finally:
                with suppress(FileNotFoundError):
                    tree.remove(self._staging)

    @contextmanager
    def _reserved(self, changes: Sequence[Change]) -> Iterator[None]:
        if self._quota is None:
            yield
            return
        sizes = [-(-(change.new.size if change.new else 0) // BLOCK_BYTES) for change in changes]
        added = DiskUsage(BLOCK_BYTES * sum(sizes), sum(change.old is None for change in changes))
        replaced = sum(change.old.size for change in changes if change.old is not None)
        self._quota.reserve(added, replaced)
        try:
            yield
        finally:
            self._quota.release(added, DiskUsage())
            self._quota.forget()

    def _stage(self, number: int, change: Change) -> None:
        entry = change.new
        assert entry is not None
        path = self._staging / str(number)
        try:
            with path.open("xb") as file:
                self._write(file.fileno(), change.path, entry)
                inherit_owner(file.fileno(), self._work_dir)
                os.fchmod(file.fileno(), entry.mode)
                os.utime(file.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
        except DamagedContent as error:
            name = wire_names.encode(change.path)
            raise DamagedContent(f"{name!r} cannot be restored: {error.reason}") from None
        self._staged[change.path] = path

    def _write(self, file: int, path: bytes, entry: Entry) -> None:
        """Write the content of an entry to an empty file."""
        if self._copies is not None and self._copies.copy(path, entry, file):
            return
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        for piece in self._reader.content(entry):
            _write_sparse(file, piece)
        os.ftruncate(file, entry.size)

    def apply(self, changes: Sequence[Change]) -> None:
        """Apply changes whose contents are staged.

        Raises:
            OSError: A change cannot be applied; earlier changes were.
        """
        for change in reversed(changes):
            if change.old is not None and (change.new is None or _is_replaced(change)):
                self._remove(change)
        for change in changes:
            if change.new is not None and change.new.kind != "special":
                self._create(change, change.new)
        for change in reversed(changes):
            if change.new is not None and change.new.kind == "directory":
                with self._parent(change.path) as (directory, name):
                    _set_mode(directory, name, change.new.mode)

    def _remove(self, change: Change) -> None:
        is_directory = change.old is not None and change.old.kind == "directory"
        remove = os.rmdir if is_directory else os.unlink
        with (
            suppress(FileNotFoundError, NotADirectoryError),
            self._parent(change.path) as (directory, name),
        ):
            try:
                with_owner_access(directory, partial(remove, name, dir_fd=directory))
            except OSError as error:
                # Content that was added meanwhile, and that no checkpoint has, is kept.
                if error.errno != errno.ENOTEMPTY or change.new is not None:
                    raise

    def _create(self, change: Change, entry: Entry) -> None:
        with self._parent(change.path) as (directory, name):
            match entry.kind:
                case "directory":
                    self._make_directory(directory, name)
                case "link":
                    self._make_link(directory, name, entry)
                case "file" if (staged := self._staged.pop(change.path, None)) is not None:
                    _remove_other_kind(directory, name)
                    rename_into(directory, staged, name)
                case "file":
                    _set_mode(directory, name, entry.mode)
                    os.utime(
                        name,
                        ns=(entry.mtime_ns, entry.mtime_ns),
                        dir_fd=directory,
                        follow_symlinks=False,
                    )

    def _make_directory(self, directory: int, name: bytes) -> None:
        _remove_other_kind(directory, name, stat.S_IFDIR)
        with suppress(FileExistsError):
            with_owner_access(directory, partial(os.mkdir, name, 0o700, dir_fd=directory))
        made = open_directory(directory, (name,))
        try:
            inherit_owner(made, self._work_dir)
            # The owner must be able to fill it; the final mode is set last.
            os.fchmod(made, stat.S_IMODE(os.fstat(made).st_mode) | stat.S_IRWXU)
        finally:
            os.close(made)

    def _make_link(self, directory: int, name: bytes, entry: Entry) -> None:
        with suppress(FileNotFoundError):
            with_owner_access(directory, partial(os.unlink, name, dir_fd=directory))
        with_owner_access(directory, partial(os.symlink, entry.target, name, dir_fd=directory))
        owner = os.fstat(self._work_dir)
        if owner.st_uid != os.geteuid():
            os.chown(name, owner.st_uid, owner.st_gid, dir_fd=directory, follow_symlinks=False)

    @contextmanager
    def _parent(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        *parents, name = path.split(b"/")
        directory = open_directory(self._work_dir, parents)
        try:
            yield directory, name
        finally:
            os.close(directory)


def _needs_content(change: Change) -> bool:
    old, new = change.old, change.new
    if new is None or new.kind != "file":
        return False
    return old is None or old.kind != "file" or not old.digest or old.digest != new.digest


def _is_replaced(change: Change) -> bool:
    """Return True if the old entry has to be removed before the new one is created."""
    assert change.old is not None
    assert change.new is not None
    kinds = (change.old.kind, change.new.kind)
    return kinds[0] != kinds[1] and "directory" in kinds


def _remove_other_kind(directory: int, name: bytes, kind: int = stat.S_IFREG) -> None:
    """Remove what has a name if it is neither missing nor of a kind; directories must be empty."""
    try:
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_IFMT(mode) == kind:
        return
    remove = os.rmdir if stat.S_ISDIR(mode) else os.unlink
    with_owner_access(directory, partial(remove, name, dir_fd=directory))


def _set_mode(directory: int, name: bytes, mode: int) -> None:
    try:
        os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        # Before Linux 6.6 and glibc 2.39, this combination is not supported.
        if error.errno not in (errno.ENOTSUP, errno.EOPNOTSUPP):
            raise
        os.chmod(name, mode, dir_fd=directory)


def _write_sparse(file: int, piece: bytes) -> None:
    """Append to a file. Large pieces of zeros become a hole."""
    if len(piece) >= BLOCK_BYTES and not any(piece[:64]) and not piece.strip(b"\0"):
        os.lseek(file, len(piece), os.SEEK_CUR)
        return
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]
