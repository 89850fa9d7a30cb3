"""Objects in a bucket of any S3-compatible store."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from beray.sanitize import one_line
from beray.server.objects.store import NoSuchObject, StoredObject, require_key
from beray.server.settings import Settings
from beray.server.storage.store import utc_now

if TYPE_CHECKING:
    from obstore import ObjectMeta

PART_BYTES: Final = 8 * 1024 * 1024
PARTS_AT_ONCE: Final = 4
"""What an upload holds in memory is the product of the two."""
READ_BYTES: Final = 1024 * 1024
LOOKS_AT_ONCE: Final = 16
PAGE: Final = 1000
_LAST: Final = "\U0010ffff"


class S3Objects:
    """An ``ObjectStore`` in the bucket that the settings name.

    A put that is cancelled, or a server that dies in one, leaves an upload in parts that is
    no object; a lifecycle rule of the bucket is what removes those.

    Raises:
        ValueError: the settings cannot be right.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.s3_bucket is not None
        self._bucket = settings.s3_bucket
        # Whatever is not set is looked for where AWS' own programs look for it.
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
                    # Silence ends a transfer; a large one may take its time.
                    "read_timeout": timedelta(seconds=60),
                    "timeout": timedelta(hours=6),
                },
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)},
            )
        except BaseError as error:
            raise ValueError(_first_line(error)) from None

    @property
    def bucket(self) -> str:
        return self._bucket

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], content_type: str | None = None
    ) -> StoredObject:
        require_key(key)
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
                max_concurrency=PARTS_AT_ONCE,
            )
        return StoredObject(key, size, utc_now())

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[tuple[StoredObject, AsyncIterator[bytes]]]:
        with _as_os_error(), _absent(key):
            found = await obstore.get_async(self._store, key)
        blocks = _blocks(found.stream(min_chunk_size=READ_BYTES))
        yield _stored(found.meta), blocks

    async def head(self, key: str) -> StoredObject:
        with _as_os_error(), _absent(key):
            return _stored(await obstore.head_async(self._store, key))

    async def delete(self, keys: Iterable[str]) -> int:
        # The answer to a delete does not say what was there.
        looking = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def is_there(key: str) -> bool:
            async with looking:
                try:
                    await self.head(key)
                except NoSuchObject:
                    return False
                return True

        named = [*keys]
        found = await asyncio.gather(*(is_there(key) for key in named))
        there = [key for key, known in zip(named, found, strict=True) if known]
        with _as_os_error():
            if there:
                await obstore.delete_async(self._store, there)
        return len(there)

    async def list(self, prefix: str, after: str, limit: int) -> builtins.list[StoredObject]:
        # The library's prefixes are whole folders; what stands behind is left to us.
        folder = prefix.rpartition("/")[0]
        try:
            require_key(folder or "-")
        except ValueError:
            return []
        page = obstore.list(
            self._store,
            folder or None,
            offset=max(after, _before(prefix)) or None,
            chunk_size=min(limit, PAGE),
        )
        listed: builtins.list[StoredObject] = []
        with _as_os_error():
            async for some in page:
                for found in some:
                    if found["path"].startswith(prefix):
                        listed.append(_stored(found))
                    elif found["path"] > prefix:
                        return listed
                    if len(listed) == limit:
                        return listed
        return listed

    async def presigned(
        self, method: Literal["GET", "PUT"], key: str, seconds: int, base_url: str
    ) -> str:
        require_key(key)
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


def _before(prefix: str) -> str:
    """A text behind which everything comes that begins with ``prefix``, and little else."""
    if prefix.endswith("/") or not prefix:
        return ""
    before = ord(prefix[-1]) - 1
    # Surrogates are no characters of a text.
    return prefix[:-1] + chr(0xD7FF if before == 0xDFFF else before) + _LAST


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (BaseError, FileNotFoundError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            # Of the file that is read for an upload; the library's own has no number.
            raise
        raise OSError(_first_line(error)) from None


@contextmanager
def _absent(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NoSuchObject(key) from None


def _first_line(error: Exception) -> str:
    """What follows is the library's own view of the request."""
    return one_line(str(error).partition("\n")[0])
