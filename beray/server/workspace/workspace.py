"""The work_dirs of the tasks: the only code that turns a path from outside into a file.

Synchronous, for threads. POSIX: Linux and macOS. Every path is resolved beneath its
work_dir and through no link, whatever the task does to its folders meanwhile.
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
from beray.server.sandbox.ownership import inherit_owner, set_owner
from beray.server.storage.disk_reserve import FILE_NAME, SpaceReserve
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
ASIDE: Final = ".aside"
"""Directory for work_dirs that belong to no task of the database."""
MAX_CACHED_QUOTAS: Final = 4096
"""Number of work_dirs whose last measurement is remembered."""
_TREE_PATH_BYTES: Final = 16 * 1024 * 1024
# Each entry repeats the path of its folder: few, but very deep, entries are long to list.
_LARGE_LISTING_HINT: Final = (
    "list it in pages (limit=1000, then the Link of each page) or one level at a time (depth=1), "
    "as `beray ls`, list_files_tree() and iter_files() do, or list a subfolder"
)
_FIRST_SECOND: Final = int(datetime(1, 1, 2, tzinfo=UTC).timestamp())
_LAST_SECOND: Final = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp())


log = structlog.get_logger("beray.workspaces")


class Workspaces:
    """The work_dirs below one folder, ``root``. One server at a time uses it.

    Uploads that are under way, and work_dirs that are being removed, are in
    ``root/.incoming``, which is emptied when the server starts.

    Args:
        quota_of: returns the quota of the work_dir at a path; without it, there is none.
        uid_of: returns the owner of a user's work_dirs; see ``Sandbox.uid_of``.
        reserve: space that the removal of a work_dir may use.
    """

    def __init__(
        self,
        root: Path,
        quota_of: Callable[[Path], DiskQuota] | None = None,
        *,
        uid_of: Callable[[int | None], int | None] = lambda _user_id: None,
        reserve: SpaceReserve | None = None,
    ) -> None:
        self.root = root
        self._reserve = reserve or SpaceReserve(root / FILE_NAME, 0)
        self._uid_of = uid_of
        self._quota_of = quota_of
        self._quotas: dict[int, DiskQuota] = {}
        self._lock = threading.Lock()
        self._incoming = root / INCOMING
        self._mark_interrupted()
        directory_tree.make_empty(self._incoming)

    def _mark_interrupted(self) -> None:
        """Have ``work_dir_owners.settle`` look at the work_dirs that were being written into.

        A folder there may still belong to a server that is root.
        """
        if os.geteuid() != 0 or not self._incoming.is_dir():
            return
        for staged in os.listdir(self._incoming):
            task_id, mark, _ = staged.partition("-")
            if mark:
                with suppress(FileNotFoundError):
                    set_owner(self.root / task_id, 0)

    def path(self, task_id: int) -> Path:
        """Where the work_dir of a task is, or would be."""
        return self.root / f"{task_id:d}"

    def existing(self) -> set[int]:
        """Return the ids of the tasks that have a work_dir."""
        return {int(name) for name in os.listdir(self.root) if name.isdigit()}

    def create(self, task_id: int, user_id: int | None = None) -> Path:
        """Make the work_dir of a user's task, for its owner alone, and return its path.

        A directory with content that exists already belongs to no task of this database: the
        database is older than it, such as one from a backup. It is moved aside.

        Raises:
            NoSandboxUid: there is no uid for the user.
            OSError: it cannot be made.
        """
        uid = self._uid_of(user_id)
        path = self.path(task_id)
        # An empty one is what a server that died right here has left.
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
        os.rename(path, target)
        log.warning(
            "a work_dir of another database was moved aside", path=str(path), now_at=str(target)
        )

    def remove(self, task_id: int) -> None:
        """Remove the work_dir of a task, whatever modes it left there. Idempotent.

        It is out of the way at once; what an interruption leaves goes at the next start.

        Raises:
            OSError: something in it cannot be removed.
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
        """Open the work_dir of a task; a context manager.

        Raises:
            MissingPath: there is none.
            InvalidPath: a link or a file is in its place, or it cannot be read.
        """
        return open_work_dir(self.path(task_id), self.quota(task_id))

    def quota(self, task_id: int) -> DiskQuota | None:
        """Return the quota of a task's work_dir; ``None``: there is no quota."""
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
    """Open the work_dir at ``path``, in any process; a context manager.

    Raises:
        MissingPath: there is none.
        InvalidPath: a link or a file is in its place, or it cannot be read.
    """
    with path_errors(f"the work_dir of task {path.name}"), _open_directory(path.parent) as root:
        descriptor = open_directory(root, (os.fsencode(path.name),))
        return Workspace(descriptor, path.parent / INCOMING, path.name, quota)


class Workspace:
    """One open work_dir. Paths are relative to it, ``/`` between parts.

    Every method with a path raises ``InvalidPath`` or ``MissingPath`` for one that it
    cannot use, and then has touched nothing.
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
        """Give the descriptor back. Idempotent."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def tree(self, path: str = ".", *, limit: int = TREE_LIMIT) -> list[FileItem]:
        """Return the files and folders below ``path``, each folder before what is in it.

        Sorted by the parts of their paths on disk. Links and special files are left out.

        Raises:
            InvalidPath: also where there are more than ``limit`` entries.
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
                            f"{quote_path(path or '.')} holds paths that are too long to list together"
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

        It takes time and memory in proportion to ``limit``, and time in proportion to the number
        of files in the folders that it begins in. Folders with a path that is too long for
        any call are listed without what is in them.

        Args:
            limit: Maximum number of entries. A page with very long paths is shorter.
            depth: Number of levels: 1 for what is in the folder itself.
            after: The position after which the page starts; see ``DirectoryPage.end``.

        Raises:
            InvalidPath, MissingPath: for ``path``.
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
        with path_errors(quote_path(path)), self._open_directory(parents) as folder:
            return safe_open.open_regular(folder, name)

    def exists(self, path: str) -> bool:
        """Whether anything has that name, be it a folder or a link."""
        *parents, name = safe_open.parse_file_path(path)
        try:
            with path_errors(quote_path(path)), self._open_directory(parents) as folder:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except MissingPath:
            return False
        return True

    def write(self, path: str, mode: int | None = None) -> AtomicFileWriter:
        """Begin to write a file; it is there, whole, once the writer's block has ended.

        Missing parent folders are made. A regular file at ``path`` is replaced;
        anything else there is refused. The workspace stays open until the end.

        Args:
            mode: the permission bits of the file. If not given, it has those of the file that
                it replaces, or ``file_modes.NEW_FILE``.

        Raises:
            InsufficientSpace: the work_dir holds as many files as it may.
        """
        *parents, name = safe_open.parse_file_path(path)
        # What cannot work is refused before the first byte; missing parents come last.
        replaced, folders = None, len(parents)
        with (
            path_errors(quote_path(path)),
            suppress(FileNotFoundError),
            self._open_directory(parents) as folder,
        ):
            replaced, folders = stat_replaceable(folder, name), 0
        reservation = None
        if self._quota is not None:
            files = 1 if replaced is None else 0
            # Some of the parents may be there: the next measurement corrects it.
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
        """Make a folder, and what is missing above it; return its path. Idempotent.

        Args:
            mode: the permission bits of the folder. If not given, it keeps those that it has, or
                has ``file_modes.NEW_DIRECTORY``.

        Raises:
            InsufficientSpace: the work_dir holds as many files and folders as it may.
        """
        parts = safe_open.parse_path(path)
        if not parts:
            raise InvalidPath(f"{quote_path(path)} is the work_dir itself")
        with path_errors(quote_path(path)):
            try:
                folder = open_directory(self.descriptor, parts)
            except FileNotFoundError:
                folder = self._create_directory(parts)
                mode = file_modes.NEW_DIRECTORY if mode is None else mode
            try:
                if mode is not None:
                    os.fchmod(folder, mode & file_modes.BITS)
            finally:
                os.close(folder)
        return wire_names.encode(b"/".join(parts))

    def _create_directory(self, parts: Sequence[bytes]) -> int:
        """Make a folder outside the work_dir, move it into place, and return its descriptor."""
        reservation = None
        if self._quota is not None:
            reservation = self._quota.reservation(files=0, folders=len(parts))
        # While it is there, an interruption leaves a sign for ``_mark_interrupted``.
        staged = self._incoming / f"{self._name}-{uuid.uuid4().hex}"
        is_made = False
        try:
            staged.mkdir(mode=0o700)
            folder = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                inherit_owner(folder, self.descriptor)
                with created_directories(self.descriptor, parts[:-1]) as parent:
                    rename_into(parent, staged, parts[-1])
                    is_made = True
                    fsync_directory(parent)
            except BaseException:
                os.close(folder)
                raise
            return folder
        finally:
            if not is_made:
                with suppress(FileNotFoundError):
                    staged.rmdir()
            if reservation is not None:
                reservation.close(written=is_made)

    @contextmanager
    def _open_directory(self, parts: list[bytes]) -> Iterator[int]:
        descriptor = open_directory(self.descriptor, parts)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class DirectoryPage:
    """A page of a listing.

    Attributes:
        end: Position of the last item below the listed folder, to continue after; ``None`` on the
            last page.
    """

    items: list[FileItem]
    end: tuple[bytes, ...] | None


def clamp_to_date_range(nanoseconds: int) -> int:
    """A modification time in whole seconds since 1970, within the years that dates have."""
    return min(max(nanoseconds // 1_000_000_000, _FIRST_SECOND), _LAST_SECOND)


def _file_item(entry: directory_tree.TreeEntry) -> FileItem:
    changed = datetime.fromtimestamp(clamp_to_date_range(entry.status.st_mtime_ns), UTC)
    milliseconds = entry.status.st_mtime_ns // 1_000_000 % 1000
    return {
        "name": wire_names.encode(entry.name),
        "path": wire_names.encode(entry.path),
        "type": "directory" if entry.is_directory else "file",
        "size": 0 if entry.is_directory else entry.status.st_size,
        "mode": file_modes.text(entry.status.st_mode),
        "modified_at": f"{changed:%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z",
    }


@contextmanager
def _open_directory(path: Path) -> Iterator[int]:
    """Open a folder of the server's own."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
