"""Return of freed memory to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import sys
import psutil
from beray.server.runtime import allocator

if sys.argv[1] == "set":
    allocator.return_free_memory()
resident = lambda: psutil.Process().memory_info().rss
before = resident()
del [bytes(4 << 20)][:]  # from now on, glibc does not map blocks of up to this size separately
blocks, pins = [], []
for _ in range(400):
    blocks.append(b"x" * (256 << 10))
    pins.append(bytearray(4096))
blocks.clear()
print((resident() - before) >> 20)
"""


def kept_mib(setting: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", CODE, setting], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings exist in glibc only")
def test_freed_blocks_between_others_are_returned_to_the_system() -> None:
    assert kept_mib("unset") > 50
    assert kept_mib("set") < 20
