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

from beray.server.storage.disk_reserve import allocate_space
from beray.server.workspace import tree
from beray.server.workspace.atomic_file import freed_bytes, rename_into, with_owner_access
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.disk_usage import BLOCK_BYTES, DiskUsage
from beray.server.workspace.history.contents import is_unchanged
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.local_copies import LocalCopies
from beray.server.workspace.history.owner_access import CHANGES, OwnerAccess
from beray.server.workspace.history.path_selection import PathSelection
from beray.server.workspace.history.reader import Change, CheckpointReader
from beray.server.workspace.ownership import inherit_owner
from beray.server.workspace.safe_open import change_mode, open_directory
from beray.transfers import wire_names

Parts = tuple[bytes, ...]
CANCEL_CHECK_FILES: Final = 100
CANCEL_CHECK_BYTES: Final = 32 * 1024 * 1024
"""Number of staged files, and of their bytes, after which a cancellation is noticed."""
PREFETCHED_FILES: Final = 500
"""Number of small files whose contents are read together."""
RECORD_BYTES: Final = 1024 * 1024
RECORD_BYTES_PER_DIRECTORY: Final = 64 * 1024
MAX_RECORD_BYTES: Final = 64 * 1024 * 1024
"""Disk space that is kept free for the checkpoint after a restore. A restore of paths makes new
manifests of their directories; those of a complete restore are stored already."""


class ContentNotStored(Exception):
    """A restore needs a content that is not stored.

    Attributes:
        path: Path of the file, relative to the work_dir.
        is_current: True if it is the current content, so that the restore could not be undone.
    """

    def __init__(self, path: str, *, is_current: bool = False) -> None:
        super().__init__(path)
        self.path = path
        self.is_current = is_current


class ChangeFailed(OSError):
    """A path cannot be changed.

    Attributes:
        path: The path, relative to the work_dir.
    """

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.path = path


class RestoreCancelled(Exception):
    """A restore was cancelled before it changed the work_dir."""


def select(changes: Iterable[Change], selection: PathSelection) -> list[Change]:
    """Return the changes that restore a selection.

    Directories above a selected path are changed only if they have to be created.

    Args:
        changes: Changes from the current state to that of the checkpoint.
        selection: Paths to restore.
    """
    return [
        change
        for change in changes
        if (relation := selection.relation(change.path)) == "inside"
        or (relation == "above" and _makes_directory(change))
    ]


def require_undoable(changes: Iterable[Change]) -> None:
    """Check that changes remove no content that is not stored.

    Raises:
        ContentNotStored: They do.
    """
    for change in changes:
        old = change.old
        if old is not None and not old.is_stored and _replaces_content(change):
            raise ContentNotStored(wire_names.encode(change.path), is_current=True)


class Restorer:
    """Applies changes to one work_dir.

    Args:
        work_dir: Descriptor of the work_dir.
        staging: Directory for new contents, on the same file system. It must not exist.
        reader: Reader of the contents.
        quota: Quota of the work_dir; None for no quota.
        copies: Files of another work_dir that have some of the contents.
        is_partial: True if only some paths are restored.
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
        is_partial: bool = False,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work_dir = work_dir
        self._staging = staging
        self._reader = reader
        self._quota = quota
        self._copies = copies
        self._is_partial = is_partial
        self._is_cancelled = is_cancelled
        self._staged: dict[bytes, Path] = {}
        self._access = OwnerAccess(work_dir, CHANGES)
        self._unchecked_bytes = 0

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
        needed = [change for change in changes if _needs_content(change)]
        for change in needed:
            if change.new is not None and not change.new.is_stored:
                raise ContentNotStored(wire_names.encode(change.path))
        with self._reserved(changes, needed):
            tree.make_empty(self._staging)
            try:
                for number, change in enumerate(needed):
                    if number % CANCEL_CHECK_FILES == 0:
                        self._check_cancelled()
                    if number % PREFETCHED_FILES == 0:
                        following = needed[number : number + PREFETCHED_FILES]
                        self._reader.prefetch(other.new for other in following if other.new)
                    self._stage(number, change)
                self._check_cancelled()
                self._hold_space(changes)
                yield
            finally:
                with suppress(FileNotFoundError):
                    tree.remove(self._staging)

    def _check_cancelled(self) -> None:
        self._unchecked_bytes = 0
        if self._is_cancelled():
            raise RestoreCancelled

    @contextmanager
    def _reserved(self, changes: Sequence[Change], needed: Sequence[Change]) -> Iterator[None]:
        """Reserve the space of the changes in the quota during the block."""
        if self._quota is None:
            yield
            return
        sizes = (change.new.size for change in needed if change.new is not None)
        size = BLOCK_BYTES * sum(-(-size // BLOCK_BYTES) for size in sizes)
        files = sum((change.old is None) - (change.new is None) for change in changes)
        added = DiskUsage(size, max(files, 0))
        self._quota.reserve(added, sum(map(self._freed_bytes, changes)))
        try:
            yield
        finally:
            self._quota.release(added, DiskUsage())
            self._quota.forget()

    def _freed_bytes(self, change: Change) -> int:
        """Return the bytes on disk that a change frees."""
        if change.old is None or change.old.kind != "file" or not _replaces_content(change):
            return 0
        *parents, name = change.path.split(b"/")
        try:
            directory = open_directory(self._work_dir, parents)
        except OSError:
            return 0
        try:
            return freed_bytes(os.stat(name, dir_fd=directory, follow_symlinks=False))
        except OSError:
            return 0
        finally:
            os.close(directory)

    @property
    def _space(self) -> Path:
        return self._staging / "space"

    def _hold_space(self, changes: Sequence[Change]) -> None:
        """Allocate disk space, so that a full disk is noticed before anything is changed."""
        size = RECORD_BYTES
        if self._is_partial:
            directories = {change.path.rpartition(b"/")[0] for change in changes}
            size += RECORD_BYTES_PER_DIRECTORY * len(directories)
        with self._space.open("xb") as file:
            allocate_space(file.fileno(), 0, min(size, MAX_RECORD_BYTES))

    def release_space(self) -> None:
        """Free the disk space that is held for the checkpoint after the restore."""
        self._space.unlink(missing_ok=True)

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
            self._unchecked_bytes += len(piece)
            if self._unchecked_bytes >= CANCEL_CHECK_BYTES:
                self._check_cancelled()
        os.ftruncate(file, entry.size)

    def apply(self, changes: Sequence[Change]) -> None:
        """Apply changes whose contents are staged.

        Raises:
            ChangeFailed: A change cannot be applied; earlier changes were.
        """
        with self._access:
            for change in reversed(changes):
                if change.old is not None and (change.new is None or _is_replaced(change)):
                    with _failures(change.path):
                        self._remove(change)
            for change in changes:
                if change.new is not None and change.new.kind != "special":
                    with _failures(change.path):
                        self._create(change, change.new)
            self._set_directory_modes(changes)

    def _set_directory_modes(self, changes: Sequence[Change]) -> None:
        """Set the final modes of directories, those of the deepest first."""
        modes = {
            change.path: change.new.mode
            for change in changes
            if change.new is not None and change.new.kind == "directory"
        }
        paths = sorted({*modes, *self._access.granted}, key=lambda path: path.split(b"/"))
        for path in reversed(paths):
            if path not in modes:
                self._access.revoke(path)
                continue
            with _failures(path), self._parent(path) as (directory, name):
                change_mode(directory, name, modes[path])
            self._access.forget(path)

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
                    change_mode(directory, name, entry.mode)
                    os.utime(
                        name,
                        ns=(entry.mtime_ns, entry.mtime_ns),
                        dir_fd=directory,
                        follow_symlinks=False,
                    )

    def _make_directory(self, directory: int, name: bytes) -> None:
        _remove_other_kind(directory, name, stat.S_IFDIR)
        try:
            with_owner_access(directory, partial(os.mkdir, name, 0o700, dir_fd=directory))
        except FileExistsError:
            mode = stat.S_IMODE(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
            change_mode(directory, name, mode | stat.S_IRWXU)
        made = open_directory(directory, (name,))
        try:
            # This server must be able to fill it; the final mode is set last.
            inherit_owner(made, self._work_dir)
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
        directory = self._open(parents)
        try:
            yield directory, name
        finally:
            os.close(directory)

    def _open(self, parts: Sequence[bytes]) -> int:
        """Open a directory of the work_dir, whatever its mode is."""
        with suppress(PermissionError):
            directory = open_directory(self._work_dir, parts)
            if not self._access.is_denied(os.fstat(directory)):
                return directory
            os.close(directory)
        self._access.grant_all(parts)
        return open_directory(self._work_dir, parts)


@contextmanager
def _failures(path: bytes) -> Iterator[None]:
    """Add the path to errors of the file system."""
    try:
        yield
    except OSError as error:
        raise ChangeFailed(wire_names.encode(path), error) from error


def _needs_content(change: Change) -> bool:
    """Return True if a content has to be written."""
    return change.new is not None and change.new.kind == "file" and _replaces_content(change)


def _replaces_content(change: Change) -> bool:
    """Return True if the content of the new entry is not that of the old one."""
    return not is_unchanged(change.old, change.new)


def _makes_directory(change: Change) -> bool:
    """Return True if a directory has to be created."""
    old, new = change.old, change.new
    return new is not None and new.kind == "directory" and (old is None or old.kind != new.kind)


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


def _write_sparse(file: int, piece: bytes) -> None:
    """Append to a file. Large pieces of zeros become a hole."""
    if len(piece) >= BLOCK_BYTES and not any(piece[:64]) and not piece.strip(b"\0"):
        os.lseek(file, len(piece), os.SEEK_CUR)
        return
    view = memoryview(piece)
    while view:
        view = view[os.write(file, view) :]
