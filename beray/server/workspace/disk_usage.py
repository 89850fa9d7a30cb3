"""Measurement of the disk usage of directories, while commands change them.

Synchronous; for threads. POSIX: Linux and macOS.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

USAGE_FILE: Final = ".usage"
"""File in the scratch directory of a command with the bytes and the number of its unlinked files
that are still open, as ``ResourceWatch`` reports them."""
BLOCK_BYTES: Final = 4096
"""Usual block size of file systems, to estimate the disk usage of a file."""
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORT_BYTES: Final = 64


class DiskLimits(NamedTuple):
    """Limits of the bytes and the number of a task's files."""

    bytes: int
    files: int

    def excess(self, usage: DiskUsage) -> str | None:
        """Return a description of the limit that ``usage`` exceeds, or None."""
        if usage.bytes > self.bytes:
            return f"more than {self.bytes:,} bytes in the work_dir"
        if usage.files > self.files:
            return f"more than {self.files:,} files and folders in the work_dir"
        return None


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes and number of files.

    Attributes:
        bytes: Allocated blocks. A file with several names counts once, and the holes of a sparse
            file do not count.
        files: Number of names of files, directories, links and special files.
        is_complete: False if a directory could not be read, or was moved meanwhile. The numbers
            are too low then.
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
    """Return the usage of directories and all their contents.

    Missing directories count as empty.

    Args:
        roots: Directories to measure.
        limits: Stop counting once these are exceeded.
    """
    count = _UsageCounter(limits)
    for root in roots:
        if not count.is_over:
            count.add_tree(root)
    return DiskUsage(count.bytes, count.files, count.is_complete)


def file_system_usage(path: Path) -> DiskUsage:
    """Return the usage of the file system of ``path``; zero if ``path`` does not exist."""
    try:
        status = os.statvfs(path)
    except OSError:
        return DiskUsage()
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    return DiskUsage(used, status.f_files - status.f_ffree)


def unlinked_usage(scratch: Path) -> DiskUsage:
    """Return the last report of a command's supervisor about unlinked files."""
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
    """Counter of the usage of directory trees of any depth.

    One directory is open at a time, and ``..`` leads to the parent. Directories that were moved
    meanwhile are detected by their identity, so that nothing outside the tree is read.
    """

    def __init__(self, limits: DiskLimits | None) -> None:
        self.bytes = 0
        self.files = 0
        self.is_complete = True
        self._limits = limits
        self._linked: set[tuple[int, int]] = set()

    @property
    def is_over(self) -> bool:
        """True if a limit is exceeded."""
        limits = self._limits
        return limits is not None and (self.bytes > limits.bytes or self.files > limits.files)

    def add_tree(self, root: Path) -> None:
        """Count a directory and everything below it."""
        try:
            directory = os.open(root, _DIRECTORY_FLAGS)
        except FileNotFoundError:
            return
        except OSError:
            self.is_complete = False
            return
        try:
            status = os.fstat(directory)
            self.bytes += status.st_blocks * 512
            trail = [(_identity(status), self._read(directory))]
            while trail and not self.is_over:
                pending = trail[-1][1]
                if pending:
                    deeper = self._open(pending.pop(), directory)
                    if deeper is None:
                        continue
                    directory = _replace_descriptor(directory, deeper)
                    trail.append((_identity(os.fstat(directory)), self._read(directory)))
                    continue
                trail.pop()
                if trail:
                    above = self._open("..", directory)
                    if above is None:
                        return
                    directory = _replace_descriptor(directory, above)
                    if _identity(os.fstat(directory)) != trail[-1][0]:
                        self.is_complete = False
                        return
        finally:
            os.close(directory)

    def _open(self, name: str, directory: int) -> int | None:
        try:
            return os.open(name, _DIRECTORY_FLAGS, dir_fd=directory)
        except OSError:
            self.is_complete = False
            return None

    def _read(self, directory: int) -> list[str]:
        """Count the entries of a directory and return the names of its subdirectories."""
        subdirectories = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    self.files += 1
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if stat.S_ISDIR(status.st_mode):
                        subdirectories.append(entry.name)
                    elif status.st_nlink > 1 and self._is_counted(status):
                        continue
                    self.bytes += status.st_blocks * 512
                    if self.is_over:
                        break
        except OSError:
            self.is_complete = False
        return subdirectories

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
