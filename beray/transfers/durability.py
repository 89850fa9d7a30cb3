"""Many new files to disk in one step, before they get their names.

``fsync`` of each of thousands of small files takes minutes; one ``syncfs`` takes about as long as
their data. It also writes what other programs have written to the file system.

Source: syncfs(2), Linux 2.6.39.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path


def can_sync_file_system() -> bool:
    """Return whether ``sync_file_system`` works here."""
    return _syncfs() is not None


def sync_file_system(folder: Path) -> None:
    """Write everything that was written to the file system of ``folder`` to disk.

    Raises:
        OSError: It cannot be written.
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
    import ctypes  # only here: nothing else of the client needs it

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
