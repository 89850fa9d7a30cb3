"""What is in a folder: walked, or cleared away, at any depth.

Tasks make trees of any shape. Neither function recurses, follows a link or keeps
more than a bounded number of descriptors open.
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

from beray.server.runtime.shortage import is_shortage
from beray.server.workspace.safe_open import InvalidPath, open_directory, quote_path
from beray.transfers import wire_names

MAX_OPEN_DIRECTORIES: Final = 64
MAX_NAMES_IN_MEMORY: Final = 100_000
"""Number of names of a folder that a walk keeps, about 100 bytes each."""
_MAX_REFILLS: Final = 100
"""How often a folder may fill again while it is being removed."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A file or a folder met on a walk.

    Attributes:
        path: relative to the work_dir, ``/`` between parts.
        folder: descriptor of the folder it is in; valid until the next entry is asked for.
        status: from just before the entry was given.
    """

    path: bytes
    folder: int
    status: os.stat_result

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class TooManyEntries(InvalidPath):
    """A walk has found more than ``limit`` entries."""


class _Level:
    """A folder on the way down, and the names in it that are left to visit, the last first.

    Attributes:
        after: The last name that was read; the names up to it are done, or in ``pending``.
        is_read: Whether ``pending`` has all names after those that are done.
    """

    def __init__(self, descriptor: int, depth_bytes: int) -> None:
        self.descriptor: int | None = descriptor
        self.depth_bytes = depth_bytes
        self.after = b""
        self.pending: list[bytes] = []
        self.is_read = False

    def read(self, most: int, *, special: bool) -> int:
        """Read up to ``most`` names after ``after``; return their number."""
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
                if len(names) == 2 * most:
                    names.sort()
                    del names[most:]
                    bound = names[-1]
        names.sort()
        self.is_read = bound is None and len(names) <= most
        del names[most:]
        if names:
            self.after = names[-1]
        names.reverse()
        self.pending = names
        return len(names)

    def skip(self) -> None:
        """Leave out what has not been visited."""
        self.pending.clear()
        self.is_read = True

    def close(self) -> None:
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
    """Give the files and folders below ``parts``, sorted, each folder before what is in it.

    Links and special files are left out, unless ``special`` is true. A folder that vanishes or
    cannot be read is given, without its contents; with ``strict`` it raises. The order depends
    on the paths alone, so a walk that continues ``after`` an entry neither repeats nor skips an
    entry that exists all the time, whatever else changes.

    Args:
        limit: Maximum number of entries.
        depth: Number of levels: 1 for what is in the folder itself.
        after: Position below ``parts``, whether or not an entry is there: only what comes after it.
        max_names: Number of names of one folder that are kept in memory. A larger folder is read
            several times.
        path_bytes: Folders with a longer path are given without what is in them.

    Raises:
        TooManyEntries: there are more than ``limit`` entries.
        OSError: the folder at ``parts`` cannot be opened; with ``strict``, any other. Also
            where the server is short of descriptors.
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
                folder = _descriptor(base, levels, prefix)
            except OSError as error:
                if not is_ignorable(error):
                    raise
                level.skip()
                continue
            if not level.pending:
                most = max_names if limit is None else min(max_names, limit - found + 1)
                found += level.read(most, special=special)
                if limit is not None and found > limit:
                    path = quote_path(wire_names.encode(b"/".join(parts)) or ".")
                    raise TooManyEntries(f"{path} holds more than {limit:,} entries")
                continue
            name = level.pending.pop()
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except OSError as error:
                # A folder may be listed without the permission to look at what is in it.
                if not is_ignorable(error) or (len(levels) == 1 and error.errno == errno.EACCES):
                    raise
                continue
            if not (special or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                if strict:  # it was a file or a folder when the name was read
                    raise OSError(errno.ELOOP, "became a link or a special file")
                continue
            entry = TreeEntry(prefix + name, folder, status)
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
    """Go down into the folder ``name`` of the last level, which is open; return its prefix."""
    above = levels[-1].descriptor
    assert above is not None
    prefix += name + b"/"
    levels.append(_Level(open_directory(above, (name,)), len(prefix)))
    if len(levels) > MAX_OPEN_DIRECTORIES:
        levels[-MAX_OPEN_DIRECTORIES - 1].close()
    return prefix


def _descriptor(base: int, levels: list[_Level], prefix: bytes) -> int:
    """The descriptor of the last level, which is opened again if it had to be closed."""
    last = levels[-1]
    if last.descriptor is None:
        # Those above it are needed next, so they are opened on the way.
        again = levels[-MAX_OPEN_DIRECTORIES // 2 :]
        parts = prefix.split(b"/")[:-1]
        start = len(parts) - len(again) + 1
        for level in again:
            level.close()
        folder = again[0].descriptor = open_directory(base, parts[:start])
        for level, part in zip(again[1:], parts[start:], strict=True):
            folder = level.descriptor = open_directory(folder, (part,))
    assert last.descriptor is not None
    return last.descriptor


def make_empty(path: Path) -> None:
    """Make a folder of the server's own, for its owner alone, with nothing in it.

    Raises:
        OSError: it cannot be made, or something in it cannot be removed.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        clear(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a folder of the server's own with all that is in it, however deep that is.

    Raises:
        OSError: something in it cannot be removed.
    """
    make_empty(path)
    path.rmdir()


def clear(folder: int) -> None:
    """Remove whatever is in ``folder``, also what its owner may neither read nor write.

    The folders in a folder are lifted up into ``folder`` before it is removed: so no
    path ever grows long, and two descriptors are enough.

    Raises:
        OSError: something cannot be removed, or somebody keeps adding to it.
    """
    refilled = 0
    while names := os.listdir(folder):
        for name in names:
            try:
                _remove(folder, name)
            except OSError as error:
                refilled += 1
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or refilled > _MAX_REFILLS:
                    raise


def _remove(folder: int, name: str) -> None:
    if not grant_owner_access(folder, name):
        os.unlink(name, dir_fd=folder)
        return
    inner = open_directory(folder, (os.fsencode(name),))
    try:
        for child in os.listdir(inner):
            if grant_owner_access(inner, child):
                os.rename(child, uuid.uuid4().hex, src_dir_fd=inner, dst_dir_fd=folder)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def grant_owner_access(folder: int, name: str) -> bool:
    """Let the owner into ``name`` if it is a folder; return whether it is one.

    Raises:
        FileNotFoundError: it is not there.
    """
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if not stat.S_ISDIR(mode):
        return False
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(name, stat.S_IRWXU, dir_fd=folder, follow_symlinks=False)
    return True
