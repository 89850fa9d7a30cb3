"""Content-addressed blobs of users, in packs in the object store.

Packs keep the number of objects small: a checkpoint of 50,000 small files writes a few objects.
Each blob is compressed on its own, so that it can be read alone. Equal blobs of a user are stored
once. Blobs of different users are independent, so nobody can find out what others have stored.

A collection removes blobs that no checkpoint refers to while checkpoints are being written: blobs
that an unfinished checkpoint has written, or has found stored, are protected. See ``collection``.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import zstandard

from beray.server.objects.store import BlockingObjects, ObjectNotFound
from beray.server.storage.blobs import (
    MAX_DIGESTS,
    BlobLocation,
    BlobRepository,
    NewBlob,
    PackUse,
)
from beray.server.storage.database_errors import StorageError
from beray.server.workspace.history.errors import DamagedContent

KEY_PREFIX: Final = "history"
"""First part of the keys of packs. The second part is the id of the user."""
PACK_BYTES: Final = 8 * 1024 * 1024
"""Size of the contents after which a pack is written."""
PACK_BLOBS: Final = 2000
"""Maximum number of blobs in a pack, which bounds the transaction that records them."""
COMPRESSION_THRESHOLD: Final = 128
"""Bytes from which on blobs are compressed."""
COMPRESSION_LEVEL: Final = 3
CACHE_BYTES: Final = 32 * 1024 * 1024
"""Size of the cache of small blobs, which are mostly manifests."""
MAX_CACHED_BYTES: Final = 128 * 1024
MAX_BLOB_BYTES: Final = 256 * 1024 * 1024
"""Size that no blob has; a larger size in a compressed blob is damage."""
PREFETCHED_BLOBS: Final = 2000
PREFETCHED_BYTES: Final = 8 * 1024 * 1024
"""Number and compressed size of the blobs that are read in advance; the cache has space for them,
unless they compress extremely well."""
MAX_GAP_BYTES: Final = 64 * 1024
"""Unneeded bytes in a pack between two blobs that are read in one request."""
RETRY_SECONDS: Final = 60.0
"""Time after a failure of the store in which no pack is written; runs do not wait for it."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _UserState:
    """Blobs of one user that a collection must keep.

    Attributes:
        lock: Held while this state is used, and while blobs are removed.
        writers: Unfinished writers.
        finished: Blobs of the writers that finished during a collection; None between collections.
        pinned: Manifests that are being read, with the number of readers.
    """

    lock: threading.Lock = field(default_factory=threading.Lock)
    writers: set[BlobWriter] = field(default_factory=set)
    finished: set[bytes] | None = None
    pinned: Counter[bytes] = field(default_factory=Counter)


class BlobStore:
    """Blobs of all users. Methods block; called in threads.

    Args:
        blobs: Repository of the locations.
        objects: Store of the packs.
        limit_bytes: Maximum size of the packs of one user.
        has_space: Returns True if the disk has space for a number of bytes.
    """

    def __init__(
        self,
        *,
        blobs: BlobRepository,
        objects: BlockingObjects,
        limit_bytes: int,
        has_space: Callable[[int], bool],
    ) -> None:
        self.blobs = blobs
        self.objects = objects
        self.limit_bytes = limit_bytes
        self.has_space = has_space
        self._states: dict[int, _UserState] = {}
        self._states_lock = threading.Lock()
        self._cache: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()
        self._cached_bytes = 0
        self._cache_lock = threading.Lock()
        self._failed_until = 0.0

    def state(self, user_id: int) -> _UserState:
        """Return the state of a user that writers, readers and collections share."""
        with self._states_lock:
            return self._states.setdefault(user_id, _UserState())

    @contextmanager
    def writing(self, user_id: int) -> Iterator[BlobWriter]:
        """Yield a writer. Its blobs are protected until the end of the block.

        The checkpoint that refers to the blobs has to be stored within the block.
        """
        state = self.state(user_id)
        writer = BlobWriter(self, user_id, state)
        with state.lock:
            state.writers.add(writer)
        try:
            yield writer
        finally:
            with state.lock:
                state.writers.discard(writer)
                if state.finished is not None:
                    state.finished |= writer.used

    @contextmanager
    def pinned(self, user_id: int, root: bytes) -> Iterator[None]:
        """Protect the blobs of a manifest during the block."""
        state = self.state(user_id)
        with state.lock:
            state.pinned[root] += 1
        try:
            yield
        finally:
            with state.lock:
                state.pinned[root] -= 1
                if not state.pinned[root]:
                    del state.pinned[root]

    def read(self, user_id: int, digest: bytes) -> bytes:
        """Return a blob.

        Raises:
            DamagedContent: The blob is missing, or its content is not that of the digest.
            OSError: The object store cannot be read.
        """
        key = (user_id, digest)
        with self._cache_lock:
            if (cached := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return cached
        data = self._load(user_id, digest)
        self._keep(key, data)
        return data

    def prefetch(self, user_id: int, digests: Iterable[bytes]) -> None:
        """Read small blobs that will be read soon, those in one pack together.

        Blobs that cannot be read are skipped; ``read`` reports them.

        Args:
            user_id: User of the blobs.
            digests: Digests, of which the first ``PREFETCHED_BLOBS`` are used.

        Raises:
            OSError: The object store cannot be read.
        """
        wanted = list(itertools.islice(digests, PREFETCHED_BLOBS))
        with self._cache_lock:
            wanted = [digest for digest in wanted if (user_id, digest) not in self._cache]
        if len(wanted) < 2:
            return
        small: list[tuple[bytes, BlobLocation]] = []
        left = PREFETCHED_BYTES
        for batch in batches(wanted):
            for digest, location in self.blobs.locate(user_id, batch).items():
                left -= location.length
                if location.length <= MAX_CACHED_BYTES and left >= 0:
                    small.append((digest, location))
        for group in _adjacent(small):
            first, last = group[0][1], group[-1][1]
            try:
                data = self.objects.read_bytes(
                    first.key, first.start, last.start + last.length - first.start
                )
            except (ObjectNotFound, FileNotFoundError):
                continue
            for digest, location in group:
                start = location.start - first.start
                with suppress(DamagedContent):
                    content = _decoded(location, digest, data[start : start + location.length])
                    self._keep((user_id, digest), content)

    def contents_of_pack(self, pack: PackUse) -> Iterator[tuple[bytes, bytes]]:
        """Yield the digests and contents of the blobs in a pack, without those that are damaged.

        Raises:
            OSError: The object store cannot be read.
        """
        try:
            data = self.objects.read_bytes(pack.key, 0, pack.size)
        except (ObjectNotFound, FileNotFoundError):
            return
        for blob in self.blobs.blobs_of_pack(pack.id):
            location = BlobLocation(pack.key, *blob[1:])
            with suppress(DamagedContent):
                part = data[blob.start : blob.start + blob.length]
                yield blob.digest, _decoded(location, blob.digest, part)

    def _load(self, user_id: int, digest: bytes) -> bytes:
        before: BlobLocation | None = None
        while True:
            location = self.blobs.locate(user_id, [digest]).get(digest)
            if location is None or location == before:
                raise DamagedContent(f"the stored content {digest.hex()[:16]}… is missing")
            try:
                data = self.objects.read_bytes(location.key, location.start, location.length)
            except (ObjectNotFound, FileNotFoundError):
                before = location  # a collection may have moved the blob
                continue
            return _decoded(location, digest, data)

    def _keep(self, key: tuple[int, bytes], data: bytes) -> None:
        if len(data) > MAX_CACHED_BYTES:
            return
        with self._cache_lock:
            if key not in self._cache:
                self._cache[key] = data
                self._cached_bytes += len(data)
            while self._cached_bytes > CACHE_BYTES:
                _, removed = self._cache.popitem(last=False)
                self._cached_bytes -= len(removed)

    def write_pack(
        self, user_id: int, contents: Iterable[tuple[bytes, bytes]], *, moves: bool = False
    ) -> int:
        """Store blobs in a new pack; return its size in bytes.

        Args:
            user_id: User of the blobs.
            contents: Digests and contents.
            moves: True if the blobs replace their copies in other packs.

        Raises:
            OSError: The pack cannot be stored, or a pack could not be stored a short time ago; none
                of the blobs is.
            StorageError: The locations cannot be stored; none of the blobs is.
        """
        if time.monotonic() < self._failed_until:
            raise OSError(errno.EAGAIN, "the object store did not respond a short time ago")
        compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        parts: list[bytes] = []
        blobs: list[NewBlob] = []
        size = 0
        for digest, content in contents:
            part, compressed = content, False
            if len(content) >= COMPRESSION_THRESHOLD:
                smaller = compressor.compress(content)
                if len(smaller) < len(content):
                    part, compressed = smaller, True
            parts.append(part)
            blobs.append(NewBlob(digest, size, len(part), compressed))
            size += len(part)
        key = f"{KEY_PREFIX}/{user_id}/{uuid.uuid4().hex}"
        pack_id = self.blobs.begin_pack(user_id, key)
        try:
            self.objects.write_bytes(key, b"".join(parts))
            self.blobs.finish_pack(pack_id, user_id, size, blobs, moves=moves)
        except (OSError, StorageError) as error:
            if isinstance(error, OSError) and error.errno is None:  # a store on the network
                self._failed_until = time.monotonic() + RETRY_SECONDS
            # The next start of the server removes the pack if this fails.
            with suppress(OSError, StorageError):
                self.remove_packs(dict.fromkeys(self.blobs.begin_removal([pack_id]), key))
            if isinstance(error, FileNotFoundError):
                # A scan would take this for a file of the task that was removed.
                raise OSError(errno.EIO, "the directory of the object store is missing") from None
            raise
        return size

    def remove_interrupted(self) -> None:
        """Remove packs that an earlier server has not written or not removed completely.

        Raises:
            OSError: The objects cannot be removed; the next start tries again.
        """
        self.remove_packs(dict(self.blobs.list_unstored()))

    def remove_packs(self, packs: Mapping[int, str]) -> None:
        """Remove the objects of packs that are not stored, and forget the packs.

        Args:
            packs: Keys of the objects, by id of the pack.

        Raises:
            OSError: The objects cannot be removed; nothing is forgotten.
        """
        if packs:
            self.objects.remove(list(packs.values()))
            for batch in batches(packs):
                self.blobs.forget_packs(batch)


class BlobWriter:
    """Writer of the blobs of one checkpoint; see ``BlobStore.writing``. Used in one thread.

    Attributes:
        used: Digests of all blobs that the checkpoint may refer to.
    """

    def __init__(self, store: BlobStore, user_id: int, state: _UserState) -> None:
        self.used: set[bytes] = set()
        self._store = store
        self._user_id = user_id
        self._state = state
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0
        self._stored_bytes: int | None = None

    def add(self, content: bytes) -> bytes:
        """Add a blob and return its digest. It is stored after ``flush``.

        Raises:
            OSError: A pack cannot be stored.
        """
        digest = hashlib.sha256(content).digest()
        self.add_hashed(digest, content)
        return digest

    def add_hashed(self, digest: bytes, content: bytes) -> None:
        """Add a blob whose digest is known; see ``add``."""
        if digest in self.used:
            return
        self.use([digest])
        self._pending[digest] = content
        self._pending_bytes += len(content)
        if self._pending_bytes >= PACK_BYTES or len(self._pending) >= PACK_BLOBS:
            self.flush()

    def use(self, digests: Iterable[bytes]) -> None:
        """Protect blobs, which may be stored already, from collections."""
        with self._state.lock:
            self.used.update(digests)

    def add_within_limits(self, digest: bytes, content: bytes) -> str | None:
        """Add a blob unless that exceeds a limit; see ``add``.

        Returns:
            The reason why the blob is not stored; None if it is.
        """
        problem = None if digest in self.used else self.space_problem(len(content))
        if problem is not None and not self._is_stored(digest):
            return problem
        self.add_hashed(digest, content)
        return None

    def _is_stored(self, digest: bytes) -> bool:
        """Return True if a blob is stored, which is protected from now on."""
        self.use([digest])
        if self._store.blobs.existing(self._user_id, [digest]):
            return True
        with self._state.lock:
            self.used.discard(digest)
        return False

    def fits(self, size: int) -> bool:
        """Return True if ``size`` bytes can be stored, whatever is stored already."""
        return self.space_problem(size) is None

    def missing_bytes(self, blobs: Iterable[tuple[bytes, bytes]]) -> int:
        """Return the size of those blobs, given by digest and content, that are not stored."""
        sizes = {digest: len(content) for digest, content in blobs if digest not in self.used}
        for batch in batches(list(sizes)):
            for digest in self._store.blobs.existing(self._user_id, batch):
                del sizes[digest]
        return sum(sizes.values())

    def space_problem(self, size: int) -> str | None:
        """Return why blobs of ``size`` bytes cannot be stored, or None if they can."""
        if not self._store.has_space(self._pending_bytes + size):
            return "the disk is nearly full"
        return None if self._is_within_limit(size) else "BERAY_HISTORY_BYTES is used up"

    def _is_within_limit(self, size: int) -> bool:
        limit = self._store.limit_bytes
        if self._stored_bytes is None:
            self._stored_bytes = self._store.blobs.used_bytes(self._user_id)
        if self._stored_bytes + self._pending_bytes + size <= limit:
            return True
        # Blobs that wait may be stored already, or may become smaller.
        self.flush()
        self._stored_bytes = self._store.blobs.used_bytes(self._user_id)
        return self._stored_bytes + size <= limit

    def flush(self) -> None:
        """Store the added blobs that are not stored yet.

        Raises:
            OSError: They cannot be stored.
        """
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        for batch in batches(list(pending)):
            for digest in self._store.blobs.existing(self._user_id, batch):
                del pending[digest]
        if pending:
            size = self._store.write_pack(self._user_id, pending.items())
            if self._stored_bytes is not None:
                self._stored_bytes += size


def _decoded(location: BlobLocation, digest: bytes, data: bytes) -> bytes:
    """Return the content of a blob from its bytes in the pack, after a check of its digest."""
    if location.compressed:
        try:
            # The size in a damaged frame could be that of all memory.
            is_possible = 0 <= zstandard.frame_content_size(data) <= MAX_BLOB_BYTES
            data = zstandard.ZstdDecompressor().decompress(data) if is_possible else b""
        except zstandard.ZstdError:
            data = b""
    if hashlib.sha256(data).digest() != digest:
        raise DamagedContent(f"the stored content {digest.hex()[:16]}… is damaged")
    return data


def _adjacent(
    located: Iterable[tuple[bytes, BlobLocation]],
) -> Iterator[list[tuple[bytes, BlobLocation]]]:
    """Yield lists of blobs, given by digest and location, that are near each other in a pack."""
    group: list[tuple[bytes, BlobLocation]] = []
    for item in sorted(located, key=lambda item: item[1]):
        location = item[1]
        if group:
            last = group[-1][1]
            if (
                location.key != last.key
                or location.start > last.start + last.length + MAX_GAP_BYTES
            ):
                yield group
                group = []
        group.append(item)
    if group:
        yield group


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield lists of at most ``MAX_DIGESTS`` items."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, MAX_DIGESTS)):
        yield batch
