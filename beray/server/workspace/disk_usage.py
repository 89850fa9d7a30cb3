"""Measure what directories use on disk, while commands change them.

Synchronous, for threads. POSIX: Linux and macOS.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

USAGE_FILE: Final = ".usage"
"""In the scratch folder of a command: bytes and number of its unlinked files that are still
open, as ``ResourceWatch`` reports them."""
BLOCK_BYTES: Final = 4096
"""Usual block size of file systems, to estimate what a file is going to use."""
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORT_BYTES: Final = 64


class DiskLimits(NamedTuple):
    """Limits of one task's files."""

    bytes: int
    files: int

    def excess(self, usage: DiskUsage) -> str | None:
        """Return the limit that ``usage`` exceeds, in words, or ``None``."""
        if usage.bytes > self.bytes:
            return f"more than {self.bytes:,} bytes in the work_dir"
        if usage.files > self.files:
            return f"more than {self.files:,} files and folders in the work_dir"
        return None


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes and number of files.

    Attributes:
        bytes: Allocated blocks. A file with several names counts once, the holes of a sparse
            file do not count.
        files: Names of any kind: files, folders, links and special files.
        is_complete: False if a folder could not be read, or was moved meanwhile. The numbers are
            too low then.
    """

    bytes: int = 0
    files: int = 0
    is_complete: bool = True

    def __add__(self, other: DiskUsage) -> DiskUsage:
        return DiskUsage(
            self.bytes + other.bytes,
            self.files + other.files,
            self.is_complete and other.is_complete,
        )


def measure(roots: Iterable[Path], limits: DiskLimits | None = None) -> DiskUsage:
    """Return what the directories use, with everything in them.

    A directory that does not exist uses nothing.

    Args:
        limits: Stop counting once they are exceeded.
    """
    count = _UsageCounter(limits)
    for root in roots:
        if not count.is_over:
            count.add_tree(root)
    return DiskUsage(count.bytes, count.files, count.is_complete)


def file_system_usage(path: Path) -> DiskUsage:
    """Return what is used on the file system of ``path``; nothing if ``path`` does not exist."""
    try:
        status = os.statvfs(path)
    except OSError:
        return DiskUsage()
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    return DiskUsage(used, status.f_files - status.f_ffree)


def unlinked_usage(scratch: Path) -> DiskUsage:
    """Return what a command uses in unlinked files, as its supervisor has reported it last."""
    try:
        file = os.open(scratch / USAGE_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return DiskUsage()
    try:
        size, files = map(int, os.read(file, _REPORT_BYTES).split())
    except (OSError, ValueError):
        return DiskUsage()
    finally:
        os.close(file)
    return DiskUsage(max(size, 0), max(files, 0))


class _UsageCounter:
    """Sums over trees. Depth costs no descriptors: one folder is open at a time.

    The way up is ``..``. A folder that was moved meanwhile is recognised by its identity, so
    that nothing outside the tree is read.
    """

    def __init__(self, limits: DiskLimits | None) -> None:
        self.bytes = 0
        self.files = 0
        self.is_complete = True
        self._limits = limits
        self._linked: set[tuple[int, int]] = set()

    @property
    def is_over(self) -> bool:
        limits = self._limits
        return limits is not None and (self.bytes > limits.bytes or self.files > limits.files)

    def add_tree(self, root: Path) -> None:
        try:
            folder = os.open(root, _DIRECTORY_FLAGS)
        except FileNotFoundError:
            return
        except OSError:
            self.is_complete = False
            return
        try:
            status = os.fstat(folder)
            self.bytes += status.st_blocks * 512
            trail = [(_identity(status), self._read(folder))]
            while trail and not self.is_over:
                pending = trail[-1][1]
                if pending:
                    deeper = self._open(pending.pop(), folder)
                    if deeper is None:
                        continue
                    folder = _replace_descriptor(folder, deeper)
                    trail.append((_identity(os.fstat(folder)), self._read(folder)))
                    continue
                trail.pop()
                if trail:
                    above = self._open("..", folder)
                    if above is None:
                        return
                    folder = _replace_descriptor(folder, above)
                    if _identity(os.fstat(folder)) != trail[-1][0]:
                        self.is_complete = False
                        return
        finally:
            os.close(folder)

    def _open(self, name: str, folder: int) -> int | None:
        try:
            return os.open(name, _DIRECTORY_FLAGS, dir_fd=folder)
        except OSError:
            self.is_complete = False
            return None

    def _read(self, folder: int) -> list[str]:
        """Count what is in a folder; return the names of the folders in it."""
        folders = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.files += 1
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.name)
                    elif status.st_nlink > 1 and self._is_counted(status):
                        continue
                    self.bytes += status.st_blocks * 512
                    if self.is_over:
                        break
        except OSError:
            self.is_complete = False
        return folders

    def _is_counted(self, status: os.stat_result) -> bool:
        identity = _identity(status)
        known = identity in self._linked
        self._linked.add(identity)
        return known


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _replace_descriptor(old: int, new: int) -> int:
    os.close(old)
    return new
