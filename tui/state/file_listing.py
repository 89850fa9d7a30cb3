"""Listing of a task's files: the whole tree if it is small, otherwise single directories.

A small tree is read in one request. For a larger one only the open directories are read, page by
page, so that a work_dir with any number of files can be shown.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from beray.exceptions import NotFoundError, UnprocessableEntityError
from beray.schema import FileItem, FilePage

if TYPE_CHECKING:
    from beray.client import BeRayClient

PAGE_ENTRIES: Final = 500
"""Entries of a tree that is read in one request, and of a page of a directory."""
MAX_SHOWN: Final = 2000
"""Entries that are shown of the response of a server without pagination."""
MAX_READ: Final = 5000
"""Entries of a directory that are read again after a change."""
MAX_OPEN: Final = 30
"""Directories that stay open when the files are read again."""
ROOT: Final = ""


def path_of(item: FileItem) -> str:
    """Return the path of ``item`` in the work_dir."""
    return item.get("path") or item["name"]


def is_folder(item: FileItem) -> bool:
    """Return True if ``item`` is a directory."""
    return item["type"] == "directory"


@dataclass(frozen=True)
class ListedFolder:
    """First entries of a directory.

    Attributes:
        items: Entries in the order of the server.
        after: Cursor of the next page on the server; None on the last page.
        hidden: Number of known entries that are not shown.
    """

    items: list[FileItem]
    after: str | None = None
    hidden: int = 0

    def extended(self, page: FilePage) -> ListedFolder:
        """Return the directory with the next page of its entries."""
        return ListedFolder(self.items + page.items, page.after, self.hidden)


@dataclass(frozen=True)
class TaskFileListing:
    """Directories of a work_dir by path, with ``ROOT`` for the work_dir itself.

    Attributes:
        folders: Directories that were read.
        is_whole: Whether the listing contains every directory.
        asked: Open directories at the time of the request, with their number of entries.
    """

    folders: dict[str, ListedFolder]
    is_whole: bool
    asked: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def is_empty(self) -> bool:
        return not self.folders[ROOT].items

    def merged(self, older: TaskFileListing | None, is_open: Container[str]) -> TaskFileListing:
        """Return this listing with directories of ``older`` that were read meanwhile."""
        if older is None or self.is_whole or older.is_whole:
            return self
        kept = {
            path: folder
            for path, folder in older.folders.items()
            if (path not in self.asked and path in is_open)
            or len(folder.items) > self.asked.get(path, len(folder.items))
        }
        return TaskFileListing(self.folders | kept, is_whole=False, asked=self.asked)

    def is_dropped(self, path: str) -> bool:
        """Return True if the directory was open and has not been read again."""
        return path in self.asked and path not in self.folders

    def with_folder(self, path: str, folder: ListedFolder) -> TaskFileListing:
        """Return the listing with another version of one directory."""
        folders = {**self.folders, path: folder}
        return TaskFileListing(folders, self.is_whole, self.asked)


def read(
    client: BeRayClient,
    task_id: int,
    opened: Mapping[str, int],
    *,
    is_large: bool,
    at: str | None = None,
) -> TaskFileListing:
    """Read the files of a task: all of them if they are few, otherwise the open directories.

    Args:
        client: Client of the task's server.
        task_id: Task whose files are read.
        opened: Number of entries to read of each open directory.
        is_large: Whether the tree was too large to be read in one request the last time.
        at: Checkpoint to read; ``None`` for the present files.
    """
    folders: dict[str, ListedFolder] = {}
    if not is_large:
        page = client.list_files_page(task_id, limit=PAGE_ENTRIES, at=at)
        if page.after is None:
            return whole(page.items)
        if all("/" not in path_of(item) for item in page.items):
            folders[ROOT] = ListedFolder(
                page.items, page.after
            )  # also the first page of the work_dir
    asked = {ROOT: 0, **opened}
    for path, count in list(asked.items())[: MAX_OPEN + 1]:
        if path in folders:
            continue
        try:
            folders[path] = _read_folder(client, task_id, path, count, at)
        except (NotFoundError, UnprocessableEntityError):
            # An open directory has been deleted or can no longer be read.
            if path == ROOT:
                raise
    return TaskFileListing(folders, is_whole=False, asked=asked)


def read_page(
    client: BeRayClient, task_id: int, path: str, after: str | None, at: str | None = None
) -> FilePage:
    """Read one page of a directory; ``at`` is a checkpoint, or ``None`` for the present files."""
    return client.list_files_page(
        task_id, path or ".", depth=1, limit=PAGE_ENTRIES, after=after, at=at
    )


def _read_folder(
    client: BeRayClient, task_id: int, path: str, count: int, at: str | None
) -> ListedFolder:
    folder = ListedFolder([])
    while True:
        folder = folder.extended(read_page(client, task_id, path, folder.after, at))
        if folder.after is None or len(folder.items) >= min(count, MAX_READ):
            hidden = max(len(folder.items) - max(MAX_READ, MAX_SHOWN), 0)
            return ListedFolder(folder.items[: len(folder.items) - hidden], folder.after, hidden)


def whole(items: Sequence[FileItem]) -> TaskFileListing:
    """Return the listing of a tree that was read in one request."""
    shown = items[:MAX_SHOWN]
    below: dict[str, list[FileItem]] = {ROOT: []}
    for item in shown:
        path = path_of(item)
        parent = path.rpartition("/")[0]
        below[parent if parent in below else ROOT].append(item)
        if is_folder(item):
            below.setdefault(path, [])
    folders = {path: ListedFolder(inside) for path, inside in below.items()}
    folders[ROOT] = ListedFolder(below[ROOT], hidden=len(items) - len(shown))
    return TaskFileListing(folders, is_whole=True)
