"""Small file system for tests of full disks."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(disk: Path, size: str = "24m") -> Iterator[Path]:
    """Mount a tmpfs on a new directory; skip the test if that is not permitted."""
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk],
        capture_output=True,
        text=True,
    )
    if mount.returncode:
        pytest.skip(f"no tmpfs can be mounted: {mount.stderr}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    """Write a file until the disk is full."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        for size in (1_000_000, 4096):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    continue
    return filler
