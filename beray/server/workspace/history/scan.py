"""Comparison of a work_dir with its known state, which updates the state and stores contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from beray.server.storage.shortage import is_shortage
from beray.server.workspace import tree
from beray.server.workspace.history.blobs import BlobWriter
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.file_contents import FileContents, StoredFile, signature
from beray.server.workspace.history.work_tree import (
    Directory,
    KnownEntry,
    Totals,
    known_directory,
    known_entry,
)
from beray.server.workspace.safe_open import open_directory
from beray.transfers import file_modes

PathParts = tuple[bytes, ...]
"""Parts of a path relative to the work_dir."""
MAX_PROBLEMS: Final = 1000
"""Number of problems that are listed by path."""
_OWNER_ENTERS: Final = stat.S_IRUSR | stat.S_IXUSR


class Problem(NamedTuple):
    """File whose content is not stored, or may be inconsistent."""

    path: bytes
    reason: str


@dataclass(slots=True)
class KnownWorkDir:
    """Known state of a work_dir.

    Attributes:
        root: Entries of the work_dir.
        node: Digest of its manifest; empty before the first scan.
        unsettled: Paths to check in any case, because a change may be invisible in the signature.
    """

    root: Directory = field(default_factory=Directory)
    node: bytes = b""
    unsettled: set[PathParts] = field(default_factory=set)

    def totals(self) -> Totals:
        """Return the numbers of the whole work_dir."""
        files = size = not_stored = 0
        waiting = [self.root]
        while waiting:
            directory = waiting.pop()
            files += directory.totals.files
            size += directory.totals.bytes
            not_stored += directory.totals.not_stored
            waiting.extend(directory.children.values())
        return Totals(files, size, not_stored)


class WorkDirScan:
    """Scan that updates a ``KnownWorkDir``. Used once; after an error the state is unusable.

    Args:
        work_dir: Descriptor of the work_dir.
        known: State to update.
        writer: Writer of the blobs.
        contents: Reader of the contents.
        trusted: Entries by path that are on disk with certainty, if mode, size and time are theirs.

    Attributes:
        problems: Changed files whose content is not stored, or may be inconsistent; at most
            ``MAX_PROBLEMS``.
    """

    def __init__(
        self,
        work_dir: int,
        known: KnownWorkDir,
        *,
        writer: BlobWriter,
        contents: FileContents,
        trusted: Mapping[bytes, Entry] | None = None,
    ) -> None:
        self._work_dir = work_dir
        self._known = known
        self._writer = writer
        self._contents = contents
        self._trusted = trusted or {}
        self.problems: list[Problem] = []

    def scan_all(self) -> None:
        """Compare all entries."""
        self._known.unsettled.clear()
        self._scan_directory((), self._known.root)
        self._finish()

    def scan_paths(self, paths: Collection[PathParts]) -> None:
        """Compare the entries at some paths, with everything below them.

        Args:
            paths: Paths that may have changed.
        """
        checked = set(paths) | self._known.unsettled
        self._known.unsettled.clear()
        changed: set[PathParts] = set()
        for path in sorted(checked):
            if any(path[:end] in checked for end in range(len(path))):
                continue  # below another path
            directory = self._check(path)
            if directory is not None:
                changed.update(directory[:end] for end in range(1, len(directory) + 1))
        # Deepest first: the manifest of a directory contains the digests of those in it.
        for path in sorted(changed, key=len, reverse=True):
            self._store_directory(path)
        self._finish()

    def _finish(self) -> None:
        self._known.node = self._known.root.store(self._writer)

    def _check(self, path: PathParts) -> PathParts | None:
        """Compare the entry at a path; return the directory whose entries have changed."""
        if not path:
            self._scan_directory((), self._known.root)
            return ()
        parent = self._known.root
        for depth, name in enumerate(path[:-1]):
            child = parent.children.get(name)
            if child is None:
                # The directory is new: all of it is scanned.
                return self._check(path[: depth + 1])
            parent = child
        try:
            directory = open_directory(self._work_dir, path[:-1])
        except OSError as error:
            if is_shortage(error):
                raise
            # A directory above was removed, replaced or is not accessible.
            return self._check(path[:-1])
        try:
            try:
                status = os.stat(path[-1], dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                parent.remove(path[-1])
                return path[:-1]
            entry = tree.TreeEntry(b"/".join(path), directory, status)
            if not entry.is_directory:
                self._scan_entry(parent, entry)
                return path[:-1]
            child = parent.children.get(path[-1]) or Directory()
            with _Access() as access:
                access.grant(entry)
                self._scan_directory(path, child)
            self._put_directory(parent, entry, child)
            return path[:-1]
        finally:
            os.close(directory)

    def _store_directory(self, path: PathParts) -> None:
        parent = self._known.root
        for name in path[:-1]:
            if (child := parent.children.get(name)) is None:
                return
            parent = child
        child = parent.children.get(path[-1])
        before = parent.get(path[-1])
        if child is None or before is None:
            return
        mode = int.from_bytes(before.state[1:3], "little")
        parent.put(path[-1], known_directory(mode, child.store(self._writer)), child)

    def _put_directory(self, parent: Directory, entry: tree.TreeEntry, child: Directory) -> None:
        mode = entry.status.st_mode & file_modes.BITS
        parent.put(entry.name, known_directory(mode, child.store(self._writer)), child)

    def _scan_directory(self, path: PathParts, directory: Directory) -> None:
        """Compare all entries below a directory, and store the manifests of its subdirectories."""
        prefix = b"/".join(path)
        levels = [_Level(prefix, directory)]
        with _Access() as access, closing(self._walk(path)) as entries:
            for entry in entries:
                parent = entry.path.rpartition(b"/")[0]
                while levels[-1].path != parent:
                    self._close(levels)
                level = levels[-1]
                level.seen.add(entry.name)
                if entry.is_directory:
                    access.grant(entry)
                    child = level.directory.children.get(entry.name) or Directory()
                    levels.append(_Level(entry.path, child, entry.status.st_mode))
                else:
                    self._scan_entry(level.directory, entry)
            while len(levels) > 1:
                self._close(levels)
        levels[0].remove_unseen()

    def _walk(self, path: PathParts) -> Generator[tree.TreeEntry, None, None]:
        try:
            yield from tree.walk(self._work_dir, path, special=True)
        except OSError as error:
            # The directory was removed, or replaced by a link; the next scan finds that.
            if is_shortage(error) or not path:
                raise

    def _close(self, levels: list[_Level]) -> None:
        """Store the manifest of the last directory, and enter it in the directory above."""
        level = levels.pop()
        level.remove_unseen()
        name = level.path.rpartition(b"/")[2]
        mode = level.mode & file_modes.BITS
        node = level.directory.store(self._writer)
        levels[-1].directory.put(name, known_directory(mode, node), level.directory)

    def _scan_entry(self, directory: Directory, entry: tree.TreeEntry) -> None:
        known = directory.get(entry.name)
        current = signature(entry.status)
        if known is not None and known.signature == current:
            return
        with suppress(FileNotFoundError):
            directory.put(entry.name, self._read(entry, current))
            return
        directory.remove(entry.name)

    def _read(self, entry: tree.TreeEntry, current: tuple[int, ...]) -> KnownEntry:
        status = entry.status
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(entry.name, dir_fd=entry.directory)
            return known_entry(Entry("link", target=target), signature(status))
        if not stat.S_ISREG(status.st_mode):
            return known_entry(
                Entry("special", status.st_mode & file_modes.BITS), signature(status)
            )
        if (stored := self._trusted_entry(entry)) is None:
            stored = self._contents.store(entry.directory, entry.name, status)
        if stored.problem is not None and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(entry.path, stored.problem))
        if stored.signature is None:
            self._known.unsettled.add(tuple(entry.path.split(b"/")))
        return known_entry(stored.entry, stored.signature)

    def _trusted_entry(self, entry: tree.TreeEntry) -> StoredFile | None:
        found = self._trusted.get(entry.path)
        status = entry.status
        if found is None or (found.mode, found.size, found.mtime_ns) != (
            status.st_mode & file_modes.BITS,
            status.st_size,
            status.st_mtime_ns,
        ):
            return None
        self._writer.use([found.digest])
        return StoredFile(found, signature(status))


@dataclass(slots=True)
class _Level:
    """Directory that is being scanned."""

    path: bytes
    directory: Directory
    mode: int = 0
    seen: set[bytes] = field(default_factory=set)

    def remove_unseen(self) -> None:
        """Remove the entries that no longer exist."""
        gone = [name for name in self.directory.names() if name not in self.seen]
        for name in gone:
            self.directory.remove(name)


class _Access:
    """Directories without permissions for their owner, which get them during a scan.

    Only a server that is the owner and not root needs this. The modes are restored at the end.
    """

    def __init__(self) -> None:
        self._modes: list[tuple[int, bytes, int]] = []

    def __enter__(self) -> _Access:
        return self

    def __exit__(self, *_: object) -> None:
        for directory, name, mode in reversed(self._modes):
            with suppress(OSError):  # the task has removed it
                os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)
            os.close(directory)

    def grant(self, entry: tree.TreeEntry) -> None:
        """Permit the owner to read a directory until the end of the scan."""
        mode = stat.S_IMODE(entry.status.st_mode)
        if mode & _OWNER_ENTERS == _OWNER_ENTERS or not entry.status.st_uid == os.geteuid() != 0:
            return
        with suppress(OSError):
            os.chmod(
                entry.name, mode | _OWNER_ENTERS, dir_fd=entry.directory, follow_symlinks=False
            )
            self._modes.append((os.dup(entry.directory), entry.name, mode))
