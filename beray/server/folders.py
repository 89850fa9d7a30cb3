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
from operator import itemgetter
from pathlib import Path
from typing import Final

from beray import wire_names
from beray.server.beneath import InvalidPath, open_folder, shown
from beray.server.shortage import is_shortage

OPEN_AT_ONCE: Final = 64
_PATIENCE: Final = 100
"""How often a folder may fill again while it is being removed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder met on a walk.

    Attributes:
        path: relative to the work_dir, ``/`` between parts.
        folder: descriptor of the folder it is in; valid until the next entry is asked for.
        status: as it was when its folder was read.
    """

    path: bytes
    folder: int
    status: os.stat_result

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)


class _Level:
    """A folder on the way down, and what is left to visit in it, the last first."""

    def __init__(self, descriptor: int, depth_bytes: int) -> None:
        self.descriptor: int | None = descriptor
        self.depth_bytes = depth_bytes
        self.pending: list[tuple[bytes, os.stat_result]] = []

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
) -> Generator[Entry, None, None]:
    """Give the files and folders below ``parts``, sorted, each folder before what is in it.

    Links and special files are left out, unless ``special`` is true. A folder that vanishes or
    cannot be read is given, without its contents; with ``strict`` it raises.

    Raises:
        InvalidPath: there are more than ``limit`` entries.
        OSError: the folder at ``parts`` cannot be opened; with ``strict``, any other. Also
            where the server is short of descriptors.
    """
    prefix = b"".join(part + b"/" for part in parts)
    levels = [_Level(open_folder(base, parts), len(prefix))]
    try:
        found = _read(levels[0], parts, limit, 0, special)
        while levels:
            level = levels[-1]
            prefix = prefix[: level.depth_bytes]
            if not level.pending:
                levels.pop().close()
                continue
            try:
                folder = _descriptor(base, levels, prefix)
            except OSError as error:
                if strict or is_shortage(error):
                    raise
                level.pending.clear()
                continue
            name, status = level.pending.pop()
            entry = Entry(prefix + name, folder, status)
            yield entry
            if not entry.is_folder:
                continue
            try:
                inner = open_folder(folder, (name,))
            except OSError as error:
                if strict or is_shortage(error):
                    raise
                continue
            prefix = entry.path + b"/"
            levels.append(_Level(inner, len(prefix)))
            if len(levels) > OPEN_AT_ONCE:
                levels[-OPEN_AT_ONCE - 1].close()
            found = _read(levels[-1], parts, limit, found, special)
    finally:
        for level in levels:
            level.close()


def _descriptor(base: int, levels: list[_Level], prefix: bytes) -> int:
    """The descriptor of the last level, which is opened again if it had to be closed."""
    last = levels[-1]
    if last.descriptor is None:
        # Those above it are needed next, so they are opened on the way.
        again = levels[-OPEN_AT_ONCE // 2 :]
        parts = prefix.split(b"/")[:-1]
        start = len(parts) - len(again) + 1
        for level in again:
            level.close()
        folder = again[0].descriptor = open_folder(base, parts[:start])
        for level, part in zip(again[1:], parts[start:], strict=True):
            folder = level.descriptor = open_folder(folder, (part,))
    assert last.descriptor is not None
    return last.descriptor


def _read(
    level: _Level, parts: Sequence[bytes], limit: int | None, found: int, special: bool
) -> int:
    """Read the folder of ``level``; return how many entries the walk has found by now."""
    assert level.descriptor is not None
    with os.scandir(level.descriptor) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not (special or stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
                continue
            found += 1
            if limit is not None and found > limit:
                raise too_large(parts, f"more than {limit:,} entries")
            level.pending.append((os.fsencode(entry.name), status))
    level.pending.sort(key=itemgetter(0), reverse=True)
    return found


def too_large(parts: Sequence[bytes], how: str) -> InvalidPath:
    """The refusal to list a folder, with what to do instead."""
    path = wire_names.encode(b"/".join(parts)) or "."
    return InvalidPath(f"{shown(path)} holds {how}; ask for a subfolder")


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
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or refilled > _PATIENCE:
                    raise


def _remove(folder: int, name: str) -> None:
    if not unlock(folder, name):
        os.unlink(name, dir_fd=folder)
        return
    inner = open_folder(folder, (os.fsencode(name),))
    try:
        for child in os.listdir(inner):
            if unlock(inner, child):
                os.rename(child, uuid.uuid4().hex, src_dir_fd=inner, dst_dir_fd=folder)
            else:
                os.unlink(child, dir_fd=inner)
    finally:
        os.close(inner)
    os.rmdir(name, dir_fd=folder)


def unlock(folder: int, name: str) -> bool:
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
