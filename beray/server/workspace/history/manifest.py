"""Manifests: the entries of directories as trees of small blobs.

The manifest of a directory is a node. Up to ``MAX_BUCKET_ENTRIES`` entries are in the node itself.
Otherwise the node refers to buckets, and the CRC-32 of a name selects the bucket of its entry. A
change of one entry therefore changes one bucket, the node, and those of the directories above,
however many entries there are. Equal directories have equal digests.

Format, with little-endian numbers:

- node: ``BRD1``, the number of bits that select a bucket (1 byte), the number of entries (4), then
  the records (0 bits), or the digests of the 2 ** bits buckets. The digest of an empty bucket is
  zero.
- bucket: ``BRB1``, then the records, sorted by name.
- record: lengths of the name and of the state (2 and 2), name, state.
- state: kind (1), mode (2), size (8), time of modification in seconds (8) and nanoseconds (4), then
  the digest of a file, the digest of a large file and that of its list of chunks, the digest of a
  directory's node, or the target of a link.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from beray.server.workspace.history.entries import Entry, EntryKind
from beray.server.workspace.history.errors import DamagedContent

MAX_BUCKET_ENTRIES: Final = 256
"""Average number of entries in a bucket from which on the number of buckets doubles."""
DIGEST_BYTES: Final = 32
MAX_LINK_BYTES: Final = 4096

_NODE: Final = b"BRD1"
_BUCKET: Final = b"BRB1"
_NODE_HEADER: Final = struct.Struct("<4sBI")
_RECORD_HEADER: Final = struct.Struct("<HH")
_STATE: Final = struct.Struct("<BHQqI")
_SECOND_NS: Final = 1_000_000_000
_NO_BUCKET: Final = bytes(DIGEST_BYTES)
_MAX_BITS: Final = 24

_FILE, _LARGE_FILE, _UNSTORED_FILE, _DIRECTORY, _LINK, _SPECIAL = range(1, 7)
_KINDS: Final[dict[int, EntryKind]] = {
    _FILE: "file",
    _LARGE_FILE: "file",
    _UNSTORED_FILE: "file",
    _DIRECTORY: "directory",
    _LINK: "link",
    _SPECIAL: "special",
}


def encode_state(entry: Entry) -> bytes:
    """Return the state of an entry in the format of a record."""
    match entry.kind:
        case "file" if not entry.digest:
            kind = _UNSTORED_FILE
        case "file":
            kind = _LARGE_FILE if entry.reference else _FILE
        case "directory":
            kind = _DIRECTORY
        case "link":
            kind = _LINK
        case "special":
            kind = _SPECIAL
    # Nanoseconds alone would not cover all times of 64-bit file systems.
    header = _STATE.pack(kind, entry.mode, entry.size, *divmod(entry.mtime_ns, _SECOND_NS))
    return b"".join((header, entry.digest, entry.reference, entry.target))


def decode_state(state: bytes) -> Entry:
    """Return the entry of a state.

    Raises:
        DamagedContent: The state is invalid.
    """
    try:
        code, mode, size, seconds, nanoseconds = _STATE.unpack_from(state)
        kind = _KINDS[code]
    except (struct.error, KeyError):
        raise DamagedContent("a manifest is invalid") from None
    mtime_ns = seconds * _SECOND_NS + nanoseconds
    rest = state[_STATE.size :]
    match code:
        case 1:  # _FILE
            return Entry(kind, mode, size, mtime_ns, digest=rest)
        case 2:  # _LARGE_FILE
            digest, chunks = rest[:DIGEST_BYTES], rest[DIGEST_BYTES:]
            return Entry(kind, mode, size, mtime_ns, digest=digest, reference=chunks)
        case 4:  # _DIRECTORY
            return Entry(kind, mode, size, mtime_ns, reference=rest)
    return Entry(kind, mode, size, mtime_ns, target=rest)


def is_directory(state: bytes) -> bool:
    """Return True if a state is that of a directory."""
    return state[0] == _DIRECTORY


def mode_of(state: bytes) -> int:
    """Return the permission bits in a state."""
    mode: int = _STATE.unpack_from(state)[1]
    return mode


def bits_for(count: int) -> int:
    """Return the number of bits that select a bucket in a directory of ``count`` entries."""
    return max(0, (count - 1) // MAX_BUCKET_ENTRIES).bit_length()


def bucket_of(name: bytes, bits: int) -> int:
    """Return the index of the bucket of a name."""
    return zlib.crc32(name) & ((1 << bits) - 1)


def encode_bucket(states: dict[bytes, bytes]) -> bytes:
    """Return a bucket, or an empty string for no entries.

    Args:
        states: States by name.
    """
    return _BUCKET + _encode_records(states) if states else b""


def encode_small_node(states: dict[bytes, bytes]) -> bytes:
    """Return a node that contains its entries."""
    return _NODE_HEADER.pack(_NODE, 0, len(states)) + _encode_records(states)


def encode_large_node(bits: int, count: int, buckets: list[bytes]) -> bytes:
    """Return a node that refers to buckets.

    Args:
        bits: Number of bits that select a bucket.
        count: Number of entries.
        buckets: Digests of the buckets; an empty string for an empty bucket.
    """
    header = _NODE_HEADER.pack(_NODE, bits, count)
    return header + b"".join(digest or _NO_BUCKET for digest in buckets)


def _encode_records(states: dict[bytes, bytes]) -> bytes:
    parts: list[bytes] = []
    for name in sorted(states):
        state = states[name]
        parts += (_RECORD_HEADER.pack(len(name), len(state)), name, state)
    return b"".join(parts)


class Node(NamedTuple):
    """Decoded node of a directory.

    Attributes:
        bits: Number of bits that select a bucket.
        states: States by name if ``bits`` is 0.
        buckets: Digests of the buckets otherwise; an empty string for an empty bucket.
    """

    bits: int
    states: dict[bytes, bytes]
    buckets: list[bytes]

    def bucket_states(self, read: Callable[[bytes], bytes]) -> Iterator[dict[bytes, bytes]]:
        """Yield the states in each bucket.

        Args:
            read: Returns the blob with a digest.
        """
        if not self.bits:
            yield self.states
        for digest in self.buckets:
            if digest:
                yield decode_bucket(read(digest))


def decode_node(data: bytes) -> Node:
    """Return the node in a blob.

    Raises:
        DamagedContent: The blob is not a node.
    """
    try:
        magic, bits, _ = _NODE_HEADER.unpack_from(data)
    except struct.error:
        magic = b""
        bits = 0
    if magic != _NODE or bits > _MAX_BITS:
        raise DamagedContent("a manifest is invalid")
    rest = data[_NODE_HEADER.size :]
    if not bits:
        return Node(0, _decode_records(rest), [])
    if len(rest) != DIGEST_BYTES << bits:
        raise DamagedContent("a manifest is incomplete")
    digests = [rest[at : at + DIGEST_BYTES] for at in range(0, len(rest), DIGEST_BYTES)]
    return Node(bits, {}, [b"" if digest == _NO_BUCKET else digest for digest in digests])


def decode_bucket(data: bytes) -> dict[bytes, bytes]:
    """Return the states in a bucket by name.

    Raises:
        DamagedContent: The blob is not a bucket.
    """
    if not data.startswith(_BUCKET):
        raise DamagedContent("a manifest is invalid")
    return _decode_records(data[len(_BUCKET) :])


def _decode_records(data: bytes) -> dict[bytes, bytes]:
    states: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        try:
            name_length, state_length = _RECORD_HEADER.unpack_from(data, at)
        except struct.error:
            raise DamagedContent("a manifest is incomplete") from None
        at += _RECORD_HEADER.size
        end = at + name_length + state_length
        if end > len(data):
            raise DamagedContent("a manifest is incomplete")
        states[data[at : at + name_length]] = data[at + name_length : end]
        at = end
    return states


class Chunk(NamedTuple):
    """Part of a large file."""

    digest: bytes
    size: int


_CHUNK: Final = struct.Struct("<32sI")


def encode_chunks(chunks: list[Chunk]) -> bytes:
    """Return the list of chunks of a large file as a blob."""
    return b"".join(_CHUNK.pack(*chunk) for chunk in chunks)


def decode_chunks(data: bytes) -> list[Chunk]:
    """Return the list of chunks in a blob.

    Raises:
        DamagedContent: The blob is not a list of chunks.
    """
    if len(data) % _CHUNK.size:
        raise DamagedContent("a list of chunks is incomplete")
    return [Chunk(*fields) for fields in _CHUNK.iter_unpack(data)]
