"""Reserved disk space that only recovery operations use.

On a full disk, users and the operator still have to be able to sign in, stop and delete tasks,
and delete files. The reserve is an allocated file in the data directory. If such an operation
fails because the disk is full, a part of the file is released, the operation is repeated, and
the reserve is then allocated again as far as there is space. Until it is complete, all other
writes of the server fail as if the disk were full, so uploads and events cannot use up the
reserve. Commands of tasks write to the disk themselves and can take space while it is released,
which is why it is released in steps.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool

from beray.server.storage import database_errors
from beray.server.storage.database_errors import is_full

FILE_NAME: Final = "space.reserve"
STEPS: Final = 8
"""Maximum number of steps in which the reserve is released."""
MIN_STEP_BYTES: Final = 512 * 1024
"""A transaction of a few rows, with its write-ahead log, needs less."""
REFILL_INTERVAL_SECONDS: Final = 1.0
_MIN_GROWTH_BYTES: Final = 4096
_USE_SECONDS: Final = 3.0
"""Maximum wait of other writes for the end of a recovery operation."""
_BLOCK_BYTES: Final = 1024 * 1024

T = TypeVar("T")

log = structlog.get_logger("beray.disk")


class DiskReserve:
    """Reserved disk space, allocated in a file. Synchronous; used from threads.

    Args:
        path: The file; ``refill`` creates it.
        size: Bytes of the complete reserve; 0 disables it.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._step = max(size // STEPS, MIN_STEP_BYTES)
        self._users = 0
        self._free = threading.Condition()
        self._held = _allocated(path, size)
        self._was_short = False

    @property
    def size(self) -> int:
        """Bytes of the complete reserve."""
        return self._size

    @property
    def is_incomplete(self) -> bool:
        """True if a part of the reserve is missing."""
        return self._held < self._size

    def use(self, call: Callable[[], T]) -> T:
        """Return the result of ``call``, repeating it with more space while the disk is full.

        Args:
            call: Operation that has no effect if it fails because the disk is full.

        Raises:
            OSError, OperationalError: ``call`` failed for another reason, or the complete
                reserve is not enough.
        """
        try:
            return call()
        except (OSError, OperationalError) as error:
            if not is_full(error):
                raise
        with self._free:
            self._users += 1
        try:
            while True:
                released = self._release()
                try:
                    return call()
                except (OSError, OperationalError) as error:
                    if not is_full(error) or not released:
                        raise
        finally:
            self._end_use()

    @contextmanager
    def released_for_startup(self) -> Iterator[None]:
        """Keep one step of the reserve released during the block, to start on a full disk."""
        with self._free:
            self._users += 1
        try:
            while free_bytes(self._path.parent) < self._step and self._release():
                pass
            yield
        finally:
            self._end_use()

    def require_complete(self) -> None:
        """Check that the reserve is complete, allocating missing parts if there is space.

        Raises:
            OperationalError: The disk is full (``is_full``).
        """
        if not self.refill():
            raise database_errors.full_error()

    def refill(self) -> bool:
        """Allocate missing parts as far as there is space; return True if the reserve is complete.

        Waits for the end of the recovery operations that use the reserve.
        """
        if not self.is_incomplete:
            return True
        with self._free:
            self._free.wait_for(lambda: not self._users, _USE_SECONDS)
            if not self._users:
                self._grow()
            return not self.is_incomplete

    def _end_use(self) -> None:
        with self._free:
            self._users -= 1
            if not self._users:
                self._grow()
                self._free.notify_all()

    def _release(self) -> bool:
        """Release one step of the reserve; return False if nothing is left."""
        with self._free:
            left = max(self._held - self._step, 0)
            if left == self._held:
                return False
            os.truncate(self._path, left)
            log.warning("the disk is full; using a part of the reserve", left_bytes=left)
            self._held, self._was_short = left, True
            return True

    def _grow(self) -> None:
        """Allocate missing parts as far as there is space. The caller holds ``_free``."""
        if not self.is_incomplete:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not is_full(error):
                log.error("cannot create the reserve", path=str(self._path), exc_info=error)
            return
        try:
            wanted = min(self._size - self._held, free_bytes(self._path.parent))
            while wanted >= _MIN_GROWTH_BYTES or wanted == self._size - self._held:
                try:
                    allocate_space(descriptor, self._held, wanted)
                except OSError as error:
                    os.ftruncate(descriptor, self._held)
                    if not is_full(error):
                        log.error("cannot allocate the reserve", exc_info=error)
                        return
                    wanted //= 2
                    continue
                self._held += wanted
                break
        finally:
            os.close(descriptor)
        missing = self._size - self._held
        if missing and not self._was_short:
            log.error(
                "the disk is full and the reserve is incomplete: only sign-ins, stops and "
                "deletions are accepted until space is freed",
                missing_bytes=missing,
            )
        elif not missing and self._was_short:
            log.info("the reserve is complete again", bytes=self._size)
        self._was_short = missing > 0


@asynccontextmanager
async def keep_reserve_filled(reserve: DiskReserve) -> AsyncIterator[None]:
    """Refill the reserve during the block whenever space becomes available."""

    async def refill() -> None:
        while True:
            if reserve.is_incomplete:
                await run_in_threadpool(reserve.refill)
            await asyncio.sleep(REFILL_INTERVAL_SECONDS)

    refilling = asyncio.create_task(refill(), name="reserve")
    try:
        yield
    finally:
        refilling.cancel()
        await asyncio.wait([refilling])


def free_bytes(directory: Path) -> int:
    """Return the bytes that this process can still write to the file system of ``directory``."""
    found = os.statvfs(directory)
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize


def _allocated(path: Path, size: int) -> int:
    """Return the bytes that the file reserves, after truncating it to ``size``."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    # In a copy of a data directory the file may be sparse, and then reserves nothing.
    held = min(status.st_size, size) if status.st_blocks * 512 >= status.st_size else 0
    if held == 0:
        path.unlink()
    elif held < status.st_size:
        os.truncate(path, held)
    return held


def allocate_space(descriptor: int, start: int, size: int) -> None:
    """Allocate disk space for a range of a file.

    Raises:
        OSError: The disk is full (ENOSPC, EDQUOT), or the file cannot be written.
    """
    allocate: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        try:
            allocate(descriptor, start, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
        else:
            return
    # Random bytes, because a compressing file system would reserve nothing for zeros.
    while size:
        written = os.pwrite(descriptor, os.urandom(min(size, _BLOCK_BYTES)), start)
        start += written
        size -= written
