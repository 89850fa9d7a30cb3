"""Removal of blobs that no checkpoint refers to, while checkpoints are written and read.

A crash at any point leaves at most blobs and packs that the next collection or start removes:
locations of blobs are deleted first, then the objects of packs without blobs, then their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import structlog

from beray.server.storage.blobs import MAX_DIGESTS, PackUse
from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.workspace.history.blobs import PACK_BLOBS, PACK_BYTES, BlobStore, batches
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.reader import CheckpointReader

REPACK_BELOW: Final = 0.5
"""Used part of a pack below which its blobs are moved to another pack."""

log = structlog.get_logger("beray.history")


class Collection:
    """Collector of the unused blobs of users. Methods block; called in threads.

    Args:
        checkpoints: Repository of the checkpoints.
        blobs: Store of the blobs.
    """

    def __init__(self, *, checkpoints: CheckpointRepository, blobs: BlobStore) -> None:
        self._checkpoints = checkpoints
        self._blobs = blobs

    def collect(self, user_id: int) -> None:
        """Remove the unused blobs of a user. Does nothing if another collection is active.

        If a manifest is damaged, nothing is removed: its files could not be told from others.

        Raises:
            OSError: An object cannot be read or removed.
            StorageError: The database cannot be used.
        """
        state = self._blobs.state(user_id)
        with state.lock:
            if state.finished is not None:
                return
            state.finished = set()
            pinned = list(state.pinned)
        try:
            live = self._live(user_id, pinned)
            if live is not None:
                self._remove_blobs(user_id, live)
                self._remove_packs(user_id)
        finally:
            with state.lock:
                state.finished = None

    def _live(self, user_id: int, pinned: Iterable[bytes]) -> set[bytes] | None:
        """Return the blobs of all checkpoints; None if a manifest is damaged."""
        reader = CheckpointReader(self._blobs, user_id)
        live: set[bytes] = set()
        expanded: set[bytes] = set()
        try:
            for root in [*self._checkpoints.roots_of_user(user_id), *pinned]:
                reader.add_references(root, live, expanded)
        except DamagedContent as error:
            log.error(
                "unused content of the history is kept, because a checkpoint is damaged; delete "
                "its task to free the space",
                user_id=user_id,
                problem=error.reason,
            )
            return None
        return live

    def _remove_blobs(self, user_id: int, live: set[bytes]) -> None:
        state = self._blobs.state(user_id)
        after = b""
        while page := self._blobs.blobs.digests_page(user_id, after, MAX_DIGESTS):
            after = page[-1]
            dead = [digest for digest in page if digest not in live]
            # Writers protect a blob before they look whether it is stored, with the same lock.
            with state.lock:
                finished = state.finished or set()
                unused = [
                    digest
                    for digest in dead
                    if digest not in finished
                    and not any(digest in writer.used for writer in state.writers)
                ]
                if unused:
                    self._blobs.blobs.delete(user_id, unused)

    def _remove_packs(self, user_id: int) -> None:
        packs = self._blobs.blobs.pack_use(user_id)
        for batch in _repackable(packs):
            # Damaged blobs remain in their pack.
            contents = [item for pack in batch for item in self._blobs.contents_of_pack(pack)]
            if contents:
                self._blobs.write_pack(user_id, contents, moves=True)
        empty = {pack.id: pack.key for pack in self._blobs.blobs.pack_use(user_id) if not pack.used}
        for ids in batches(empty):
            removed = self._blobs.blobs.begin_removal(ids)
            self._blobs.remove_packs({pack: empty[pack] for pack in removed})


def _repackable(packs: Iterable[PackUse]) -> Iterator[list[PackUse]]:
    """Yield lists of packs whose blobs fit into one pack, if that saves enough space."""
    batch: list[PackUse] = []
    for pack in packs:
        if not 0 < pack.used < REPACK_BELOW * pack.size:
            continue
        if (
            sum(other.used for other in batch) + pack.used > PACK_BYTES
            or sum(other.blobs for other in batch) + pack.blobs > PACK_BLOBS
        ):
            yield batch
            batch = []
        batch.append(pack)
    if batch:
        yield batch
