"""The files of a task that were read: a whole tree if it is small, else single folders.

A small tree is read in one call. Of a larger one only the folders that are open are read, each
page by page, so that a work_dir with any number of files is shown.
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
"""Entries of a tree that is read whole, and of a page of a folder."""
MOST_SHOWN: Final = 2000
"""Entries that are shown of the answer of a server that knows no pages."""
MOST_READ: Final = 5000
"""Entries of a folder that are read again after a change."""
MOST_OPEN: Final = 30
"""Folders that stay open when the files are read again."""
ROOT: Final = ""


def path_of(item: FileItem) -> str:
    return item.get("path") or item["name"]


def is_folder(item: FileItem) -> bool:
    return item["type"] == "directory"


@dataclass(frozen=True)
class Folder:
    """The first entries of a folder.

    Attributes:
        after: Position of the rest on the server; ``None`` on the last page.
        hidden: Number of entries that are known and not shown.
    """

    items: list[FileItem]
    after: str | None = None
    hidden: int = 0

    def extended(self, page: FilePage) -> Folder:
        """Return the folder with the next page of its entries."""
        return Folder(self.items + page.items, page.after, self.hidden)


@dataclass(frozen=True)
class FileListing:
    """Folders of a work_dir by their path, ``ROOT`` for the work_dir itself.

    Attributes:
        is_whole: Whether it has all folders there are.
        asked: The folders that were open when it was asked for, and the number of their entries.
    """

    folders: dict[str, Folder]
    is_whole: bool
    asked: dict[str, int] = field(default_factory=dict, compare=False)

    @property
    def is_empty(self) -> bool:
        return not self.folders[ROOT].items

    def merged(self, older: FileListing | None, is_open: Container[str]) -> FileListing:
        """Return this listing with what was read of ``older`` while this one was on its way."""
        if older is None or self.is_whole or older.is_whole:
            return self
        kept = {
            path: folder
            for path, folder in older.folders.items()
            if (path not in self.asked and path in is_open)
            or len(folder.items) > self.asked.get(path, len(folder.items))
        }
        return FileListing(self.folders | kept, is_whole=False, asked=self.asked)

    def is_dropped(self, path: str) -> bool:
        """Return whether a folder was open and is not read again."""
        return path in self.asked and path not in self.folders

    def with_folder(self, path: str, folder: Folder) -> FileListing:
        folders = {**self.folders, path: folder}
        return FileListing(folders, self.is_whole, self.asked)


def read(
    client: BeRayClient, task_id: int, opened: Mapping[str, int], *, is_large: bool
) -> FileListing:
    """Read the files of a task: all of them if they are few, else the folders in ``opened``.

    Args:
        opened: Number of entries to read of each open folder.
        is_large: Whether the tree was too large to be read whole the last time.
    """
    folders: dict[str, Folder] = {}
    if not is_large:
        page = client.list_files_page(task_id, limit=PAGE_ENTRIES)
        if page.after is None:
            return whole(page.items)
        if all("/" not in path_of(item) for item in page.items):
            folders[ROOT] = Folder(page.items, page.after)  # a page of the work_dir itself as well
    asked = {ROOT: 0, **opened}
    for path, count in list(asked.items())[: MOST_OPEN + 1]:
        if path in folders:
            continue
        try:
            folders[path] = _read_folder(client, task_id, path, count)
        except (NotFoundError, UnprocessableEntityError):
            # A folder that was open has been deleted, or cannot be read any more.
            if path == ROOT:
                raise
    return FileListing(folders, is_whole=False, asked=asked)


def read_page(client: BeRayClient, task_id: int, path: str, after: str | None) -> FilePage:
    """Read a page of a folder."""
    return client.list_files_page(task_id, path or ".", depth=1, limit=PAGE_ENTRIES, after=after)


def _read_folder(client: BeRayClient, task_id: int, path: str, count: int) -> Folder:
    folder = Folder([])
    while True:
        folder = folder.extended(read_page(client, task_id, path, folder.after))
        if folder.after is None or len(folder.items) >= min(count, MOST_READ):
            hidden = max(len(folder.items) - max(MOST_READ, MOST_SHOWN), 0)
            return Folder(folder.items[: len(folder.items) - hidden], folder.after, hidden)


def whole(items: Sequence[FileItem]) -> FileListing:
    """Return the listing of a tree that was read in one call."""
    shown = items[:MOST_SHOWN]
    below: dict[str, list[FileItem]] = {ROOT: []}
    for item in shown:
        path = path_of(item)
        parent = path.rpartition("/")[0]
        below[parent if parent in below else ROOT].append(item)
        if is_folder(item):
            below.setdefault(path, [])
    folders = {path: Folder(inside) for path, inside in below.items()}
    folders[ROOT] = Folder(below[ROOT], hidden=len(items) - len(shown))
    return FileListing(folders, is_whole=True)
