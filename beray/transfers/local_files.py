"""Operations on local files that downloads and archives share.

``fsync`` of each of thousands of small files takes minutes; a single ``syncfs`` takes about as long
as writing their data. It also flushes what other programs have written to the file system.

Source: syncfs(2), Linux 2.6.39.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import BinaryIO, Final

from beray.exceptions import TargetsExist
from beray.transfers import file_modes

_MAX_STEM_BYTES: Final = 40
# Reparse tag of a Windows mount point, which os.lstat reports as a directory.
_JUNCTION: Final = 0xA0000003
# Windows has no links or pipes here, but would convert line endings without O_BINARY.
SAFE_OPEN_FLAGS: Final = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
"""Flags with which a file is opened without following links or blocking on a pipe."""
CREATE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFE_OPEN_FLAGS
"""Flags that create a new file, and never open one that exists."""


def write_all(file: BinaryIO, block: bytes | memoryview) -> None:
    """Write a whole block to an unbuffered file, whose ``write`` may be partial."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def require_absent(*targets: str | os.PathLike[str], overwrite: bool) -> None:
    """Check that a download does not replace files, unless ``overwrite`` is set.

    Raises:
        TargetsExist: ``overwrite`` is False and targets exist. The message lists up to ten.
    """
    existing = [] if overwrite else [os.fspath(path) for path in targets if os.path.lexists(path)]
    if existing:
        raise TargetsExist(existing)


def rename_without_replacing(source: Path, target: Path) -> None:
    """Rename a file.

    Raises:
        FileExistsError: ``target`` exists.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise FileExistsError(
            f"{target} was created during the download and was not replaced"
        ) from None
    except OSError:
        # On a file system without hard links, the check and the rename are not atomic.
        require_absent(target, overwrite=False)
        source.rename(target)
    else:
        source.unlink()


def is_link(status: os.stat_result) -> bool:
    """Return True if the result of ``lstat`` is that of a symbolic link or a Windows junction."""
    is_junction = getattr(status, "st_reparse_tag", 0) == _JUNCTION
    return is_junction or stat.S_ISLNK(status.st_mode)


def mode_to_keep(target: Path, default: int) -> int:
    """Return the permission bits of the file ``target``; ``default`` if there is no such file."""
    try:
        found = target.lstat()
    except OSError:
        return default
    return found.st_mode & file_modes.BITS if stat.S_ISREG(found.st_mode) else default


def short_stem(name: str) -> str:
    """Return the first 40 bytes (UTF-8) of a file name, as a part of derived names."""
    return name.encode("utf-8", "ignore")[:_MAX_STEM_BYTES].decode("utf-8", "ignore")


def current_umask(folder: Path) -> int:
    """Return the file mode creation mask that applies to new files in ``folder``.

    It is not read by setting it with ``os.umask``: files that another thread creates at that
    moment would get the wrong mode.
    """
    if sys.platform == "linux":
        try:
            status = Path("/proc/self/status").read_bytes()
        except OSError:
            status = b""
        for line in status.splitlines():
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return _umask_of_new_file(folder)


def _umask_of_new_file(folder: Path) -> int:
    """Return the mask as it affects the mode of a new file."""
    with tempfile.TemporaryDirectory(prefix=".umask.", dir=folder) as private:
        descriptor = os.open(Path(private, "probe"), CREATE_FLAGS, 0o777)
        try:
            return 0o777 & ~os.fstat(descriptor).st_mode
        finally:
            os.close(descriptor)


def can_sync_file_system() -> bool:
    """Return True if ``sync_file_system`` is available on this platform."""
    return _syncfs() is not None


def sync_file_system(folder: Path) -> None:
    """Flush everything that was written to the file system of ``folder`` to disk.

    Raises:
        OSError: The data cannot be written.
    """
    syncfs = _syncfs()
    assert syncfs is not None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        syncfs(descriptor)
    finally:
        os.close(descriptor)


@cache
def _syncfs() -> Callable[[int], None] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # imported late because only large archives need it

    try:
        function = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return None
    function.argtypes, function.restype = (ctypes.c_int,), ctypes.c_int

    def syncfs(descriptor: int) -> None:
        if function(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    return syncfs
