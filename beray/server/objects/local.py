"""Object store on the local disk: contents in files, keys and metadata in the database.

No part of a key is used in a path. Each content is written to a new file, which becomes the
content of the object when the transaction of its row commits. After a crash, a file may be left
that no row refers to; the next start of the server removes it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import threading
from collections.abc import AsyncIterator, Collection, Generator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import anyio
from starlette.concurrency import run_in_threadpool

from beray.server.files import http_ranges
from beray.server.objects.signing import UrlSigner
from beray.server.objects.store import ObjectNotFound, StoredObject, check_key
from beray.server.storage.objects import ObjectRepository
from beray.server.storage.tables import LocalObject

BUCKET: Final = "beray"
_BATCH_ROWS: Final = 500
"""Maximum number of rows in one transaction."""


@dataclass(frozen=True, slots=True)
class OpenObject:
    """Open object. Its content does not change while it is open."""

    stored: StoredObject
    file: BinaryIO
    content_type: str | None
    sha256: bytes

    @property
    def etag(self) -> str:
        """Strong validator (RFC 9110, section 8.8.3)."""
        return f'"{self.sha256.hex()}"'


class LocalObjectStore:
    """``ObjectStore`` on the local disk.

    Args:
        folder: Directory of the contents.
        objects: Repository of the metadata.
        signer: Signer of the URLs of objects.

    Raises:
        OSError: The directory cannot be created.
    """

    bucket = BUCKET

    def __init__(self, *, folder: Path, objects: ObjectRepository, signer: UrlSigner) -> None:
        self._folder = folder
        self._objects = objects
        self.signer = signer
        self._server_run = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._closing = threading.Event()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], content_type: str | None = None
    ) -> StoredObject:
        """Store an object; see ``ObjectStore.put``."""
        check_key(key)
        new_file = await run_in_threadpool(_NewFile, self._folder, self._new_name(key))
        try:
            pending = bytearray()
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= http_ranges.BLOCK_BYTES:
                    await run_in_threadpool(new_file.write, pending)
                    pending = bytearray()
            await run_in_threadpool(new_file.write, pending)
            return await run_in_threadpool(self._commit, key, new_file, content_type)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(new_file.discard)

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[tuple[StoredObject, AsyncIterator[bytes]]]:
        """Open an object; see ``ObjectStore.get``."""
        opened = await run_in_threadpool(self.open, key)
        try:
            yield opened.stored, _blocks(opened)
        finally:
            opened.file.close()

    async def head(self, key: str) -> StoredObject:
        """Return the metadata of an object."""
        return _stored(await run_in_threadpool(self._row, key))

    async def delete(self, keys: Iterable[str]) -> int:
        """Remove objects and return the number of those that existed."""
        return await run_in_threadpool(self._delete, keys)

    async def list(self, prefix: str, after: str, limit: int) -> list[StoredObject]:
        """Return objects by prefix; see ``ObjectStore.list``."""
        rows = await run_in_threadpool(self._objects.list_page, prefix, after, limit)
        return [_stored(row) for row in rows]

    async def presigned_url(
        self, method: Literal["GET", "PUT"], key: str, seconds: int, base_url: str
    ) -> str:
        """Return a URL signed by this server; see ``ObjectStore.presigned_url``."""
        check_key(key)
        return self.signer.url(base_url, method, key, seconds)

    def open(self, key: str) -> OpenObject:
        """Open an object. Its content stays readable if it is replaced or removed. Blocks.

        Raises:
            ObjectNotFound: The object does not exist.
        """
        while True:
            row = self._row(key)
            try:
                file = (self._folder / row.file).open("rb")
            except FileNotFoundError:
                # The object was replaced or removed meanwhile, unless its file is missing.
                if self._row(key).file == row.file:
                    raise
                continue
            return OpenObject(_stored(row), file, row.content_type, bytes.fromhex(row.sha256))

    def write_bytes(self, key: str, data: bytes) -> None:
        """Store an object; see ``BlockingObjects``."""
        check_key(key)
        new_file = _NewFile(self._folder, self._new_name(key))
        try:
            new_file.write(data)
            self._commit(key, new_file, None)
        finally:
            new_file.discard()

    def read_bytes(self, key: str, start: int, length: int) -> bytes:
        """Return a part of an object; see ``BlockingObjects``."""
        with self.open(key).file as file:
            file.seek(start)
            return file.read(length)

    def remove(self, keys: Collection[str]) -> None:
        """Remove objects; see ``BlockingObjects``."""
        self._delete(keys)

    def remove_orphans(self) -> int:
        """Remove files of earlier runs that no row refers to; return their number. Blocks."""
        removed = 0
        for folder in filter(Path.is_dir, self._folder.iterdir()):
            if self._closing.is_set():
                break
            files = [path for path in folder.iterdir() if f".{self._server_run}." not in path.name]
            names = {f"{folder.name}/{path.name}": path for path in files}
            for batch in _batches(names):
                for name in set(batch) - self._objects.used_files(batch):
                    names[name].unlink(missing_ok=True)
                    removed += 1
        return removed

    def close(self) -> None:
        """Stop a running ``remove_orphans``."""
        self._closing.set()

    def _new_name(self, key: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"{digest[:2]}/{digest}.{self._server_run}.{next(self._numbers)}"

    def _commit(self, key: str, new_file: _NewFile, content_type: str | None) -> StoredObject:
        new_file.finish()
        last_modified, before = self._objects.put(
            key,
            new_file.name,
            size=new_file.size,
            sha256=new_file.sha256.hexdigest(),
            content_type=content_type,
        )
        new_file.is_committed = True
        self._unlink([] if before is None else [before])
        return StoredObject(key, new_file.size, last_modified)

    def _row(self, key: str) -> LocalObject:
        row = self._objects.get(key)
        if row is None:
            raise ObjectNotFound(key)
        return row

    def _delete(self, keys: Iterable[str]) -> int:
        count = 0
        for batch in _batches(keys):
            files = self._objects.delete(batch)
            self._unlink(files)
            count += len(files)
        return count

    def _unlink(self, files: Iterable[str]) -> None:
        for name in files:
            (self._folder / name).unlink(missing_ok=True)


class _NewFile:
    """File that is being written. ``discard`` removes it unless it was committed."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.is_committed = False
        self._path = folder / name
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb", buffering=0)

    def write(self, block: bytes | bytearray) -> None:
        """Append ``block``."""
        with memoryview(block) as view:
            self.sha256.update(view)
            written = 0
            while written < len(view):
                written += self._file.write(view[written:])
        self.size += len(block)

    def finish(self) -> None:
        """Flush the file and its directory entries to disk, before a row refers to them."""
        os.fsync(self._file.fileno())
        self._file.close()
        for folder in (self._path.parent, self._path.parent.parent):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self) -> None:
        """Close the file, and remove it unless it was committed."""
        self._file.close()
        if not self.is_committed:
            self._path.unlink(missing_ok=True)


async def _blocks(opened: OpenObject) -> AsyncIterator[bytes]:
    blocks = http_ranges.read_range(opened.file, range(opened.stored.size))
    while (block := await run_in_threadpool(next, blocks, None)) is not None:
        yield block


def _stored(row: LocalObject) -> StoredObject:
    return StoredObject(row.key, row.size, row.last_modified)


def _batches(keys: Iterable[str]) -> Generator[list[str], None, None]:
    remaining = iter(keys)
    while batch := list(itertools.islice(remaining, _BATCH_ROWS)):
        yield batch
