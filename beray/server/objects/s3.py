"""Object store in a bucket of an S3-compatible service."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from beray.sanitize import one_line
from beray.server.objects.store import ObjectNotFound, StoredObject, check_key
from beray.server.settings import Settings
from beray.server.storage.times import utc_now

if TYPE_CHECKING:
    from obstore import ObjectMeta

PART_BYTES: Final = 8 * 1024 * 1024
CONCURRENT_PARTS: Final = 4
"""An upload keeps up to ``PART_BYTES * CONCURRENT_PARTS`` bytes in memory."""
READ_BYTES: Final = 1024 * 1024
CONCURRENT_HEADS: Final = 16
PAGE_KEYS: Final = 1000
_LAST: Final = "\U0010ffff"


class S3ObjectStore:
    """``ObjectStore`` in the bucket of the settings.

    An interrupted upload leaves an incomplete multipart upload, which is not an object.
    Configure a lifecycle rule of the bucket that removes these.

    Raises:
        ValueError: The settings are invalid.
    """

    def __init__(self, *, settings: Settings) -> None:
        assert settings.s3_bucket is not None
        self._bucket = settings.s3_bucket
        # Missing values come from the environment and the files that AWS programs read.
        config = {
            "endpoint": settings.s3_endpoint,
            "region": settings.s3_region,
            "access_key_id": settings.s3_access_key_id,
            "secret_access_key": settings.s3_secret_access_key
            and settings.s3_secret_access_key.get_secret_value(),
        }
        try:
            self._store = S3Store(
                self._bucket,
                config={name: value for name, value in config.items() if value},  # type: ignore[arg-type]
                client_options={
                    "allow_http": (settings.s3_endpoint or "").startswith("http://"),
                    "connect_timeout": timedelta(seconds=10),
                    # A stalled transfer ends soon; a large one may take hours.
                    "read_timeout": timedelta(seconds=60),
                    "timeout": timedelta(hours=6),
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
            )
        except BaseError as error:
            raise ValueError(_first_line(error)) from None

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self._bucket

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], content_type: str | None = None
    ) -> StoredObject:
        """Store an object; see ``ObjectStore.put``."""
        check_key(key)
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for chunk in chunks:
                size += len(chunk)
                yield chunk

        with _as_os_error():
            await obstore.put_async(
                self._store,
                key,
                counted(),
                attributes={"Content-Type": content_type or "application/octet-stream"},
                chunk_size=PART_BYTES,
                max_concurrency=CONCURRENT_PARTS,
            )
        return StoredObject(key, size, utc_now())

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[tuple[StoredObject, AsyncIterator[bytes]]]:
        """Open an object; see ``ObjectStore.get``."""
        with _as_os_error(), _missing_as_not_found(key):
            found = await obstore.get_async(self._store, key)
        blocks = _blocks(found.stream(min_chunk_size=READ_BYTES))
        yield _stored(found.meta), blocks

    async def head(self, key: str) -> StoredObject:
        """Return the metadata of an object."""
        with _as_os_error(), _missing_as_not_found(key):
            return _stored(await obstore.head_async(self._store, key))

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove objects and return the number of those that existed."""
        # The response to a deletion does not tell which objects existed.
        semaphore = asyncio.Semaphore(CONCURRENT_HEADS)

        async def exists(key: str) -> bool:
            async with semaphore:
                try:
                    await self.head(key)
                except ObjectNotFound:
                    return False
                return True

        names = [*keys]
        found = await asyncio.gather(*(exists(key) for key in names))
        existing = [key for key, known in zip(names, found, strict=True) if known]
        with _as_os_error():
            if existing:
                await obstore.delete_async(self._store, existing)
        return len(existing)

    async def list(self, prefix: str, after: str, limit: int) -> builtins.list[StoredObject]:
        """Return objects by prefix; see ``ObjectStore.list``."""
        # The library supports only directories as prefixes; the rest is filtered here.
        directory = prefix.rpartition("/")[0]
        try:
            check_key(directory or "-")
        except ValueError:
            return []
        page = obstore.list(
            self._store,
            directory or None,
            offset=max(after, _offset_before(prefix)) or None,
            chunk_size=min(limit, PAGE_KEYS),
        )
        listed: builtins.list[StoredObject] = []
        with _as_os_error():
            async for batch in page:
                for found in batch:
                    if found["path"].startswith(prefix):
                        listed.append(_stored(found))
                    elif found["path"] > prefix:
                        return listed
                    if len(listed) == limit:
                        return listed
        return listed

    def write_bytes(self, key: str, data: bytes) -> None:
        """Store an object; see ``BlockingObjects``."""
        check_key(key)
        with _as_os_error():
            obstore.put(self._store, key, data)

    def read_bytes(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object; see ``BlockingObjects``."""
        if not length:
            return b""  # not a range in HTTP
        with _as_os_error(), _missing_as_not_found(key):
            return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def remove(self, keys: Collection[str]) -> None:
        """Remove objects; see ``BlockingObjects``."""
        with _as_os_error():
            for key in keys:
                with suppress(FileNotFoundError):
                    obstore.delete(self._store, key)

    async def presigned_url(
        self, method: Literal["GET", "PUT"], key: str, seconds: int, base_url: str
    ) -> str:
        """Return a URL signed by the service; see ``ObjectStore.presigned_url``."""
        check_key(key)
        with _as_os_error():
            return await obstore.sign_async(self._store, method, key, timedelta(seconds=seconds))


async def _blocks(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with _as_os_error():
        async for block in stream:
            yield bytes(block)


def _stored(meta: ObjectMeta) -> StoredObject:
    modified: datetime = meta["last_modified"].astimezone(UTC)
    text = modified.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return StoredObject(meta["path"], meta["size"], text)


def _offset_before(prefix: str) -> str:
    """Return a string shortly before all strings that start with ``prefix``."""
    if prefix.endswith("/") or not prefix:
        return ""
    before = ord(prefix[-1]) - 1
    # Surrogates are not valid in UTF-8.
    return prefix[:-1] + chr(0xD7FF if before == 0xDFFF else before) + _LAST


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # An error of the uploaded file. Errors of the library have no errno.
            raise
        raise OSError(_first_line(error)) from None


@contextmanager
def _missing_as_not_found(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ObjectNotFound(key) from None


def _first_line(error: Exception) -> str:
    """Return the first line of the message; the others repeat the request."""
    return one_line(str(error).partition("\n")[0])
