"""States of work_dirs for tests of differences, with their contents in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.reader import Change

DIRECTORY = Entry("directory", mode=0o755)


class Contents:
    """Stored contents. ``reads`` are the digests of those that were read."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self._stored: dict[bytes, bytes] = {}

    def file(self, content: bytes, mode: int = 0o644, mtime_ns: int = 1) -> Entry:
        """Store a content and return the entry of a file."""
        digest = hashlib.sha256(content).digest()
        self._stored[digest] = content
        return Entry("file", mode, len(content), mtime_ns, digest)

    def damage(self, entry: Entry) -> None:
        """Remove the content of a file."""
        del self._stored[entry.digest]

    def read(self, entry: Entry) -> bytes:
        """Return the content of a file."""
        self.reads.append(entry.digest)
        if entry.digest not in self._stored:
            raise DamagedContent("the blob is missing")
        return self._stored[entry.digest]


def link(target: bytes) -> Entry:
    """Return the entry of a link."""
    return Entry("link", target=target)


def not_stored(size: int, mtime_ns: int = 1) -> Entry:
    """Return the entry of a file without stored content."""
    return Entry("file", 0o644, size, mtime_ns)


def with_parents(entries: Mapping[bytes, Entry]) -> dict[bytes, Entry]:
    """Return entries with those of their directories."""
    found: dict[bytes, Entry] = {}
    for path in entries:
        parts = path.split(b"/")
        for count in range(1, len(parts)):
            found.setdefault(b"/".join(parts[:count]), DIRECTORY)
    return found | dict(entries)


def changes(old: Mapping[bytes, Entry], new: Mapping[bytes, Entry]) -> list[Change]:
    """Return the changes of paths between two states."""
    old, new = with_parents(old), with_parents(new)
    return [
        Change(path, old.get(path), new.get(path))
        for path in old.keys() | new.keys()
        if old.get(path) != new.get(path)
    ]
