"""Comparison of a work_dir with its known state, which updates the state and stores contents."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from beray.server.storage.shortage import is_shortage
from beray.server.workspace import tree
from beray.server.workspace.history import manifest
from beray.server.workspace.history.blobs import BlobWriter
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.file_contents import (
    FileContents,
    FileReplaced,
    Signature,
    StoredFile,
    signature,
)
from beray.server.workspace.history.owner_access import OwnerAccess
from beray.server.workspace.history.work_tree import (
    Directory,
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


class Problem(NamedTuple):
    """File or directory whose content is not stored, or may be inconsistent."""

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

    def totals(self) -> tuple[Totals, int]:
        """Return the numbers of the whole work_dir, and the number of all entries."""
        files = size = not_stored = directories = 0
        waiting = [self.root]
        while waiting:
            directory = waiting.pop()
            directories += 1
            files += directory.totals.files
            size += directory.totals.bytes
            not_stored += directory.totals.not_stored
            waiting.extend(directory.children.values())
        return Totals(files, size, not_stored), files + directories


class WorkDirScan:
    """Scan that updates a ``KnownWorkDir``. Used once; after an error the state is unusable.

    Args:
        work_dir: Descriptor of the work_dir.
        known: State to update.
        writer: Writer of the blobs.
        contents: Reader of the contents.
        trusted: Entries by path that are on disk with certainty, if mode, size and time are theirs.

    Attributes:
        problems: Changed files whose content is not stored, or may be inconsistent, and
            directories that cannot be read; at most ``MAX_PROBLEMS``.
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
        checked = sorted({*paths, *self._known.unsettled})
        self._known.unsettled.clear()
        changed: set[PathParts] = set()
        last: PathParts | None = None
        for path in checked:
            if last is not None and path[: len(last)] == last:
                continue  # below another path
            last = path
            directory = self._check(path)
            while directory and directory not in changed:
                changed.add(directory)
                directory = directory[:-1]
        # Deepest first: the manifest of a directory contains the digests of those in it.
        for path in sorted(changed, key=len, reverse=True):
            self._store_directory(path)
        self._finish()

    def _finish(self) -> None:
        self._known.node = self._known.root.store(self._writer)

    def _check(self, path: PathParts) -> PathParts:
        """Compare the entry at a path; return the directory whose entries may have changed.

        If the directory of the entry is new or not accessible, it is compared instead.
        """
        while path:
            parent = self._known.root
            for depth, name in enumerate(path[:-1]):
                child = parent.children.get(name)
                if child is None:
                    path = path[: depth + 1]
                    break
                parent = child
            try:
                directory, status = self._open(path)
            except OSError as error:
                if is_shortage(error):
                    raise
                path = path[:-1]
                continue
            try:
                if status is None:
                    parent.remove(path[-1])
                else:
                    self._compare(parent, tree.TreeEntry(b"/".join(path), directory, status))
            finally:
                os.close(directory)
            return path[:-1]
        self._scan_directory((), self._known.root)
        return ()

    def _open(self, path: PathParts) -> tuple[int, os.stat_result | None]:
        """Return the open directory of an entry, and the status of the entry if it exists.

        Raises:
            OSError: The directory was removed or replaced, or is not accessible.
        """
        directory = open_directory(self._work_dir, path[:-1])
        try:
            return directory, os.stat(path[-1], dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return directory, None
        except OSError:
            os.close(directory)
            raise

    def _compare(self, parent: Directory, entry: tree.TreeEntry) -> None:
        """Compare an entry with everything below it."""
        if not entry.is_directory:
            self._scan_entry(parent, entry)
            return
        child = parent.children.get(entry.name) or Directory()
        with OwnerAccess(self._work_dir) as access:
            self._grant(access, entry, child)
            self._scan_directory(tuple(entry.path.split(b"/")), child)
        mode = entry.status.st_mode & file_modes.BITS
        parent.put(entry.name, known_directory(mode, child.store(self._writer)), child)

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
        node = child.store(self._writer)
        parent.put(path[-1], known_directory(manifest.mode_of(before.state), node), child)

    def _scan_directory(self, path: PathParts, directory: Directory) -> None:
        """Compare all entries below a directory, and store the manifests of its subdirectories."""
        levels = [_Level(b"/".join(path), directory)]
        with OwnerAccess(self._work_dir) as access, closing(self._walk(path)) as entries:
            for entry in entries:
                parent = entry.path.rpartition(b"/")[0]
                while levels[-1].path != parent:
                    self._close(levels, access)
                level = levels[-1]
                level.seen.add(entry.name)
                if entry.is_directory:
                    child = level.directory.children.get(entry.name) or Directory()
                    self._grant(access, entry, child)
                    levels.append(_Level(entry.path, child, entry.status.st_mode))
                else:
                    self._scan_entry(level.directory, entry)
            while len(levels) > 1:
                self._close(levels, access)
        levels[0].remove_unseen()

    def _grant(self, access: OwnerAccess, entry: tree.TreeEntry, directory: Directory) -> None:
        """Make a directory readable; if that is not possible, report it once."""
        is_readable = access.grant(entry)
        if not is_readable and directory.is_readable:
            self._report(entry.path, "the directory cannot be read")
        directory.is_readable = is_readable

    def _report(self, path: bytes, reason: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(path, reason))

    def _walk(self, path: PathParts) -> Generator[tree.TreeEntry, None, None]:
        try:
            yield from tree.walk(self._work_dir, path, special=True)
        except OSError as error:
            # The directory was removed, or replaced by a link; the next scan finds that.
            if is_shortage(error) or not path:
                raise

    def _close(self, levels: list[_Level], access: OwnerAccess) -> None:
        """Store the manifest of the last directory, and enter it in the directory above."""
        level = levels.pop()
        access.revoke(level.path)
        level.remove_unseen()
        name = level.path.rpartition(b"/")[2]
        mode = level.mode & file_modes.BITS
        node = level.directory.store(self._writer)
        levels[-1].directory.put(name, known_directory(mode, node), level.directory)

    def _scan_entry(self, directory: Directory, entry: tree.TreeEntry) -> None:
        """Compare an entry that is not a directory."""
        known = directory.get(entry.name)
        current = signature(entry.status)
        if known is not None and known.signature == current:
            return
        try:
            stored = self._read(entry, current)
        except FileReplaced:
            directory.remove(entry.name)
            self._known.unsettled.add(tuple(entry.path.split(b"/")))
            return
        found = known_entry(stored.entry, stored.signature)
        if stored.problem is not None and (known is None or known.state != found.state):
            self._report(entry.path, stored.problem)
        if stored.signature is None and stored.entry.is_stored:
            self._known.unsettled.add(tuple(entry.path.split(b"/")))
        directory.put(entry.name, found)

    def _read(self, entry: tree.TreeEntry, current: Signature) -> StoredFile:
        """Return an entry whose content, if any, is stored."""
        mode = entry.status.st_mode
        if stat.S_ISLNK(mode):
            try:
                target = os.readlink(entry.name, dir_fd=entry.directory)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EINVAL):
                    raise
                raise FileReplaced from None
            return StoredFile(Entry("link", target=target), current)
        if not stat.S_ISREG(mode):
            return StoredFile(Entry("special", mode & file_modes.BITS), current)
        trusted = self._trusted_entry(entry)
        return trusted or self._contents.store(entry.directory, entry.name, entry.status)

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
