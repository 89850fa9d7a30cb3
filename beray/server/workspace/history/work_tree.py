"""Known state of a work_dir: the entries of all directories, and their manifests.

The state is kept in memory while a task is used, so that a checkpoint reads only changed files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from beray.server.workspace.history import manifest
from beray.server.workspace.history.blobs import BlobWriter
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.file_contents import Signature


class KnownEntry(NamedTuple):
    """Entry of a directory.

    Attributes:
        state: State in the format of a manifest.
        signature: Signature when the content was read; None if it has to be read again.
        size: Size of a file in bytes; -1 if its content is not stored; 0 for others.
    """

    state: bytes
    signature: Signature | None
    size: int


_NOT_STORED: Final = -1


class Totals(NamedTuple):
    """Numbers of a whole work_dir.

    Attributes:
        files: Number of files and links.
        bytes: Size of the stored files.
        not_stored: Number of files whose content is not stored.
    """

    files: int = 0
    bytes: int = 0
    not_stored: int = 0

    def plus(self, entry: KnownEntry | None, sign: int = 1) -> Totals:
        """Return the numbers with an entry that is not a directory, or without it."""
        if entry is None:
            return self
        return Totals(
            self.files + sign,
            self.bytes + sign * max(entry.size, 0),
            self.not_stored + sign * (entry.size == _NOT_STORED),
        )


class Directory:
    """Entries of one directory, in the buckets of its manifest.

    Attributes:
        children: Subdirectories by name.
        totals: Numbers of the entries of this directory that are not directories.
        is_readable: False if its entries are not known, because they could not be read.
    """

    __slots__ = (
        "_bits", "_buckets", "_count", "_digests", "_node", "children", "is_readable", "totals",
    )  # fmt: skip

    def __init__(self) -> None:
        self.children: dict[bytes, Directory] = {}
        self.totals = Totals()
        self.is_readable = True
        self._bits = 0
        self._count = 0
        self._buckets: list[dict[bytes, KnownEntry]] = [{}]
        self._digests: list[bytes | None] = [None]
        self._node: bytes | None = None

    def get(self, name: bytes) -> KnownEntry | None:
        """Return an entry by name."""
        return self._buckets[manifest.bucket_of(name, self._bits)].get(name)

    def names(self) -> Iterator[bytes]:
        """Return an iterator over the names of all entries."""
        return (name for bucket in self._buckets for name in bucket)

    def items(self) -> Iterator[tuple[bytes, KnownEntry]]:
        """Return an iterator over the names and entries."""
        return (item for bucket in self._buckets for item in bucket.items())

    def put(self, name: bytes, entry: KnownEntry, child: Directory | None = None) -> None:
        """Add or replace an entry.

        Args:
            name: Name of the entry.
            entry: The entry.
            child: Entries of the entry, if it is a directory.
        """
        bucket = manifest.bucket_of(name, self._bits)
        before = self._buckets[bucket].get(name)
        if name not in self.children:
            self.totals = self.totals.plus(before, -1)
        if child is None:
            self.children.pop(name, None)
            self.totals = self.totals.plus(entry)
        else:
            self.children[name] = child
        self._count += before is None
        self._buckets[bucket][name] = entry
        if before is None or before.state != entry.state:
            self._digests[bucket] = self._node = None

    def remove(self, name: bytes) -> None:
        """Remove an entry, if it exists."""
        bucket = manifest.bucket_of(name, self._bits)
        before = self._buckets[bucket].pop(name, None)
        if before is None:
            return
        if self.children.pop(name, None) is None:
            self.totals = self.totals.plus(before, -1)
        self._count -= 1
        self._digests[bucket] = self._node = None

    def store(self, writer: BlobWriter) -> bytes:
        """Store the changed parts of the manifest; return the digest of its node."""
        if self._node is not None:
            return self._node
        bits = manifest.bits_for(self._count)
        if bits != self._bits:
            self._distribute(bits)
        if not bits:
            self._node = writer.add(manifest.encode_small_node(_states(self._buckets[0])))
            return self._node
        digests: list[bytes] = []
        for index, bucket in enumerate(self._buckets):
            digest = self._digests[index]
            if digest is None:
                data = manifest.encode_bucket(_states(bucket))
                digest = self._digests[index] = writer.add(data) if data else b""
            digests.append(digest)
        self._node = writer.add(manifest.encode_large_node(bits, self._count, digests))
        return self._node

    def _distribute(self, bits: int) -> None:
        """Distribute the entries to ``2 ** bits`` buckets."""
        buckets: list[dict[bytes, KnownEntry]] = [{} for _ in range(1 << bits)]
        for bucket in self._buckets:
            for name, entry in bucket.items():
                buckets[manifest.bucket_of(name, bits)][name] = entry
        self._bits, self._buckets = bits, buckets
        self._digests = [None] * len(buckets)


def _states(entries: dict[bytes, KnownEntry]) -> dict[bytes, bytes]:
    return {name: entry.state for name, entry in entries.items()}


def known_directory(mode: int, node: bytes, signature: Signature | None = None) -> KnownEntry:
    """Return the entry of a directory with the digest of its node."""
    state = manifest.encode_state(Entry("directory", mode, reference=node))
    return KnownEntry(state, signature, 0)


def known_entry(entry: Entry, signature: Signature | None) -> KnownEntry:
    """Return the entry of a file, link or special file."""
    size = entry.size if entry.is_stored else _NOT_STORED
    return KnownEntry(manifest.encode_state(entry), signature, size)
