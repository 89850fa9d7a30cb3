"""Interface of object stores: objects with keys in one bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from beray.sanitize import printable


@dataclass(frozen=True, slots=True)
class StoredObject:
    """Metadata of an object.

    Attributes:
        size: Bytes.
        last_modified: UTC, ISO 8601 with ``Z``.
    """

    key: str
    size: int
    last_modified: str


MAX_KEY_BYTES: Final = 1024


def check_key(key: str) -> None:
    """Check that ``key`` is a valid key of an object.

    Raises:
        ValueError: The key is empty or too long, has an empty part, ``.`` or ``..``, or contains
            a control character or a lone surrogate.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError("a key must not contain lone surrogates") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise ValueError(f"a key must have 1 to {MAX_KEY_BYTES} bytes, got {size}")
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError("a key must not have parts that are empty, '.' or '..'")
    if key != printable(key) or set(key) & {"\n", "\t"}:
        raise ValueError("a key must not contain control characters")


class ObjectNotFound(Exception):
    """No object has the key."""


class BlockingObjects(Protocol):
    """Operations on small objects, for threads.

    Every method raises ``OSError`` if the store cannot be reached or is full.
    """

    def write_bytes(self, key: str, data: bytes) -> None:
        """Store an object that is in memory; return when it is durable."""

    def read_bytes(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object; it is shorter at the end of the object.

        Raises:
            ObjectNotFound: The object does not exist.
        """

    def remove(self, keys: Collection[str]) -> None:
        """Remove objects. Missing objects are ignored."""


class ObjectStore(BlockingObjects, Protocol):
    """Store of objects.

    Keys are paths separated by ``/``, in UTF-8, of at most 1,024 bytes. Every method raises
    ``OSError`` if the store cannot be reached or is full.
    """

    @property
    def bucket(self) -> str:
        """Name of the bucket in ``s3://`` URLs."""

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], content_type: str | None = None
    ) -> StoredObject:
        """Store the complete content of ``chunks``, or nothing; replace an existing object.

        Raises:
            ValueError: ``key`` is invalid; see ``check_key``.
        """

    def get(
        self, key: str
    ) -> AbstractAsyncContextManager[tuple[StoredObject, AsyncIterator[bytes]]]:
        """Open an object; the context yields its metadata and content.

        Raises:
            ObjectNotFound: The object does not exist.
        """

    async def head(self, key: str) -> StoredObject:
        """Return the metadata of an object.

        Raises:
            ObjectNotFound: The object does not exist.
        """

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove objects and return the number of those that existed."""

    async def list(self, prefix: str, after: str, limit: int) -> list[StoredObject]:
        """Return the first ``limit`` objects with the prefix after the key ``after``, sorted."""

    async def presigned_url(
        self, method: Literal["GET", "PUT"], key: str, seconds: int, base_url: str
    ) -> str:
        """Return a URL that permits one method on one object without credentials.

        Args:
            method: Permitted method.
            key: Key of the object, which need not exist yet.
            seconds: Validity of the URL.
            base_url: URL by which the caller reaches this server. URLs of the local store
                start with it.
        """
