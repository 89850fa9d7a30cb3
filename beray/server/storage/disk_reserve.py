"""Space on the disk that only recovery operations use.

On a full disk, users and the operator still have to sign in, stop and delete tasks, and delete
files. The reserve is an allocated file in the data directory. When such an operation meets a
full disk, a part of the file is given back to the file system, the operation is repeated, and
the reserve is then allocated again as far as there is space. Until it is whole, everything else
that the server would write is refused as if the disk were full. So the reserve cannot be used up by
uploads or events. Commands of tasks write to the disk themselves: they can take a part while it is
free, which is why it is given back in steps.
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
"""Into how many steps the reserve is divided at most."""
LEAST_STEP_BYTES: Final = 512 * 1024
"""A transaction of a few rows, with its write-ahead log, needs less."""
REFILL_SECONDS: Final = 1.0
_LEAST_GROWTH_BYTES: Final = 4096
_USE_SECONDS: Final = 3.0
"""Time that other writes wait for the end of a recovery operation."""
_BLOCK_BYTES: Final = 1024 * 1024

T = TypeVar("T")

log = structlog.get_logger("beray.disk")


class DiskReserve:
    """The reserve in a file. Synchronous; used from threads.

    Args:
        path: the file; it is created by ``refill``.
        size: bytes of the whole reserve; 0: there is none.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._step = max(size // STEPS, LEAST_STEP_BYTES)
        self._users = 0
        self._free = threading.Condition()
        self._held = _allocated(path, size)
        self._was_short = False

    @property
    def size(self) -> int:
        """Bytes of the whole reserve."""
        return self._size

    @property
    def is_incomplete(self) -> bool:
        """True if a part of the reserve is missing."""
        return self._held < self._size

    def use(self, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, repeating it with more space while the disk is full.

        Args:
            call: has no effect where it raises for a full disk.

        Raises:
            OSError, OperationalError: ``call`` raised it, or the whole reserve is not enough.
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
        """Keep a step free during the block, for a start on a full disk."""
        with self._free:
            self._users += 1
        try:
            while free_bytes(self._path.parent) < self._step and self._release():
                pass
            yield
        finally:
            self._end_use()

    def require_complete(self) -> None:
        """Return if the space on the disk is not only the reserve's.

        Raises:
            OperationalError: for which ``is_full`` is true.
        """
        if not self.refill():
            raise database_errors.full_error()

    def refill(self) -> bool:
        """Allocate what is missing as far as there is space; return whether the reserve is whole.

        Waits for the end of the recovery operations that use it.
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
        """Give a step back to the file system; return whether there was one."""
        with self._free:
            left = max(self._held - self._step, 0)
            if left == self._held:
                return False
            os.truncate(self._path, left)
            log.warning("the disk is full; a part of the reserve is used", left_bytes=left)
            self._held, self._was_short = left, True
            return True

    def _grow(self) -> None:
        """Allocate as much as there is space for; ``_free`` is held."""
        if not self.is_incomplete:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if not is_full(error):
                log.error("the reserve cannot be created", path=str(self._path), exc_info=error)
            return
        try:
            wanted = min(self._size - self._held, free_bytes(self._path.parent))
            while wanted >= _LEAST_GROWTH_BYTES or wanted == self._size - self._held:
                try:
                    _allocate(descriptor, self._held, wanted)
                except OSError as error:
                    os.ftruncate(descriptor, self._held)
                    if not is_full(error):
                        log.error("the reserve cannot be allocated", exc_info=error)
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
                "the disk is full: there is no space for the reserve; only sign-ins, stops and "
                "deletions are accepted",
                missing_bytes=missing,
            )
        elif not missing and self._was_short:
            log.info("the reserve is whole again", bytes=self._size)
        self._was_short = missing > 0


@asynccontextmanager
async def keep_reserve_filled(reserve: DiskReserve) -> AsyncIterator[None]:
    """Allocate the reserve during the block, and what is missing of it as space returns."""

    async def keep() -> None:
        while True:
            if reserve.is_incomplete:
                await run_in_threadpool(reserve.refill)
            await asyncio.sleep(REFILL_SECONDS)

    keeping = asyncio.create_task(keep(), name="reserve")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


def free_bytes(folder: Path) -> int:
    """Return the bytes that this process can still write on the file system of ``folder``."""
    found = os.statvfs(folder)
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    return blocks * found.f_frsize


def _allocated(path: Path, size: int) -> int:
    """Return the bytes that the file reserves already, after removing what it has too much."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    # A copy of a data directory can have holes in its place, which reserve nothing.
    held = min(status.st_size, size) if status.st_blocks * 512 >= status.st_size else 0
    if held == 0:
        path.unlink()
    elif held < status.st_size:
        os.truncate(path, held)
    return held


def _allocate(descriptor: int, start: int, size: int) -> None:
    """Allocate a range of a file.

    Raises:
        OSError: with ENOSPC or EDQUOT if there is no space.
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
    # Random bytes: a file system that compresses would reserve nothing for zeros.
    while size:
        written = os.pwrite(descriptor, os.urandom(min(size, _BLOCK_BYTES)), start)
        start += written
        size -= written
