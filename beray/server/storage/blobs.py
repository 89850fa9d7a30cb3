"""Repository of blobs: the locations of contents in packs, which are objects of the store.

A pack is recorded before its object is written, and forgotten after its object is removed, so a
crash leaves no object without a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from beray.server.storage.database import Database
from beray.server.storage.sqlite.statements import insert_or_replace, insert_rows_if_missing
from beray.server.storage.tables import BlobPack, StoredBlob

MAX_DIGESTS: Final = 500
"""Maximum number of digests in one query."""


class BlobLocation(NamedTuple):
    """Location of a blob: bytes ``start`` to ``start + length`` of the object ``key``."""

    key: str
    start: int
    length: int
    compressed: bool


class NewBlob(NamedTuple):
    """Blob in a new pack; see ``StoredBlob``."""

    digest: bytes
    start: int
    length: int
    compressed: bool


class PackUse(NamedTuple):
    """Pack, and its use.

    Attributes:
        used: Bytes that belong to blobs.
        blobs: Number of blobs.
    """

    id: int
    key: str
    size: int
    used: int
    blobs: int


class BlobRepository:
    """Locations of the blobs of all users. Synchronous; called in threads."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    def existing(self, user_id: int, digests: Collection[bytes]) -> set[bytes]:
        """Return those of the digests, at most ``MAX_DIGESTS``, that are stored for the user."""
        stored = select(StoredBlob.digest).where(
            StoredBlob.user_id == user_id, StoredBlob.digest.in_(digests)
        )
        with self._database.reading() as session:
            return set(session.scalars(stored))

    def locate(self, user_id: int, digests: Collection[bytes]) -> dict[bytes, BlobLocation]:
        """Return the locations of the digests, at most ``MAX_DIGESTS``, that are stored."""
        stored = (
            select(
                StoredBlob.digest,
                BlobPack.key,
                StoredBlob.start,
                StoredBlob.length,
                StoredBlob.compressed,
            )
            .join(BlobPack, BlobPack.id == StoredBlob.pack_id)
            .where(StoredBlob.user_id == user_id, StoredBlob.digest.in_(digests))
        )
        with self._database.reading() as session:
            return {row.digest: BlobLocation(*row[1:]) for row in session.execute(stored)}

    def begin_pack(self, user_id: int, key: str) -> int:
        """Record a pack whose object will be written; return its id."""
        with self._database.writing() as session:
            pack = BlobPack(user_id=user_id, key=key, size=0, stored=False)
            session.add(pack)
            session.flush()
            return pack.id

    def finish_pack(
        self, pack_id: int, user_id: int, size: int, blobs: Sequence[NewBlob], *, moves: bool
    ) -> None:
        """Record that the object of a pack is stored, with the locations of its blobs.

        Args:
            pack_id: Id of the pack.
            user_id: User of the pack.
            size: Bytes of its object.
            blobs: Blobs in the pack.
            moves: True if the blobs replace their copies in other packs.
        """
        rows = [{"user_id": user_id, "pack_id": pack_id, **blob._asdict()} for blob in blobs]
        add = insert_or_replace(StoredBlob) if moves else insert_rows_if_missing(StoredBlob)
        stored = update(BlobPack).where(BlobPack.id == pack_id).values(size=size, stored=True)
        with self._database.writing() as session:
            session.connection().execute(add, rows)
            session.execute(stored)

    def used_bytes(self, user_id: int) -> int:
        """Return the size of all packs of a user in bytes."""
        size = select(func.coalesce(func.sum(BlobPack.size), 0)).where(BlobPack.user_id == user_id)
        with self._database.reading() as session:
            return session.scalar(size) or 0

    # Collection

    def users(self) -> list[int]:
        """Return the users that have packs."""
        with self._database.reading() as session:
            return list(session.scalars(select(BlobPack.user_id).distinct()))

    def digests_page(self, user_id: int, after: bytes, limit: int) -> list[bytes]:
        """Return the first ``limit`` digests of a user above ``after``, in order."""
        page = (
            select(StoredBlob.digest)
            .where(StoredBlob.user_id == user_id, StoredBlob.digest > after)
            .order_by(StoredBlob.digest)
            .limit(limit)
        )
        with self._database.reading() as session:
            return list(session.scalars(page))

    def delete(self, user_id: int, digests: Collection[bytes]) -> None:
        """Delete the locations of blobs, at most ``MAX_DIGESTS``."""
        gone = delete(StoredBlob).where(
            StoredBlob.user_id == user_id, StoredBlob.digest.in_(digests)
        )
        self._database.write_with_reserve(lambda session: session.execute(gone))

    def pack_use(self, user_id: int) -> list[PackUse]:
        """Return the stored packs of a user with their use."""
        used = func.coalesce(func.sum(StoredBlob.length), 0)
        blobs = func.count(StoredBlob.digest)
        packs = (
            select(BlobPack.id, BlobPack.key, BlobPack.size, used, blobs)
            .outerjoin(StoredBlob, StoredBlob.pack_id == BlobPack.id)
            .where(BlobPack.user_id == user_id, BlobPack.stored)
            .group_by(BlobPack.id)
            .order_by(BlobPack.id)
        )
        with self._database.reading() as session:
            return [PackUse(*row) for row in session.execute(packs)]

    def blobs_of_pack(self, pack_id: int) -> list[NewBlob]:
        """Return the blobs in a pack, in the order of their positions."""
        blobs = (
            select(StoredBlob.digest, StoredBlob.start, StoredBlob.length, StoredBlob.compressed)
            .where(StoredBlob.pack_id == pack_id)
            .order_by(StoredBlob.start)
        )
        with self._database.reading() as session:
            return [NewBlob(*row) for row in session.execute(blobs)]

    def begin_removal(self, packs: Iterable[int]) -> list[int]:
        """Mark packs without blobs as being removed; return the ids of those that are."""

        def mark(session: Session) -> list[int]:
            marked = []
            for pack in packs:
                used = select(StoredBlob.digest).where(StoredBlob.pack_id == pack).limit(1)
                if session.scalar(used) is None:
                    session.execute(
                        update(BlobPack).where(BlobPack.id == pack).values(stored=False)
                    )
                    marked.append(pack)
            return marked

        return self._database.write_with_reserve(mark)

    def forget_packs(self, packs: Collection[int]) -> None:
        """Delete the rows of packs whose objects are removed."""
        gone = delete(BlobPack).where(BlobPack.id.in_(packs))
        self._database.write_with_reserve(lambda session: session.execute(gone))

    def list_unstored(self) -> list[tuple[int, str]]:
        """Return the ids and keys of packs whose objects are being written or removed."""
        packs = select(BlobPack.id, BlobPack.key).where(~BlobPack.stored)
        with self._database.reading() as session:
            return [(row.id, row.key) for row in session.execute(packs)]
