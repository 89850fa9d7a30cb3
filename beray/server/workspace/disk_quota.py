"""Disk quota of a task: enforced while it runs, and checked before files are accepted.

Commands write directly to the disk, so the work_dir of a running task is scanned periodically.
Without quotas of the file system, a task can exceed its limit by the amount that it writes until
the next scan has ended. This takes at most ``CHECK_INTERVAL_SECONDS`` and the duration of a scan
after the growth of the file system shows that the limit may be exceeded.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.server.storage.shortage import retry_on_shortage
from beray.server.workspace import disk_usage
from beray.server.workspace.disk_usage import BLOCK_BYTES, DiskLimits, DiskUsage

SCAN_INTERVAL_SECONDS: Final = 1.0
"""Minimum pause between two scans."""
CHECK_INTERVAL_SECONDS: Final = 0.25
"""Pause between two checks of the whole file system and of unlinked files."""
SCAN_PAUSE_FACTOR: Final = 10
"""Minimum pause after a scan, as a multiple of its duration, unless the file system grows."""
MAX_INCOMPLETE_SCANS: Final = 3
"""Incomplete scans in a row after which the growth of the file system counts instead."""


class DiskQuotaExceeded(Exception):
    """The files of a task exceed its disk quota. The message names the limit."""


class InsufficientSpace(OSError):
    """A file does not fit into the remaining quota. ``strerror`` names the numbers.

    Attributes:
        fits_never: Whether the file would not fit into an empty work_dir either.
    """

    def __init__(self, message: str, *, fits_never: bool) -> None:
        super().__init__(errno.EDQUOT, message)
        self.fits_never = fits_never


class DiskQuota:
    """Disk quota of one work_dir.

    The server and the runners reserve the size of files before they write them. Methods that
    are not coroutines may be called in any thread.

    Args:
        extra_dirs: Returns further directories that count, such as the sandbox's ``/tmp``.
    """

    def __init__(
        self,
        work_dir: Path,
        limits: DiskLimits,
        extra_dirs: Callable[[], Iterable[Path]] = lambda: (),
    ) -> None:
        self._work_dir = work_dir
        self._limits = limits
        self._extra_dirs = extra_dirs
        self._lock = threading.Lock()
        self._known: DiskUsage | None = None
        self._unlinked = DiskUsage()
        self._fresh_until = 0.0
        self._reserved = DiskUsage()

    @property
    def is_idle(self) -> bool:
        """True if nothing is reserved."""
        return self._reserved == DiskUsage()

    def measure(self) -> DiskUsage:
        """Scan the directories now and keep the result."""
        started = time.monotonic()
        extra_dirs = list(self._extra_dirs())
        self._unlinked = sum(map(disk_usage.unlinked_usage, extra_dirs), DiskUsage())
        usage = disk_usage.measure([self._work_dir, *extra_dirs], self._limits) + self._unlinked
        ended = time.monotonic()
        self._fresh_until = ended + max(
            SCAN_INTERVAL_SECONDS, SCAN_PAUSE_FACTOR * (ended - started)
        )
        self._known = usage
        return usage

    def forget(self) -> None:
        """Discard the last result, because a command may have written since."""
        self._known = None

    def reservation(self, *, files: int, folders: int = 0, replaced: int = 0) -> Reservation:
        """Start the reservation of a file; ``Reservation.grow_to`` reserves its bytes.

        Args:
            files: Number of files that will be added: 0 if a file is replaced.
            folders: Maximum number of directories that will be added.
            replaced: Bytes of the file that will be replaced.

        Raises:
            InsufficientSpace: The work_dir would exceed its number of files or bytes.
        """
        added = DiskUsage(folders * BLOCK_BYTES, files + folders)
        self.reserve(added, replaced)
        return Reservation(self, added, replaced)

    def reserve(self, added: DiskUsage, replaced: int) -> None:
        """Reserve the space of entries, for a ``Reservation``.

        Raises:
            InsufficientSpace: The work_dir would exceed its number of files or bytes.
        """
        with self._lock:
            known = self._known or self.measure()
            problem = self._space_error(known, added, replaced)
            if problem is not None and time.monotonic() > self._fresh_until:
                problem = self._space_error(self.measure(), added, replaced)  # files may be deleted
            if problem is not None:
                raise problem
            self._reserved += added

    def _space_error(
        self, known: DiskUsage, added: DiskUsage, replaced: int
    ) -> InsufficientSpace | None:
        used, limits = known + self._reserved, self._limits
        if used.bytes + added.bytes - replaced > limits.bytes:
            return InsufficientSpace(
                f"{added.bytes:,} more bytes do not fit into the work_dir: {used.bytes:,} of "
                f"{limits.bytes:,} bytes (BERAY_WORK_DIR_BYTES) are used; delete files first",
                fits_never=added.bytes > limits.bytes,
            )
        if used.files + added.files > limits.files:
            return InsufficientSpace(
                f"another file does not fit into the work_dir: it has {used.files:,} of "
                f"{limits.files:,} files and folders (BERAY_WORK_DIR_FILES); delete files first",
                fits_never=False,
            )
        return None

    def release(self, reserved: DiskUsage, written: DiskUsage) -> None:
        """Release reserved space, and add the part that is in the work_dir now."""
        with self._lock:
            self._reserved += DiskUsage(-reserved.bytes, -reserved.files)
            if self._known is not None:
                self._known += written

    async def check(self) -> None:
        """Scan the directories once.

        Raises:
            DiskQuotaExceeded: The files exceed a limit.
        """
        self._check_limits(await retry_on_shortage(lambda: run_in_threadpool(self.measure)))

    async def enforce(self) -> None:
        """Scan the directories periodically, until cancelled.

        Raises:
            DiskQuotaExceeded: The files exceed a limit.
        """
        before = await run_in_threadpool(disk_usage.file_system_usage, self._work_dir)
        incomplete = 0
        while True:
            started = time.monotonic()
            at_start = await run_in_threadpool(disk_usage.file_system_usage, self._work_dir)
            usage = await retry_on_shortage(lambda: run_in_threadpool(self.measure))
            seconds = time.monotonic() - started
            self._check_limits(usage)
            incomplete = 0 if usage.is_complete else incomplete + 1
            if incomplete >= MAX_INCOMPLETE_SCANS:
                await run_in_threadpool(self._check_file_system_growth, before)
            # Even if other tasks fill the disk, scans take at most half of the time.
            await asyncio.sleep(max(CHECK_INTERVAL_SECONDS, seconds))
            until = started + seconds + max(SCAN_INTERVAL_SECONDS, SCAN_PAUSE_FACTOR * seconds)
            while time.monotonic() < until:
                check = partial(run_in_threadpool, self._may_be_exceeded, usage, at_start)
                if await retry_on_shortage(check):
                    break
                await asyncio.sleep(CHECK_INTERVAL_SECONDS)

    def _check_limits(self, usage: DiskUsage) -> None:
        if (problem := self._limits.excess(usage)) is not None:
            raise DiskQuotaExceeded(problem)

    def _may_be_exceeded(self, usage: DiskUsage, at_start: DiskUsage) -> bool:
        """Return True if growth since the last scan may exceed a limit."""
        now = disk_usage.file_system_usage(self._work_dir)
        growth = DiskUsage(now.bytes - at_start.bytes, now.files - at_start.files)
        unlinked = sum(map(disk_usage.unlinked_usage, self._extra_dirs()), DiskUsage())
        held = DiskUsage(
            unlinked.bytes - self._unlinked.bytes, unlinked.files - self._unlinked.files
        )
        return any(self._limits.excess(usage + more) is not None for more in (growth, held))

    def _check_file_system_growth(self, before: DiskUsage) -> None:
        """Apply the limits to the growth of the file system, if scans are incomplete."""
        now = disk_usage.file_system_usage(self._work_dir)
        growth = DiskUsage(now.bytes - before.bytes, now.files - before.files)
        if (problem := self._limits.excess(growth)) is not None:
            raise DiskQuotaExceeded(f"{problem}, some of whose directories cannot be read")


class Reservation:
    """Reserved space for one file that is being written; ``close`` releases unused space."""

    def __init__(self, quota: DiskQuota, reserved: DiskUsage, replaced: int) -> None:
        self._quota = quota
        self._reserved = reserved
        self._entry_bytes = reserved.bytes
        self._replaced = replaced
        self._is_open = True

    def grow_to(self, size: int) -> None:
        """Extend the reservation to a file of ``size`` bytes.

        Raises:
            InsufficientSpace: The file does not fit. The earlier reservation remains.
        """
        # A file uses whole blocks.
        wanted = self._entry_bytes - (-size // BLOCK_BYTES) * BLOCK_BYTES
        if wanted > self._reserved.bytes:
            added = DiskUsage(wanted - self._reserved.bytes)
            self._quota.reserve(added, self._replaced)
            self._reserved += added

    def close(self, *, written: bool) -> None:
        """Release the reservation. Idempotent.

        Args:
            written: Whether the file is in the work_dir now, with all reserved bytes.
        """
        if not self._is_open:
            return
        self._is_open = False
        added = self._reserved + DiskUsage(-self._replaced) if written else DiskUsage()
        self._quota.release(self._reserved, added)
