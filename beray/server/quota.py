"""How much a task's files take, looked at while it runs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.server import folders

LOOK_SECONDS: Final = 1.0
REST: Final = 10
"""How many times as long as it took a look is followed by none."""


class OverQuota(Exception):
    """A task's files take more than they may."""


async def enforce(most: int, work_dir: Path, others: Callable[[], Iterable[Path]]) -> None:
    """Look again and again, until cancelled.

    Args:
        most: bytes that ``work_dir`` and what ``others`` names may take together.

    Raises:
        OverQuota: they take more.
    """
    while True:
        started = time.monotonic()
        used = await run_in_threadpool(lambda: used_bytes(work_dir, *others()))
        if used > most:
            raise OverQuota(f"more than {most:,} bytes in the work_dir")
        await asyncio.sleep(max(LOOK_SECONDS, REST * (time.monotonic() - started)))


def used_bytes(*roots: Path) -> int:
    """What the files below ``roots`` take on disk. What vanishes meanwhile counts nothing."""
    total = 0
    for root in roots:
        try:
            base = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            for entry in folders.walk(base):
                total += entry.status.st_blocks * 512
        finally:
            os.close(base)
    return total
