"""States of work_dirs in memory, and the order of the operations on each work_dir."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from beray.server.workspace.history.local_copies import KnownFiles, known_files
from beray.server.workspace.history.scan import KnownWorkDir

MAX_ENTRIES: Final = 500_000
"""Number of entries in memory, about 300 bytes each, beyond which idle work_dirs are forgotten."""


class KnownWorkDirs:
    """States of the work_dirs that were used last. Methods may be called in any thread."""

    def __init__(self) -> None:
        self._states: OrderedDict[int, KnownWorkDir] = OrderedDict()
        self._sizes: Counter[int] = Counter()
        self._locks: dict[int, _Lock] = {}
        self._lock = threading.Lock()

    @contextmanager
    def exclusive(self, task_id: int) -> Iterator[None]:
        """Run the block alone among the operations on the work_dir of a task."""
        with self._lock:
            lock = self._locks.setdefault(task_id, _Lock())
            lock.users += 1
        try:
            with lock.lock:
                yield
        finally:
            with self._lock:
                lock.users -= 1
                if not lock.users:
                    del self._locks[task_id]

    def take(self, task_id: int) -> KnownWorkDir:
        """Remove and return a state, which is put back only if the operation succeeds."""
        with self._lock:
            self._sizes.pop(task_id, None)
            return self._states.pop(task_id, None) or KnownWorkDir()

    def files(self, task_id: int) -> KnownFiles:
        """Return the files of a work_dir whose content is certain, if its state is in memory."""
        with self.exclusive(task_id):
            with self._lock:
                known = self._states.get(task_id)
            return known_files(known.root) if known is not None else {}

    def put(self, task_id: int, known: KnownWorkDir, entries: int) -> None:
        """Keep the state of a work_dir with this number of entries."""
        with self._lock:
            self._states[task_id] = known
            self._sizes[task_id] = entries
            while self._sizes.total() > MAX_ENTRIES and len(self._states) > 1:
                removed, _ = self._states.popitem(last=False)
                del self._sizes[removed]

    def forget(self, task_id: int) -> None:
        """Forget a state, because the work_dir was changed or removed."""
        with self._lock:
            self._states.pop(task_id, None)
            self._sizes.pop(task_id, None)


class _Lock:
    """Lock with the number of threads that use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
