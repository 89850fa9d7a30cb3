"""Reading of checkpoints: entries, contents, and the differences of two checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from beray.server.workspace.history import manifest
from beray.server.workspace.history.blobs import BlobStore
from beray.server.workspace.history.entries import Entry
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.path_selection import PathSelection
from beray.server.workspace.safe_open import MissingPath, quote_path
from beray.transfers import wire_names

Parts = Sequence[bytes]
"""Parts of a path relative to the work_dir."""


class CheckpointEntry(NamedTuple):
    """Entry of a checkpoint at a path, separated by ``/``."""

    path: bytes
    entry: Entry

    @property
    def name(self) -> bytes:
        """Last part of the path."""
        return self.path.rpartition(b"/")[2]


class Change(NamedTuple):
    """Difference of one path between two checkpoints; None: nothing is at the path."""

    path: bytes
    old: Entry | None
    new: Entry | None


class CheckpointReader:
    """Reader of the checkpoints of one user. Methods block; called in threads.

    All methods raise ``DamagedContent`` if a stored blob is missing or damaged, and ``OSError`` if
    the object store cannot be read.
    """

    def __init__(self, blobs: BlobStore, user_id: int) -> None:
        self._blobs = blobs
        self._user_id = user_id

    def entry(self, root: bytes, parts: Parts) -> Entry:
        """Return the entry at a path; the work_dir itself is a directory.

        Args:
            root: Digest of the manifest of the checkpoint.
            parts: Parts of the path.

        Raises:
            MissingPath: Nothing is at the path.
        """
        entry = Entry("directory", 0o700, reference=root)
        for name in parts:
            found = self._state(entry.reference, name) if entry.kind == "directory" else None
            if found is None:
                path = quote_path(wire_names.encode(b"/".join(parts)))
                raise MissingPath(f"{path} does not exist in this checkpoint")
            entry = manifest.decode_state(found)
        return entry

    def walk(
        self, node: bytes, prefix: Parts = (), *, depth: int | None = None, after: Parts = ()
    ) -> Iterator[CheckpointEntry]:
        """Yield the entries below a directory, sorted by parts, directories before their contents.

        Args:
            node: Digest of the manifest of the directory.
            prefix: Parts of its path.
            depth: Number of levels; None for all.
            after: Position below the directory after which the walk starts.
        """
        start = b"".join(part + b"/" for part in prefix)
        levels = [_Level(start, self._sorted(node), after)]
        while levels:
            level = levels[-1]
            item = level.next()
            if item is None:
                levels.pop()
                continue
            name, state, rest = item
            entry = manifest.decode_state(state)
            path = level.prefix + name
            if rest is None:
                yield CheckpointEntry(path, entry)
            if entry.kind == "directory" and (depth is None or len(levels) < depth):
                levels.append(_Level(path + b"/", self._sorted(entry.reference), rest or ()))

    def changes(
        self, old: bytes, new: bytes, selection: PathSelection | None = None
    ) -> Iterator[Change]:
        """Yield the differences of two manifests, sorted by path.

        Directories with equal manifests are not read. Entries that differ only in the time of
        their modification are included.

        Args:
            old: Digest of the manifest before; empty for an empty work_dir.
            new: Digest of the manifest after; empty for an empty work_dir.
            selection: Changes outside of it are omitted, and their manifests are not read.
        """
        waiting = [iter(self._differing(b"", old, new))]
        while waiting:
            change = next(waiting[-1], None)
            if change is None:
                waiting.pop()
                continue
            if selection is not None and selection.relation(change.path) == "outside":
                continue
            before, after = _node(change.old), _node(change.new)
            if not _is_equal_directory(change):
                yield change
            if before != after:
                waiting.append(iter(self._differing(change.path + b"/", before, after)))

    def content(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content of a stored file in pieces.

        Raises:
            DamagedContent: The content is missing or damaged; yielded pieces are correct.
        """
        whole = hashlib.sha256()
        for piece in self.pieces(entry):
            data = self.read_piece(piece)
            whole.update(data)
            yield data
        if whole.digest() != entry.digest:
            raise DamagedContent("the stored content is damaged")

    def read(self, entry: Entry) -> bytes:
        """Return the content of a file, or the target of a link."""
        return entry.target if entry.kind == "link" else b"".join(self.content(entry))

    def add_references(self, root: bytes, live: set[bytes], expanded: set[bytes]) -> None:
        """Add the digests of all blobs of a manifest to a set.

        Args:
            root: Digest of the manifest.
            live: Digests of blobs.
            expanded: Digests of the manifests and lists of chunks whose blobs are in ``live``. A
                file may have the same content as one of them, so ``live`` does not imply this.
        """
        waiting = [root]
        while waiting:
            digest = waiting.pop()
            live.add(digest)
            if digest in expanded:
                continue
            expanded.add(digest)
            node = manifest.decode_node(self._blobs.read(self._user_id, digest))
            buckets = [bucket for bucket in node.buckets if bucket and bucket not in expanded]
            live.update(buckets)
            expanded.update(buckets)
            self._blobs.prefetch(self._user_id, buckets)
            nodes: list[bytes] = []
            for states in [node.states, *map(self._bucket, buckets)]:
                for state in states.values():
                    entry = manifest.decode_state(state)
                    if entry.kind == "directory":
                        nodes.append(entry.reference)
                    elif entry.kind == "file":
                        self._add_content(entry, live, expanded)
            self._blobs.prefetch(self._user_id, (node for node in nodes if node not in expanded))
            waiting += reversed(nodes)

    def _add_content(self, entry: Entry, live: set[bytes], expanded: set[bytes]) -> None:
        if not entry.digest:
            return
        if not entry.reference:
            live.add(entry.digest)
            return
        live.add(entry.reference)
        if entry.reference not in expanded:
            expanded.add(entry.reference)
            live.update(chunk.digest for chunk in self._chunks(entry))

    def pieces(self, entry: Entry) -> list[manifest.Chunk]:
        """Return the chunks of a file; a small file is one chunk.

        Raises:
            DamagedContent: The content is not stored, or the list of chunks is damaged.
        """
        if not entry.is_stored:
            raise DamagedContent("the content is not stored")
        if not entry.reference:
            return [manifest.Chunk(entry.digest, entry.size)]
        return self._chunks(entry)

    def prefetch(self, entries: Iterable[Entry]) -> None:
        """Read the contents of small files that will be read soon."""
        self._blobs.prefetch(
            self._user_id,
            (entry.digest for entry in entries if entry.digest and not entry.reference),
        )

    def read_piece(self, piece: manifest.Chunk) -> bytes:
        """Return the content of a chunk."""
        return self._blobs.read(self._user_id, piece.digest)

    def _chunks(self, entry: Entry) -> list[manifest.Chunk]:
        return manifest.decode_chunks(self._blobs.read(self._user_id, entry.reference))

    def _load(self, node: bytes) -> manifest.Node:
        if not node:
            return manifest.Node(0, {}, [])
        return manifest.decode_node(self._blobs.read(self._user_id, node))

    def _bucket(self, digest: bytes) -> dict[bytes, bytes]:
        return manifest.decode_bucket(self._blobs.read(self._user_id, digest)) if digest else {}

    def _state(self, node: bytes, name: bytes) -> bytes | None:
        loaded = self._load(node)
        if not loaded.bits:
            return loaded.states.get(name)
        return self._bucket(loaded.buckets[manifest.bucket_of(name, loaded.bits)]).get(name)

    def _all_states(self, node: manifest.Node) -> dict[bytes, bytes]:
        if not node.bits:
            return node.states
        self._blobs.prefetch(self._user_id, filter(None, node.buckets))
        return {
            name: state for bucket in node.buckets for name, state in self._bucket(bucket).items()
        }

    def _sorted(self, node: bytes) -> list[tuple[bytes, bytes]]:
        """Return the names and states in a directory in order; read its subdirectories soon."""
        states = sorted(self._all_states(self._load(node)).items())
        self._prefetch_nodes(state for _, state in states)
        return states

    def _prefetch_nodes(self, states: Iterable[bytes]) -> None:
        entries = (manifest.decode_state(state) for state in states if manifest.is_directory(state))
        self._blobs.prefetch(self._user_id, (entry.reference for entry in entries))

    def _differing(self, prefix: bytes, old: bytes, new: bytes) -> list[Change]:
        """Return the entries of one directory that differ, sorted by name."""
        before, after = self._load(old), self._load(new)
        if before.bits and before.bits == after.bits:
            pairs = [
                (self._bucket(one), self._bucket(other))
                for one, other in zip(before.buckets, after.buckets, strict=True)
                if one != other
            ]
        else:
            pairs = [(self._all_states(before), self._all_states(after))]
        found = [
            Change(prefix + name, _decode(one.get(name)), _decode(other.get(name)))
            for one, other in pairs
            for name in one.keys() | other.keys()
            if one.get(name) != other.get(name)
        ]
        sides = (side for change in found for side in (change.old, change.new))
        self._blobs.prefetch(self._user_id, filter(None, map(_node, sides)))
        return sorted(found, key=lambda change: change.path)


class _Level:
    """Directory of a walk, with the entries that were not visited yet."""

    def __init__(self, prefix: bytes, items: list[tuple[bytes, bytes]], after: Parts) -> None:
        self.prefix = prefix
        self._items = iter(items)
        self._after = after

    def next(self) -> tuple[bytes, bytes, Parts | None] | None:
        """Return the next name and its state, or None at the end.

        The third value is not None for a directory above the position ``after``, which itself was
        visited: the position in it.
        """
        for name, state in self._items:
            if self._after and name < self._after[0]:
                continue
            if self._after and name == self._after[0]:
                return name, state, self._after[1:]
            return name, state, None
        return None


def _decode(state: bytes | None) -> Entry | None:
    return None if state is None else manifest.decode_state(state)


def _node(entry: Entry | None) -> bytes:
    return entry.reference if entry is not None and entry.kind == "directory" else b""


def _is_equal_directory(change: Change) -> bool:
    """Return True if both sides are directories with the same mode, whose contents differ."""
    return (
        change.old is not None
        and change.new is not None
        and change.old.kind == change.new.kind == "directory"
        and change.old.mode == change.new.mode
    )
