"""Where the gateway keeps files: objects with keys, in one bucket, of whatever store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from beray.sanitize import printable


@dataclass(frozen=True, slots=True)
class StoredObject:
    key: str
    size: int
    last_modified: str
    """UTC, ISO 8601 with ``Z``."""


MOST_KEY_BYTES: Final = 1024


def require_key(key: str) -> None:
    """Prove that ``key`` can be one.

    Raises:
        ValueError: it is empty or too long, has an empty part, ``.`` or ``..``, or a
            character that controls something; the text says which.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise ValueError("a key is Unicode, without halves of surrogate pairs") from None
    if not 1 <= size <= MOST_KEY_BYTES:
        raise ValueError(f"a key has 1 to {MOST_KEY_BYTES} bytes")
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError("a key has no empty parts, and none that are . or ..")
    if key != printable(key) or set(key) & {"\n", "\t"}:
        raise ValueError("a key has no control characters")


class NoSuchObject(Exception):
    """There is nothing under that key."""


class ObjectStore(Protocol):
    """Keys are paths with ``/``, UTF-8, of at most 1,024 bytes.

    Every method raises ``OSError`` where the store cannot be reached or is full.
    """

    @property
    def bucket(self) -> str:
        """What stands behind ``s3://``."""

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], content_type: str | None = None
    ) -> StoredObject:
        """Keep what ``chunks`` gives, whole or not at all; it replaces what was there."""

    def get(
        self, key: str
    ) -> AbstractAsyncContextManager[tuple[StoredObject, AsyncIterator[bytes]]]:
        """Open an object.

        Raises:
            NoSuchObject: it is not there.
        """

    async def head(self, key: str) -> StoredObject:
        """What is known of an object.

        Raises:
            NoSuchObject: it is not there.
        """

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove objects; how many of them were there."""

    async def list(self, prefix: str, after: str, limit: int) -> list[StoredObject]:
        """The first ``limit`` objects with that prefix behind the key ``after``, in order."""

    async def presigned(
        self, method: Literal["GET", "PUT"], key: str, seconds: int, base_url: str
    ) -> str:
        """A URL that needs no credentials: for one method, one object and so long.

        Args:
            base_url: how the caller reaches this server, which is in the URL where the
                store is the server's own.
        """
