"""Disk space that accounts use."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from beray.server.storage.tasks import TaskRepository
from beray.server.workspace import disk_usage

CACHE_SECONDS: Final = 60.0
"""Time for which a measured size is returned again: a scan reads all directories of a user."""
MAX_CACHED: Final = 10_000


class StorageUsage:
    """Sizes of the work_dirs of users. Thread-safe; blocks while it scans.

    Args:
        tasks: Repository of tasks.
        path_of: Returns the path of the work_dir of a task.
    """

    def __init__(self, *, tasks: TaskRepository, path_of: Callable[[int], Path]) -> None:
        self._tasks = tasks
        self._path_of = path_of
        self._lock = threading.Lock()
        self._measured: dict[int, tuple[float, int]] = {}

    def of_user(self, user_id: int) -> int:
        """Return the size of a user's work_dirs in bytes, up to a minute old."""
        with self._lock:
            found = self._measured.get(user_id)
        if found is not None and time.monotonic() < found[0]:
            return found[1]
        size = disk_usage.measure(map(self._path_of, self._tasks.ids_of_user(user_id))).bytes
        with self._lock:
            if len(self._measured) >= MAX_CACHED:
                self._measured.clear()
            self._measured[user_id] = (time.monotonic() + CACHE_SECONDS, size)
        return size
