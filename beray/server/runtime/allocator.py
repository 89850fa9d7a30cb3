"""Settings of the C library's allocator.

glibc raises the sizes from which it maps blocks by themselves and returns free memory to the
system whenever a mapped block is freed. A server that has sent large events from many threads then
keeps several times the memory that it needs, because small blocks pin the free ones.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
TRIM_BYTES: Final = 1024 * 1024
"""Free bytes at the end of a heap from which they are returned to the system."""
MMAP_BYTES: Final = 128 * 1024
"""Size from which a block is mapped by itself, and returned when it is freed."""


def return_free_memory() -> None:
    """Fix both sizes for this process. Does nothing where the C library is not glibc."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
    mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)
