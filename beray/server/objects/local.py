"""The gateway's own store: bytes in a folder, what they are in the database.

No part of a key is ever part of a path. Each content is written to a file of its own, and
is the object's from the moment its row says so: a crash leaves a file that no row names,
which the next start removes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import threading
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import anyio
from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from beray.server.files import http_ranges
from beray.server.objects.signing import Signer
from beray.server.objects.store import NoSuchObject, StoredObject, require_key
from beray.server.storage.database import Database
from beray.server.storage.store import utc_now
from beray.server.storage.tables import LocalObject

BUCKET: Final = "beray"
_AT_ONCE: Final = 500
"""Rows that one statement names."""


@dataclass(frozen=True, slots=True)
class OpenObject:
    """An object, and its bytes as they are while it is open."""

    stored: StoredObject
    file: BinaryIO
    content_type: str | None
    sha256: bytes

    @property
    def etag(self) -> str:
        """A strong validator (RFC 9110, 8.8.3)."""
        return f'"{self.sha256.hex()}"'


class LocalObjects:
    """An ``ObjectStore`` on this machine.

    Raises:
        OSError: the folder cannot be made.
    """

    bucket = BUCKET

    def __init__(self, folder: Path, database: Database, signer: Signer) -> None:
        self._folder = folder
        self._database = database
        self.signer = signer
        self._life = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._closing = threading.Event()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(
        self, key: str, chunks: AsyncIterator[bytes], content_type: str | None = None
    ) -> StoredObject:
        require_key(key)
        draft = await run_in_threadpool(_Draft, self._folder, self._new_name(key))
        try:
            pending = bytearray()
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= http_ranges.BLOCK_BYTES:
                    await run_in_threadpool(draft.write, pending)
                    pending = bytearray()
            await run_in_threadpool(draft.write, pending)
            return await run_in_threadpool(self._keep, key, draft, content_type)
        finally:
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(draft.discard)

    @asynccontextmanager
    async def get(self, key: str) -> AsyncIterator[tuple[StoredObject, AsyncIterator[bytes]]]:
        opened = await run_in_threadpool(self.open, key)
        try:
            yield opened.stored, _blocks(opened)
        finally:
            opened.file.close()

    async def head(self, key: str) -> StoredObject:
        return _stored(await run_in_threadpool(self._row, key))

    async def delete(self, keys: Iterable[str]) -> int:
        return await run_in_threadpool(self._delete, keys)

    async def list(self, prefix: str, after: str, limit: int) -> list[StoredObject]:
        return [*await run_in_threadpool(self._page, prefix, after, limit)]

    async def presigned(
        self, method: Literal["GET", "PUT"], key: str, seconds: int, base_url: str
    ) -> str:
        require_key(key)
        return self.signer.url(base_url, method, key, seconds)

    def open(self, key: str) -> OpenObject:
        """Open an object, whose bytes stay as they are whatever happens to it. In a thread.

        Raises:
            NoSuchObject: it is not there.
        """
        while True:
            row = self._row(key)
            try:
                file = (self._folder / row.file).open("rb")
            except FileNotFoundError:
                # It was replaced or removed in between; unless its file was taken away.
                if self._row(key).file == row.file:
                    raise
                continue
            return OpenObject(_stored(row), file, row.content_type, bytes.fromhex(row.sha256))

    def sweep(self) -> int:
        """Remove the files of earlier lives that no row names; how many. In a thread."""
        removed = 0
        for folder in filter(Path.is_dir, self._folder.iterdir()):
            if self._closing.is_set():
                break
            left = [path for path in folder.iterdir() if f".{self._life}." not in path.name]
            names = {f"{folder.name}/{path.name}": path for path in left}
            for some in _batches(names):
                with self._database.reading() as session:
                    kept = set(
                        session.scalars(select(LocalObject.file).where(LocalObject.file.in_(some)))
                    )
                for name in set(some) - kept:
                    names[name].unlink(missing_ok=True)
                    removed += 1
        return removed

    def close(self) -> None:
        """End a sweep that is under way."""
        self._closing.set()

    def _new_name(self, key: str) -> str:
        mark = hashlib.sha256(key.encode()).hexdigest()
        return f"{mark[:2]}/{mark}.{self._life}.{next(self._numbers)}"

    def _keep(self, key: str, draft: _Draft, content_type: str | None) -> StoredObject:
        draft.finish()
        values = {
            "file": draft.name,
            "size": draft.size,
            "sha256": draft.sha256.hexdigest(),
            "content_type": content_type,
            "last_modified": utc_now(),
        }
        row = insert(LocalObject).values(key=key, **values)
        with self._database.writing() as session:
            before = session.scalar(select(LocalObject.file).where(LocalObject.key == key))
            session.execute(row.on_conflict_do_update(index_elements=["key"], set_=values))
        draft.kept = True
        self._remove([] if before is None else [before])
        return StoredObject(key, draft.size, str(values["last_modified"]))

    def _row(self, key: str) -> LocalObject:
        with self._database.reading() as session:
            row = session.get(LocalObject, key)
        if row is None:
            raise NoSuchObject(key)
        return row

    def _delete(self, keys: Iterable[str]) -> int:
        count = 0
        for some in _batches(keys):
            named = LocalObject.key.in_(some)

            def remove(session: Session, named: ColumnElement[bool] = named) -> list[str]:
                files = list(session.scalars(select(LocalObject.file).where(named)))
                session.execute(delete(LocalObject).where(named))
                return files

            files = self._database.write_with_reserve(remove)
            self._remove(files)
            count += len(files)
        return count

    def _remove(self, files: Iterable[str]) -> None:
        for name in files:
            (self._folder / name).unlink(missing_ok=True)

    def _page(self, prefix: str, after: str, limit: int) -> Sequence[StoredObject]:
        wanted = select(LocalObject).where(LocalObject.key > after, LocalObject.key >= prefix)
        end = _behind(prefix)
        if end is not None:
            wanted = wanted.where(LocalObject.key < end)
        with self._database.reading() as session:
            rows = session.scalars(wanted.order_by(LocalObject.key).limit(limit))
            return [_stored(row) for row in rows]


class _Draft:
    """A file that is being written. It is removed unless it is ``kept``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.size = 0
        self.sha256 = hashlib.sha256()
        self.kept = False
        self._path = folder / name
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb", buffering=0)

    def write(self, block: bytes | bytearray) -> None:
        with memoryview(block) as left:
            self.sha256.update(left)
            written = 0
            while written < len(left):
                written += self._file.write(left[written:])
        self.size += len(block)

    def finish(self) -> None:
        """Have it on disk, its name included, before a row says that it is there."""
        os.fsync(self._file.fileno())
        self._file.close()
        for folder in (self._path.parent, self._path.parent.parent):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self) -> None:
        self._file.close()
        if not self.kept:
            self._path.unlink(missing_ok=True)


async def _blocks(opened: OpenObject) -> AsyncIterator[bytes]:
    blocks = http_ranges.read(opened.file, range(opened.stored.size))
    while (block := await run_in_threadpool(next, blocks, None)) is not None:
        yield block


def _stored(row: LocalObject) -> StoredObject:
    return StoredObject(row.key, row.size, row.last_modified)


def _behind(prefix: str) -> str | None:
    """The first text that is behind all that begin with ``prefix``; ``None``: there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    # Surrogates are no characters of a text.
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)


def _batches(keys: Iterable[str]) -> Generator[list[str], None, None]:
    left = iter(keys)
    while some := list(itertools.islice(left, _AT_ONCE)):
        yield some
