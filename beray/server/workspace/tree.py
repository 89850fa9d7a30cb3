"""Iteration over and removal of directory trees of any depth.

Tasks create trees of any shape. The functions do not recurse, do not follow links and keep only
a limited number of descriptors open.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from beray.server.storage.shortage import is_shortage
from beray.server.workspace.safe_open import (
    InvalidPath,
    change_mode,
    open_directory,
    quote_path,
)
from beray.transfers import wire_names

MAX_OPEN_DIRECTORIES: Final = 64
"""Maximum number of descriptors of a walk."""
MAX_NAMES_IN_MEMORY: Final = 100_000
"""Number of names of a directory that a walk keeps in memory, about 100 bytes each."""
_MAX_CHANGES: Final = 100
"""Maximum number of entries that other processes may change during a removal."""
_CHANGED: Final = frozenset(
    {
        errno.EEXIST, errno.ENOTEMPTY,  # an entry was added
        errno.ENOENT,  # an entry was removed or renamed
        errno.EISDIR, errno.ENOTDIR, errno.ELOOP,  # an entry was replaced by one of another kind
    }
)  # fmt: skip
"""Errors of a removal whose entry a process has changed; the directory is then read again."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """File or directory of a walk.

    Attributes:
        path: Path relative to the work_dir, separated by ``/``.
        directory: Descriptor of the parent directory; valid until the walk continues.
        status: Status just before the walk yielded the entry.
    """

    path: bytes
    directory: int
    status: os.stat_result

    @property
    def name(self) -> bytes:
        """Last part of the path."""
        return self.path.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        """True for a directory."""
        return stat.S_ISDIR(self.status.st_mode)


class TooManyEntries(InvalidPath):
    """A directory has more entries than the limit of the walk."""


class _Level:
    """Directory of a walk, with its names that were not visited yet, in descending order.

    Attributes:
        after: Last name that was read. Names up to it were visited or are in ``pending``.
        is_read: Whether ``pending`` has all names that were not visited.
    """

    def __init__(self, descriptor: int, depth_bytes: int) -> None:
        self.descriptor: int | None = descriptor
        self.depth_bytes = depth_bytes
        self.after = b""
        self.pending: list[bytes] = []
        self.is_read = False

    def read(self, limit: int, *, special: bool) -> int:
        """Read up to ``limit`` names after ``after`` and return their number."""
        assert self.descriptor is not None
        names: list[bytes] = []
        bound: bytes | None = None
        with os.scandir(self.descriptor) as entries:
            for entry in entries:
                if not (
                    special
                    or entry.is_file(follow_symlinks=False)
                    or entry.is_dir(follow_symlinks=False)
                ):
                    continue
                name = os.fsencode(entry.name)
                if name <= self.after or (bound is not None and name > bound):
                    continue
                names.append(name)
                if len(names) == 2 * limit:
                    names.sort()
                    del names[limit:]
                    bound = names[-1]
        names.sort()
        self.is_read = bound is None and len(names) <= limit
        del names[limit:]
        if names:
            self.after = names[-1]
        names.reverse()
        self.pending = names
        return len(names)

    def skip(self) -> None:
        """Skip the remaining names."""
        self.pending.clear()
        self.is_read = True

    def close(self) -> None:
        """Close the descriptor. Idempotent."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None


def walk(
    base: int,
    parts: Sequence[bytes] = (),
    *,
    limit: int | None = None,
    strict: bool = False,
    special: bool = False,
    depth: int | None = None,
    after: Sequence[bytes] = (),
    max_names: int = MAX_NAMES_IN_MEMORY,
    path_bytes: int | None = None,
) -> Generator[TreeEntry, None, None]:
    """Yield the files and directories below ``parts``, sorted, directories before their contents.

    A directory that disappears or cannot be read is yielded without its contents. The order
    depends only on the paths. A walk that continues ``after`` an entry therefore neither repeats
    nor skips entries that exist all the time.

    Args:
        base: Descriptor of the work_dir.
        parts: Parts of the path of the directory.
        limit: Maximum number of entries.
        strict: Raise an error for entries that disappear or cannot be read.
        special: Include links and special files.
        depth: Number of levels; 1 for the entries of the directory itself.
        after: Position below ``parts`` after which the walk starts. An entry need not exist
            there.
        max_names: Number of names of one directory that are kept in memory. Larger directories
            are read several times.
        path_bytes: Directories with longer paths are yielded without their contents.

    Raises:
        TooManyEntries: There are more than ``limit`` entries.
        OSError: The directory at ``parts`` cannot be opened, the server is short of descriptors,
            or, with ``strict``, an entry cannot be read.
    """
    prefix = b"".join(part + b"/" for part in parts)
    levels = [_Level(open_directory(base, parts), len(prefix))]
    found = 0

    def is_ignorable(error: OSError) -> bool:
        return not strict and not is_shortage(error)

    try:
        for name in after:
            levels[-1].after = name
            if depth is not None and len(levels) >= depth:
                break
            try:
                prefix = _enter(levels, name, prefix)
            except OSError as error:
                if not is_ignorable(error):
                    raise
                break
        while levels:
            level = levels[-1]
            prefix = prefix[: level.depth_bytes]
            if not level.pending and level.is_read:
                levels.pop().close()
                continue
            try:
                directory = _descriptor(base, levels, prefix)
            except OSError as error:
                if not is_ignorable(error):
                    raise
                level.skip()
                continue
            if not level.pending:
                count = max_names if limit is None else min(max_names, limit - found + 1)
                found += level.read(count, special=special)
                if limit is not None and found > limit:
                    path = quote_path(wire_names.encode(b"/".join(parts)) or ".")
                    raise TooManyEntries(f"{path} has more than {limit:,} entries")
                continue
            name = level.pending.pop()
            try:
                status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            except OSError as error:
                # A directory may be readable without the permission to access its entries.
                if not is_ignorable(error) or (len(levels) == 1 and error.errno == errno.EACCES):
                    raise
                continue
            if not (special or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                if strict:  # it was a file or a directory when the name was read
                    raise OSError(errno.ELOOP, "became a link or a special file")
                continue
            entry = TreeEntry(prefix + name, directory, status)
            yield entry
            if not entry.is_directory or (depth is not None and len(levels) >= depth):
                continue
            if path_bytes is not None and len(entry.path) > path_bytes:
                continue
            try:
                prefix = _enter(levels, name, prefix)
            except OSError as error:
                if not is_ignorable(error):
                    raise
    finally:
        for level in levels:
            level.close()


def _enter(levels: list[_Level], name: bytes, prefix: bytes) -> bytes:
    """Open the directory ``name`` of the last level as a new level; return its path prefix."""
    above = levels[-1].descriptor
    assert above is not None
    prefix += name + b"/"
    levels.append(_Level(open_directory(above, (name,)), len(prefix)))
    if len(levels) > MAX_OPEN_DIRECTORIES:
        levels[-MAX_OPEN_DIRECTORIES - 1].close()
    return prefix


def _descriptor(base: int, levels: list[_Level], prefix: bytes) -> int:
    """Return the descriptor of the last level, reopening it if it was closed."""
    last = levels[-1]
    if last.descriptor is None:
        # The levels above are needed next, so they are opened as well.
        reopened = levels[-MAX_OPEN_DIRECTORIES // 2 :]
        parts = prefix.split(b"/")[:-1]
        start = len(parts) - len(reopened) + 1
        for level in reopened:
            level.close()
        directory = reopened[0].descriptor = open_directory(base, parts[:start])
        for level, part in zip(reopened[1:], parts[start:], strict=True):
            directory = level.descriptor = open_directory(directory, (part,))
    assert last.descriptor is not None
    return last.descriptor


def make_empty(path: Path) -> None:
    """Create an empty directory of the server with mode 0700; remove existing contents.

    Raises:
        OSError: The directory cannot be created, or its contents cannot be removed.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        clear(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a directory of the server and its contents of any depth.

    Raises:
        OSError: Part of the contents cannot be removed.
    """
    make_empty(path)
    path.rmdir()


def clear(directory: int) -> None:
    """Remove the contents of a directory, also those without permissions for their owner.

    Subdirectories are moved up into ``directory`` before their parent is removed. Paths therefore
    stay short, and two descriptors are enough.

    Raises:
        OSError: An entry cannot be removed, or a process keeps changing entries.
    """
    changed = 0
    while names := os.listdir(directory):
        for name in names:
            try:
                _remove(directory, name)
            except OSError as error:
                changed += 1
                if error.errno not in _CHANGED or changed > _MAX_CHANGES:
                    raise


def _remove(directory: int, name: str) -> None:
    if not grant_owner_access(directory, name):
        os.unlink(name, dir_fd=directory)
        return
    inner = open_directory(directory, (os.fsencode(name),))
    try:
        for child in os.listdir(inner):  # noqa: PTH208 - a descriptor
            if grant_owner_access(inner, child):
                os.rename(child, uuid.uuid4().hex, src_dir_fd=inner, dst_dir_fd=directory)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=directory)


def grant_owner_access(directory: int, name: str) -> bool:
    """Give the owner all permissions for ``name`` if it is a directory.

    Returns:
        Whether ``name`` is a directory.

    Raises:
        FileNotFoundError: ``name`` does not exist.
    """
    mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        return False
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        change_mode(directory, name, stat.S_IRWXU)
    return True
