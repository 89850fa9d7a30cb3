"""Work directories of tasks, and all access to the files in them by path.

Synchronous; for threads. POSIX: Linux and macOS. Every path is resolved beneath its work_dir and
without following links, whatever the task changes meanwhile.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import structlog

from beray.schema import FileItem
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve
from beray.server.workspace import safe_open
from beray.server.workspace import tree as directory_tree
from beray.server.workspace.atomic_file import (
    AtomicFileWriter,
    created_directories,
    freed_bytes,
    fsync_directory,
    rename_into,
    stat_replaceable,
)
from beray.server.workspace.disk_quota import DiskQuota
from beray.server.workspace.ownership import inherit_owner, set_owner
from beray.server.workspace.safe_open import (
    InvalidPath,
    MissingPath,
    PathError,
    open_directory,
    path_errors,
    quote_path,
)
from beray.transfers import file_modes, wire_names

__all__ = [
    "TREE_LIMIT",
    "AtomicFileWriter",
    "InvalidPath",
    "MissingPath",
    "PathError",
    "Workspace",
    "Workspaces",
    "clamp_to_date_range",
    "open_work_dir",
]

TREE_LIMIT: Final = 10_000
"""Default limit of the entries in one listing."""
INCOMING: Final = ".incoming"
"""Name of the directory for staged files and for work_dirs that are being removed."""
ASIDE: Final = ".aside"
"""Name of the directory for work_dirs that do not belong to a task of the database."""
MAX_CACHED_QUOTAS: Final = 4096
"""Maximum number of work_dirs whose disk usage is cached."""
_TREE_PATH_BYTES: Final = 16 * 1024 * 1024
# Each entry repeats the path of its directory, so a few very deep entries make a long listing.
_LARGE_LISTING_HINT: Final = (
    "list it in pages (limit=1000, then the Link of each page) or one level at a time (depth=1), "
    "as `beray ls`, list_files_tree() and iter_files() do, or list a subfolder"
)
_FIRST_SECOND: Final = int(datetime(1, 1, 2, tzinfo=UTC).timestamp())
_LAST_SECOND: Final = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp())


log = structlog.get_logger("beray.workspaces")


class Workspaces:
    """Work directories below the directory ``root``, which only one server uses at a time.

    Unfinished uploads, and work_dirs that are being removed, are in ``root/.incoming``, which is
    emptied when the server starts.

    Args:
        quota_of: Returns the disk quota of the work_dir at a path; None: no quotas.
        uid_of: Returns the owner of a user's work_dirs; see ``Sandbox.uid_of``.
        reserve: Disk space that the removal of a work_dir may use.
    """

    def __init__(
        self,
        root: Path,
        *,
        quota_of: Callable[[Path], DiskQuota] | None = None,
        uid_of: Callable[[int | None], int | None] = lambda _user_id: None,
        reserve: DiskReserve | None = None,
    ) -> None:
        self.root = root
        self._reserve = reserve or DiskReserve(root / FILE_NAME, 0)
        self._uid_of = uid_of
        self._quota_of = quota_of
        self._quotas: dict[int, DiskQuota] = {}
        self._lock = threading.Lock()
        self._incoming = root / INCOMING
        self._mark_interrupted()
        directory_tree.make_empty(self._incoming)

    def _mark_interrupted(self) -> None:
        """Mark work_dirs with interrupted uploads for ``work_dir_owners.settle``.

        Directories in them may still belong to a server that is root.
        """
        if os.geteuid() != 0 or not self._incoming.is_dir():
            return
        for staged in self._incoming.iterdir():
            task_id, mark, _ = staged.name.partition("-")
            if mark:
                with suppress(FileNotFoundError):
                    set_owner(self.root / task_id, 0)

    def path(self, task_id: int) -> Path:
        """Return the path of a task's work_dir, whether or not it exists."""
        return self.root / f"{task_id:d}"

    def existing(self) -> set[int]:
        """Return the ids of the tasks that have a work_dir."""
        return {int(path.name) for path in self.root.iterdir() if path.name.isdigit()}

    def create(self, task_id: int, user_id: int | None = None) -> Path:
        """Create the work_dir of a user's task with mode 0700 and return its path.

        An existing directory with content does not belong to a task of this database, which may
        have been restored from a backup. It is moved aside.

        Raises:
            NoSandboxUid: There is no uid for the user.
            OSError: The directory cannot be created.
        """
        uid = self._uid_of(user_id)
        path = self.path(task_id)
        # A server that was killed at this point leaves an empty directory.
        with suppress(OSError):
            path.rmdir()
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            self._move_aside(path)
            path.mkdir(mode=0o700)
        except FileNotFoundError:
            log.warning("the directory of the work_dirs was missing", path=str(self.root))
            self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
        set_owner(path, uid)
        return path

    def _move_aside(self, path: Path) -> None:
        aside = self.root / ASIDE
        aside.mkdir(mode=0o700, exist_ok=True)
        target = aside / f"{path.name}-{uuid.uuid4().hex[:8]}"
        path.rename(target)
        log.warning(
            "a work_dir of another database was moved aside", path=str(path), now_at=str(target)
        )

    def remove(self, task_id: int) -> None:
        """Remove the work_dir of a task, whatever modes its contents have. Idempotent.

        The work_dir is moved away before its contents are removed. The next start of the server
        completes a removal that is interrupted.

        Raises:
            OSError: Part of the contents cannot be removed.
        """
        with self._lock:
            self._quotas.pop(task_id, None)
        trash = self._incoming / uuid.uuid4().hex
        self._reserve.use(lambda: trash.mkdir(mode=0o700))
        with _open_directory(self.root) as root, _open_directory(trash) as bottom:
            name = self.path(task_id).name
            with suppress(FileNotFoundError):
                directory_tree.grant_owner_access(root, name)
                os.rename(name, name, src_dir_fd=root, dst_dir_fd=bottom)
            directory_tree.clear(bottom)
        trash.rmdir()

    def open(self, task_id: int) -> Workspace:
        """Open the work_dir of a task as a context manager.

        Raises:
            MissingPath: The work_dir does not exist.
            InvalidPath: The work_dir is a link or a file, or cannot be read.
        """
        return open_work_dir(self.path(task_id), self.quota(task_id))

    def quota(self, task_id: int) -> DiskQuota | None:
        """Return the disk quota of a task's work_dir, or None if there are no quotas."""
        if self._quota_of is None:
            return None
        with self._lock:
            found = self._quotas.get(task_id)
            if found is None:
                if len(self._quotas) >= MAX_CACHED_QUOTAS:
                    self._quotas = {
                        known: quota for known, quota in self._quotas.items() if not quota.is_idle
                    }
                found = self._quotas[task_id] = self._quota_of(self.path(task_id))
            return found


def open_work_dir(path: Path, quota: DiskQuota | None = None) -> Workspace:
    """Open the work_dir at ``path`` as a context manager, in any process.

    Raises:
        MissingPath: The work_dir does not exist.
        InvalidPath: The work_dir is a link or a file, or cannot be read.
    """
    with path_errors(f"the work_dir of task {path.name}"), _open_directory(path.parent) as root:
        descriptor = open_directory(root, (os.fsencode(path.name),))
        return Workspace(descriptor, path.parent / INCOMING, path.name, quota)


class Workspace:
    """Open work_dir. Paths are relative to it and separated by ``/``.

    Methods raise ``InvalidPath`` or ``MissingPath`` for paths that they cannot use, before they
    change anything.
    """

    def __init__(
        self, descriptor: int, incoming: Path, name: str, quota: DiskQuota | None = None
    ) -> None:
        self.descriptor = descriptor
        self._name = name
        self._incoming = incoming
        self._quota = quota

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def tree(self, path: str = ".", *, limit: int = TREE_LIMIT) -> list[FileItem]:
        """Return the files and directories below ``path``, directories before their contents.

        They are sorted by the parts of their paths on disk. Links and special files are omitted.

        Raises:
            InvalidPath: The path is invalid, or there are more than ``limit`` entries.
            MissingPath: The path does not exist.
        """
        parts = safe_open.parse_path(path)
        items: list[FileItem] = []
        path_bytes = 0
        walk = directory_tree.walk(self.descriptor, parts, limit=limit)
        with path_errors(quote_path(path)), closing(walk) as entries:
            try:
                for entry in entries:
                    path_bytes += len(entry.path)
                    if path_bytes > _TREE_PATH_BYTES:
                        raise directory_tree.TooManyEntries(
                            f"{quote_path(path or '.')} has paths that are too long for one listing"
                        )
                    items.append(_file_item(entry))
            except directory_tree.TooManyEntries as error:
                raise InvalidPath(f"{error.reason}; {_LARGE_LISTING_HINT}") from None
        return items

    def page(
        self,
        path: str = ".",
        *,
        limit: int,
        depth: int | None = None,
        after: Sequence[bytes] = (),
    ) -> DirectoryPage:
        """Return a page of the listing of ``path``, in the order of ``tree``.

        Time and memory are proportional to ``limit``, and time also to the number of files in
        the directories at the start of the page. Directories whose paths are too long for any
        request are listed without their contents.

        Args:
            path: Directory to list.
            limit: Maximum number of entries. A page with very long paths is shorter.
            depth: Number of levels; 1 for the entries of the directory itself.
            after: Position after which the page starts; see ``DirectoryPage.end``.

        Raises:
            InvalidPath: ``path`` is invalid, or not a directory.
            MissingPath: ``path`` does not exist.
        """
        parts = safe_open.parse_path(path)
        items: list[FileItem] = []
        path_bytes = 0
        end: bytes | None = None
        walk = directory_tree.walk(
            self.descriptor, parts, depth=depth, after=after, max_names=limit + 1,
            path_bytes=safe_open.MAX_PATH_BYTES,
        )  # fmt: skip
        with path_errors(quote_path(path)), closing(walk) as entries:
            for entry in entries:
                path_bytes += len(entry.path)
                if end is not None and (len(items) == limit or path_bytes > _TREE_PATH_BYTES):
                    return DirectoryPage(items, tuple(end.split(b"/")[len(parts) :]))
                items.append(_file_item(entry))
                end = entry.path
        return DirectoryPage(items, None)

    def open_file(self, path: str) -> tuple[BinaryIO, os.stat_result]:
        """Open a regular file for reading, unbuffered; the caller closes it."""
        *parents, name = safe_open.parse_file_path(path)
        with path_errors(quote_path(path)), self._open_directory(parents) as directory:
            return safe_open.open_regular(directory, name)

    def exists(self, path: str) -> bool:
        """Return True if the path exists, whatever its type."""
        *parents, name = safe_open.parse_file_path(path)
        try:
            with path_errors(quote_path(path)), self._open_directory(parents) as directory:
                os.stat(name, dir_fd=directory, follow_symlinks=False)
        except MissingPath:
            return False
        return True

    def write(self, path: str, mode: int | None = None) -> AtomicFileWriter:
        """Return a writer for a file, which is complete at ``path`` once the writer commits.

        Missing parent directories are created, and an existing regular file is replaced. The
        workspace must stay open until then.

        Args:
            path: Path of the file.
            mode: Permission bits of the file; None: those of the replaced file, or
                ``file_modes.NEW_FILE``.

        Raises:
            InvalidPath: ``path`` is invalid, or exists and is not a regular file.
            InsufficientSpace: The work_dir has its maximum number of files.
        """
        *parents, name = safe_open.parse_file_path(path)
        # Invalid paths are rejected before the upload; ``commit`` creates missing parents.
        replaced, folders = None, len(parents)
        with (
            path_errors(quote_path(path)),
            suppress(FileNotFoundError),
            self._open_directory(parents) as directory,
        ):
            replaced, folders = stat_replaceable(directory, name), 0
        reservation = None
        if self._quota is not None:
            files = 1 if replaced is None else 0
            # Some of the parents may exist; the next scan corrects the number.
            reservation = self._quota.reservation(
                files=files, folders=folders, replaced=freed_bytes(replaced) if replaced else 0
            )
        staged = self._incoming / f"{self._name}-{uuid.uuid4().hex}"
        try:
            return AtomicFileWriter(self, path, parents, name, staged, reservation, mode)
        except OSError:
            if reservation is not None:
                reservation.close(written=False)
            raise

    def make_directory(self, path: str, mode: int | None = None) -> str:
        """Create a directory and its missing parents; return its path. Idempotent.

        Args:
            path: Path of the directory.
            mode: Permission bits of the directory; None: those of the existing directory, or
                ``file_modes.NEW_DIRECTORY``.

        Raises:
            InvalidPath: ``path`` is invalid, or exists and is not a directory.
            InsufficientSpace: The work_dir has its maximum number of files.
        """
        parts = safe_open.parse_path(path)
        if not parts:
            raise InvalidPath(f"{quote_path(path)} is the work_dir itself")
        with path_errors(quote_path(path)):
            try:
                directory = open_directory(self.descriptor, parts)
            except FileNotFoundError:
                directory = self._create_directory(parts)
                mode = file_modes.NEW_DIRECTORY if mode is None else mode
            try:
                if mode is not None:
                    os.fchmod(directory, mode & file_modes.BITS)
            finally:
                os.close(directory)
        return wire_names.encode(b"/".join(parts))

    def _create_directory(self, parts: Sequence[bytes]) -> int:
        """Create a directory outside the work_dir, move it into place and open it."""
        reservation = None
        if self._quota is not None:
            reservation = self._quota.reservation(files=0, folders=len(parts))
        # If the server is killed, ``_mark_interrupted`` finds this directory.
        staged = self._incoming / f"{self._name}-{uuid.uuid4().hex}"
        is_moved = False
        try:
            staged.mkdir(mode=0o700)
            directory = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                inherit_owner(directory, self.descriptor)
                with created_directories(self.descriptor, parts[:-1]) as parent:
                    rename_into(parent, staged, parts[-1])
                    is_moved = True
                    fsync_directory(parent)
            except BaseException:
                os.close(directory)
                raise
            return directory
        finally:
            if not is_moved:
                with suppress(FileNotFoundError):
                    staged.rmdir()
            if reservation is not None:
                reservation.close(written=is_moved)

    @contextmanager
    def _open_directory(self, parts: list[bytes]) -> Iterator[int]:
        descriptor = open_directory(self.descriptor, parts)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """Page of a directory listing.

    Attributes:
        end: Position of the last item below the listed directory, for the next page; None on
            the last page.
    """

    items: list[FileItem]
    end: tuple[bytes, ...] | None


def clamp_to_date_range(nanoseconds: int) -> int:
    """Return a modification time in whole seconds since 1970, within the years of ``datetime``."""
    return min(max(nanoseconds // 1_000_000_000, _FIRST_SECOND), _LAST_SECOND)


def _file_item(entry: directory_tree.TreeEntry) -> FileItem:
    return file_item(
        entry.path,
        is_directory=entry.is_directory,
        size=entry.status.st_size,
        mode=entry.status.st_mode,
        mtime_ns=entry.status.st_mtime_ns,
    )


def file_item(path: bytes, *, is_directory: bool, size: int, mode: int, mtime_ns: int) -> FileItem:
    """Return a file or directory in the format of the API.

    Args:
        path: Path relative to the work_dir.
        is_directory: True for a directory, whose size is reported as 0.
        size: Size in bytes.
        mode: Permission bits.
        mtime_ns: Time of the last modification, in nanoseconds since 1970.
    """
    changed = datetime.fromtimestamp(clamp_to_date_range(mtime_ns), UTC)
    milliseconds = mtime_ns // 1_000_000 % 1000
    return {
        "name": wire_names.encode(path.rpartition(b"/")[2]),
        "path": wire_names.encode(path),
        "type": "directory" if is_directory else "file",
        "size": 0 if is_directory else size,
        "mode": file_modes.format_mode(mode),
        "modified_at": f"{changed:%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z",
    }


@contextmanager
def _open_directory(path: Path) -> Iterator[int]:
    """Open a directory of the server."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
