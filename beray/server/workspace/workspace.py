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
from beray.server.storage.disk_reserve import FILE_NAME, DiskReserve
from beray.server.workspace import safe_open
from beray.server.workspace import tree as folders
from beray.server.workspace.atomic_file import (
    Writer,
    flush_folder,
    freed_by,
    made_folders,
    move_into,
    replaceable,
)
from beray.server.workspace.disk_quota import DiskSpace
from beray.server.workspace.safe_open import (
    InvalidPath,
    MissingPath,
    PathError,
    open_folder,
    refusals,
    shown,
)
from beray.transfers import file_modes, wire_names

__all__ = [
    "TREE_LIMIT",
    "InvalidPath",
    "MissingPath",
    "PathError",
    "Workspace",
    "Workspaces",
    "Writer",
    "open_work_dir",
    "utc_seconds",
]

TREE_LIMIT: Final = 10_000
"""Default limit of the entries in one listing."""
INCOMING: Final = ".incoming"
ASIDE: Final = ".aside"
"""Directory for work_dirs that belong to no task of the database."""
KNOWN_SPACES: Final = 4096
"""Number of work_dirs whose last measurement is remembered."""
_TREE_PATH_BYTES: Final = 16 * 1024 * 1024
# Each entry repeats the path of its folder: few, but very deep, entries are long to list.
_WAY_OUT: Final = (
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
        space_of: returns the quota of the work_dir at a path; without it, there is none.
        uid_of: returns the owner of a user's work_dirs; see ``Sandbox.uid_of``.
        reserve: space that the removal of a work_dir may use.
    """

    def __init__(
        self,
        root: Path,
        space_of: Callable[[Path], DiskSpace] | None = None,
        *,
        uid_of: Callable[[int | None], int | None] = lambda _user_id: None,
        reserve: DiskReserve | None = None,
    ) -> None:
        self.root = root
        self._reserve = reserve or DiskReserve(root / FILE_NAME, 0)
        self._uid_of = uid_of
        self._space_of = space_of
        self._spaces: dict[int, DiskSpace] = {}
        self._lock = threading.Lock()
        self._incoming = root / INCOMING
        self._mark_interrupted()
        folders.make_empty(self._incoming)

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
            self._spaces.pop(task_id, None)
        grave = self._incoming / uuid.uuid4().hex
        self._reserve.use(lambda: grave.mkdir(mode=0o700))
        with _folder(self.root) as root, _folder(grave) as bottom:
            name = self.path(task_id).name
            with suppress(FileNotFoundError):
                folders.unlock(root, name)
                os.rename(name, name, src_dir_fd=root, dst_dir_fd=bottom)
            folders.clear(bottom)
        grave.rmdir()

    def open(self, task_id: int) -> Workspace:
        """Open the work_dir of a task; a context manager.

        Raises:
            MissingPath: there is none.
            InvalidPath: a link or a file is in its place, or it cannot be read.
        """
        return open_work_dir(self.path(task_id), self.space(task_id))

    def space(self, task_id: int) -> DiskSpace | None:
        """Return the quota of a task's work_dir; ``None``: there is no quota."""
        if self._space_of is None:
            return None
        with self._lock:
            found = self._spaces.get(task_id)
            if found is None:
                if len(self._spaces) >= KNOWN_SPACES:
                    self._spaces = {
                        known: space for known, space in self._spaces.items() if not space.is_idle
                    }
                found = self._spaces[task_id] = self._space_of(self.path(task_id))
            return found


def open_work_dir(path: Path, space: DiskSpace | None = None) -> Workspace:
    """Open the work_dir at ``path``, in any process; a context manager.

    Raises:
        MissingPath: there is none.
        InvalidPath: a link or a file is in its place, or it cannot be read.
    """
    with refusals(f"the work_dir of task {path.name}"), _folder(path.parent) as root:
        descriptor = open_folder(root, (os.fsencode(path.name),))
        return Workspace(descriptor, path.parent / INCOMING, path.name, space)


class Workspace:
    """One open work_dir. Paths are relative to it, ``/`` between parts.

    Every method with a path raises ``InvalidPath`` or ``MissingPath`` for one that it
    cannot use, and then has touched nothing.
    """

    def __init__(
        self, descriptor: int, incoming: Path, name: str, space: DiskSpace | None = None
    ) -> None:
        self.descriptor = descriptor
        self._name = name
        self._incoming = incoming
        self._space = space

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
        parts = safe_open.parse(path)
        items: list[FileItem] = []
        path_bytes = 0
        walk = folders.walk(self.descriptor, parts, limit=limit)
        with refusals(shown(path)), closing(walk) as entries:
            try:
                for entry in entries:
                    path_bytes += len(entry.path)
                    if path_bytes > _TREE_PATH_BYTES:
                        raise folders.TooManyEntries(
                            f"{shown(path or '.')} holds paths that are too long to list together"
                        )
                    items.append(_item(entry))
            except folders.TooManyEntries as error:
                raise InvalidPath(f"{error.reason}; {_WAY_OUT}") from None
        return items

    def page(
        self,
        path: str = ".",
        *,
        limit: int,
        depth: int | None = None,
        after: Sequence[bytes] = (),
    ) -> FilePage:
        """Return a page of the listing of ``path``, in the order of ``tree``.

        It takes time and memory in proportion to ``limit``, and time in proportion to the number
        of files in the folders that it begins in. Folders with a path that is too long for
        any call are listed without what is in them.

        Args:
            limit: Maximum number of entries. A page with very long paths is shorter.
            depth: Number of levels: 1 for what is in the folder itself.
            after: The position after which the page starts; see ``FilePage.end``.

        Raises:
            InvalidPath, MissingPath: for ``path``.
        """
        parts = safe_open.parse(path)
        items: list[FileItem] = []
        path_bytes = 0
        end: bytes | None = None
        walk = folders.walk(
            self.descriptor, parts, depth=depth, after=after, at_once=limit + 1,
            path_bytes=safe_open.PATH_BYTES,
        )  # fmt: skip
        with refusals(shown(path)), closing(walk) as entries:
            for entry in entries:
                path_bytes += len(entry.path)
                if end is not None and (len(items) == limit or path_bytes > _TREE_PATH_BYTES):
                    return FilePage(items, tuple(end.split(b"/")[len(parts) :]))
                items.append(_item(entry))
                end = entry.path
        return FilePage(items, None)

    def open_file(self, path: str) -> tuple[BinaryIO, os.stat_result]:
        """Open a regular file for reading, unbuffered; the caller closes it."""
        *parents, name = safe_open.parse_file(path)
        with refusals(shown(path)), self._folder(parents) as folder:
            return safe_open.open_regular(folder, name)

    def is_taken(self, path: str) -> bool:
        """Whether anything has that name, be it a folder or a link."""
        *parents, name = safe_open.parse_file(path)
        try:
            with refusals(shown(path)), self._folder(parents) as folder:
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except MissingPath:
            return False
        return True

    def write(self, path: str, mode: int | None = None) -> Writer:
        """Begin to write a file; it is there, whole, once the writer's block has ended.

        Missing parent folders are made. A regular file at ``path`` is replaced;
        anything else there is refused. The workspace stays open until the end.

        Args:
            mode: the permission bits of the file. If not given, it has those of the file that
                it replaces, or ``file_modes.NEW_FILE``.

        Raises:
            NoSpace: the work_dir holds as many files as it may.
        """
        *parents, name = safe_open.parse_file(path)
        # What cannot work is refused before the first byte; missing parents come last.
        replaced, folders = None, len(parents)
        with refusals(shown(path)), suppress(FileNotFoundError), self._folder(parents) as folder:
            replaced, folders = replaceable(folder, name), 0
        reservation = None
        if self._space is not None:
            files = 1 if replaced is None else 0
            # Some of the parents may be there: the next measurement corrects it.
            reservation = self._space.reservation(
                files=files, folders=folders, replaced=freed_by(replaced) if replaced else 0
            )
        staged = self._incoming / f"{self._name}-{uuid.uuid4().hex}"
        try:
            return Writer(self, path, parents, name, staged, reservation, mode)
        except OSError:
            if reservation is not None:
                reservation.close(written=False)
            raise

    def make_folder(self, path: str, mode: int | None = None) -> str:
        """Make a folder, and what is missing above it; return its path. Idempotent.

        Args:
            mode: the permission bits of the folder. If not given, it keeps those that it has, or
                has ``file_modes.NEW_DIRECTORY``.

        Raises:
            NoSpace: the work_dir holds as many files and folders as it may.
        """
        parts = safe_open.parse(path)
        if not parts:
            raise InvalidPath(f"{shown(path)} is the work_dir itself")
        with refusals(shown(path)):
            try:
                folder = open_folder(self.descriptor, parts)
            except FileNotFoundError:
                folder = self._new_folder(parts)
                mode = file_modes.NEW_DIRECTORY if mode is None else mode
            try:
                if mode is not None:
                    os.fchmod(folder, mode & file_modes.BITS)
            finally:
                os.close(folder)
        return wire_names.encode(b"/".join(parts))

    def _new_folder(self, parts: Sequence[bytes]) -> int:
        """Make a folder outside the work_dir, move it into place, and return its descriptor."""
        reservation = None
        if self._space is not None:
            reservation = self._space.reservation(files=0, folders=len(parts))
        # While it is there, an interruption leaves a sign for ``_mark_interrupted``.
        staged = self._incoming / f"{self._name}-{uuid.uuid4().hex}"
        is_made = False
        try:
            staged.mkdir(mode=0o700)
            folder = os.open(staged, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                inherit_owner(folder, self.descriptor)
                with made_folders(self.descriptor, parts[:-1]) as parent:
                    move_into(parent, staged, parts[-1])
                    is_made = True
                    flush_folder(parent)
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
    def _folder(self, parts: list[bytes]) -> Iterator[int]:
        descriptor = open_folder(self.descriptor, parts)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class FilePage:
    """A page of a listing.

    Attributes:
        end: Position of the last item below the listed folder, to continue after; ``None`` on the
            last page.
    """

    items: list[FileItem]
    end: tuple[bytes, ...] | None


def utc_seconds(nanoseconds: int) -> int:
    """A modification time in whole seconds since 1970, within the years that dates have."""
    return min(max(nanoseconds // 1_000_000_000, _FIRST_SECOND), _LAST_SECOND)


def _item(entry: folders.Entry) -> FileItem:
    changed = datetime.fromtimestamp(utc_seconds(entry.status.st_mtime_ns), UTC)
    milliseconds = entry.status.st_mtime_ns // 1_000_000 % 1000
    return {
        "name": wire_names.encode(entry.name),
        "path": wire_names.encode(entry.path),
        "type": "directory" if entry.is_folder else "file",
        "size": 0 if entry.is_folder else entry.status.st_size,
        "mode": file_modes.text(entry.status.st_mode),
        "modified_at": f"{changed:%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z",
    }


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    """Open a folder of the server's own."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
