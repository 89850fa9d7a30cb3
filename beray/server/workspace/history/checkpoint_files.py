"""Files of a checkpoint: listings, contents and archives, as those of a work_dir."""

from __future__ import annotations

import io
import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from beray.schema import FileItem
from beray.server.files.file_response import Blocks
from beray.server.files.http_ranges import IncompleteFile
from beray.server.storage.tables import StoredCheckpoint
from beray.server.workspace import safe_open
from beray.server.workspace.archive import ZipStream
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.reader import CheckpointEntry, CheckpointReader, Parts
from beray.server.workspace.history.restore import ContentNotStored
from beray.server.workspace.safe_open import InvalidPath, quote_path
from beray.server.workspace.workspace import DirectoryPage, file_item
from beray.transfers import wire_names

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LISTED: Final = ("file", "directory")


class CheckpointFiles:
    """Files of one checkpoint. Methods block; called in threads.

    Paths are those of requests. Methods raise ``InvalidPath`` or ``MissingPath`` for paths that
    they cannot use, and ``DamagedContent`` if the checkpoint is damaged.

    Args:
        reader: Reader of the checkpoints of the user.
        checkpoint: The checkpoint.
    """

    def __init__(self, reader: CheckpointReader, checkpoint: StoredCheckpoint) -> None:
        self._reader = reader
        self._root = checkpoint.root
        self._is_complete = not checkpoint.not_stored

    def tree(self, path: str, *, limit: int) -> list[FileItem]:
        """Return the files and directories below a path; see ``Workspace.tree``.

        Raises:
            InvalidPath: The path is invalid, or there are more than ``limit`` entries.
        """
        page = self.page(path, limit=limit)
        if page.end is not None:
            raise InvalidPath(
                f"{quote_path(path or '.')} has more than {limit:,} entries; list it in pages "
                "(limit=1000, then the Link of each page) or one level at a time (depth=1)"
            )
        return page.items

    def page(
        self, path: str, *, limit: int, depth: int | None = None, after: Sequence[bytes] = ()
    ) -> DirectoryPage:
        """Return a page of the listing of a path; see ``Workspace.page``."""
        parts = safe_open.parse_path(path)
        directory = self._reader.entry(self._root, parts)
        if directory.kind != "directory":
            raise InvalidPath(f"{quote_path(path)} is not a folder")
        walk = self._reader.walk(directory.reference, parts, depth=depth, after=after)
        found = list(itertools.islice((item for item in walk if _is_listed(item)), limit + 1))
        items = [_file_item(item) for item in found[:limit]]
        end = None
        if len(found) > limit:
            end = tuple(found[limit - 1].path.split(b"/")[len(parts) :])
        return DirectoryPage(items, end)

    def open_file(self, path: str) -> tuple[BinaryIO, Entry]:
        """Open a file for reading.

        Raises:
            ContentNotStored: The content is not stored.
            DamagedContent: The start of the content, or its list of chunks, is damaged.
        """
        parts = safe_open.parse_file_path(path)
        entry = self._reader.entry(self._root, parts)
        if entry.kind != "file":
            raise InvalidPath(f"{quote_path(path)} is a {entry.kind}, not a file")
        if not entry.is_stored:
            raise ContentNotStored(wire_names.encode(b"/".join(parts)))
        return cast("BinaryIO", CheckpointFile(self._reader, entry)), entry

    def select(self, paths: Sequence[str]) -> Sequence[Parts]:
        """Return the selected paths without duplicates; without ``paths``, the work_dir.

        Raises:
            ContentNotStored: The content of a selected file is not stored.
        """
        selected = {safe_open.parse_path(path) for path in paths}
        for parts in selected:
            self._reader.entry(self._root, parts)
        chosen = sorted(
            parts
            for parts in selected or {()}
            if not any(parts[:end] in selected for end in range(len(parts)))
        )
        if not self._is_complete:
            for parts in chosen:
                for item in self._entries(parts):
                    if not item.entry.is_stored:
                        raise ContentNotStored(wire_names.encode(item.path))
        return chosen

    def stream_zip(self, chosen: Sequence[Parts]) -> Blocks:
        """Yield a ZIP archive of the paths from ``select``, including directory contents.

        Raises:
            IncompleteFile: A content is damaged.
        """
        archive = ZipStream()
        try:
            for parts in chosen:
                for item in self._entries(parts):
                    yield from self._add(archive, item)
        except (DamagedContent, OSError) as error:
            raise IncompleteFile(f"a file could not be read into the archive: {error}") from error
        yield archive.close()

    def _entries(self, parts: Parts) -> Iterator[CheckpointEntry]:
        entry = self._reader.entry(self._root, parts)
        if parts:
            yield CheckpointEntry(b"/".join(parts), entry)
        if entry.kind == "directory":
            yield from self._reader.walk(entry.reference, parts)

    def _add(self, archive: ZipStream, item: CheckpointEntry) -> Blocks:
        name, entry = wire_names.encode(item.path), item.entry
        if entry.kind == "directory":
            archive.add_directory(name, entry.mode, entry.mtime_ns)
        elif entry.kind == "file":
            content = self._reader.content(entry)
            yield from archive.add_file(
                name, content, size=entry.size, mode=entry.mode, mtime_ns=entry.mtime_ns
            )


class CheckpointFile(io.RawIOBase):
    """File of a checkpoint, open for reading. Each read returns at most one chunk.

    Raises:
        DamagedContent: The content is not stored, or its start is damaged.
    """

    def __init__(self, reader: CheckpointReader, entry: Entry) -> None:
        super().__init__()
        self._reader = reader
        self._pieces = reader.pieces(entry)
        self._ends = list(itertools.accumulate(piece.size for piece in self._pieces))
        self._position = 0
        # Damage at the start is found before a response begins.
        self._current = (0, reader.read_piece(self._pieces[0])) if self._pieces else (-1, b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position; return the new one."""
        size = self._ends[-1] if self._ends else 0
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read into a buffer; return the number of bytes, 0 at the end.

        Raises:
            IncompleteFile: The content is damaged.
        """
        index = bisect_right(self._ends, self._position)
        if index == len(self._ends):
            return 0
        if self._current[0] != index:
            try:
                self._current = (index, self._reader.read_piece(self._pieces[index]))
            except DamagedContent as error:
                raise IncompleteFile(error.reason) from None
        content = self._current[1]
        start = self._position - (self._ends[index] - len(content))
        with memoryview(buffer).cast("B") as view:
            part = content[start : start + len(view)]
            view[: len(part)] = part
        self._position += len(part)
        return len(part)


def _is_listed(item: CheckpointEntry) -> bool:
    return item.entry.kind in _LISTED and len(item.path) <= safe_open.MAX_PATH_BYTES


def _file_item(item: CheckpointEntry) -> FileItem:
    entry = item.entry
    is_directory = entry.kind == "directory"
    listed = file_item(
        item.path,
        is_directory=is_directory,
        size=entry.size,
        mode=entry.mode,
        mtime_ns=entry.mtime_ns,
    )
    if is_directory:
        del listed["modified_at"]  # manifests do not contain it
    return listed
