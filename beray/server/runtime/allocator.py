"""Settings of the C library's allocator.

By default, glibc increases two thresholds whenever a mapped block is freed: the size from which a
block is mapped separately, and the size from which free memory is returned to the system. A server
that has sent large events from many threads then keeps several times the memory that it needs,
because small blocks prevent the return of the free ones.

Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
TRIM_BYTES: Final = 1024 * 1024
"""Number of free bytes at the end of a heap from which they are returned to the system."""
MMAP_BYTES: Final = 128 * 1024
"""Size from which a block is mapped separately, and returned to the system when it is freed."""


def return_free_memory() -> None:
    """Set both thresholds to fixed sizes for this process. Does nothing without glibc."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
    mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)
