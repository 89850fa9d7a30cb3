"""Events about changed files of running tasks.

One file system watcher reports that something changed in a work_dir. The work_dir is then scanned
and compared with the previous scan. This finds changes that the watcher misses, such as files that
are written into a directory before it is watched. Several changes of a file between two scans
result in one event.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog
from starlette.concurrency import run_in_threadpool

from beray.events import MsgEventCustomUpdate
from beray.server.storage.shortage import retry_on_shortage
from beray.server.workspace import tree
from beray.server.workspace.safe_open import PathError
from beray.server.workspace.workspace import INCOMING, open_work_dir
from beray.transfers import wire_names

MAX_ENTRIES: Final = 250_000
"""Maximum number of files and directories in a watched work_dir, about 250 bytes each."""
DEBOUNCE_MS: Final = 50
"""Maximum delay of a change during which others are collected."""
STEP_MS: Final = 5
"""Time without changes that ends the delay."""
REPORT_SECONDS: Final = 0.4
"""Minimum pause between two scans of a work_dir for events."""
POLL_SECONDS: Final = 1.0
"""Pause between two scans if the system cannot watch directories."""
SCAN_PAUSE_FACTOR: Final = 10
"""Minimum pause after a scan, as a multiple of its duration."""
MAX_CONCURRENT_EVENTS: Final = 500
MAX_CHANGED_PATHS: Final = 4096
"""Number of changes in a batch, or in a work_dir since the last ``ChangedPaths.take``, above which
the paths are not reliable: the queue of the operating system may have overflowed."""
SYNC_SECONDS: Final = 0.5
"""Maximum time to wait until the changes so far were reported."""
RESTART_SECONDS: Final = 10.0
"""Minimum pause before the directories are watched again after a failure."""
RESTART_PAUSE_FACTOR: Final = 100
"""Minimum pause as a multiple of the time in which all directories are added to the watcher."""

log = structlog.get_logger("beray.files")

Emit = Callable[[MsgEventCustomUpdate], Awaitable[None]]


class ChangedPaths:
    """Paths in one work_dir that may have changed. Used on the event loop."""

    def __init__(self) -> None:
        self._paths: set[tuple[bytes, ...]] | None = None

    def add(self, parts: Sequence[str]) -> None:
        """Add a path. If a name may be inexact, because it is not UTF-8, its directory is added."""
        if self._paths is None:
            return
        exact = list(itertools.takewhile(lambda part: "\ufffd" not in part, parts))
        self._paths.add(tuple(map(os.fsencode, exact)))
        if len(self._paths) > MAX_CHANGED_PATHS:
            self._paths = None

    def lose(self) -> None:
        """Record that changes may be missing."""
        self._paths = None

    def take(self, *, is_complete: bool) -> set[tuple[bytes, ...]] | None:
        """Return the paths since the last call, and start again.

        Args:
            is_complete: Result of ``FileWatcher.synchronize`` just before. Without it, the next
                call returns None.

        Returns:
            The paths; None if any path may have changed.
        """
        paths = self._paths if is_complete else None
        self._paths = set() if is_complete else None
        return paths


class _FileState(NamedTuple):
    size: int
    modified_ns: int
    inode: int


class FileWatcher:
    """Watcher of all work_dirs. Used on one event loop, between ``start`` and ``close``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._changed: dict[str, asyncio.Event] = {}
        self._paths: dict[str, ChangedPaths] = {}
        self._marks: dict[str, asyncio.Event] = {}
        self._mark_numbers = itertools.count()
        self._is_polling = False
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to watch the file system."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    @asynccontextmanager
    async def reporting(self, work_dir: Path, emit: Emit) -> AsyncIterator[None]:
        """Emit an event for each file in ``work_dir`` that changes during the block.

        If the block ends without an exception, all changes have been reported.
        """
        changed = self._changed[work_dir.name] = asyncio.Event()
        stopping = asyncio.Event()
        scan = _DirectoryScan(work_dir, emit)
        try:
            await scan.begin()
            reporting = asyncio.create_task(scan.repeat(changed, stopping))
            try:
                yield
            except BaseException:
                reporting.cancel()
                await asyncio.wait([reporting])
                raise
            changed.set()
            stopping.set()
            await reporting
        finally:
            del self._changed[work_dir.name]

    @contextmanager
    def collecting(self, work_dir: Path) -> Iterator[ChangedPaths]:
        """Collect the changed paths in ``work_dir`` during the block."""
        paths = self._paths[work_dir.name] = ChangedPaths()
        try:
            yield paths
        finally:
            del self._paths[work_dir.name]

    async def synchronize(self) -> bool:
        """Wait until the changes so far were reported.

        A file is created for this: the operating system reports changes in their order.

        Returns:
            False if the file was not reported, so that changes may be missing.
        """
        if self._watching is None or self._is_polling:
            return False
        name = f"mark{next(self._mark_numbers)}"
        reported = self._marks[name] = asyncio.Event()
        mark = self._root / INCOMING / name
        try:
            mark.touch()
            async with asyncio.timeout(SYNC_SECONDS):
                await reported.wait()
        except (OSError, TimeoutError):
            return False
        finally:
            del self._marks[name]
            mark.unlink(missing_ok=True)
        return True

    async def _watch(self) -> None:
        """Report changes; after a failure of the watcher, poll for a time and try again."""
        while True:
            started = time.monotonic()
            reporting = asyncio.create_task(self._report_changes())
            try:
                await asyncio.sleep(0)  # its first step adds all directories
                pause = max(RESTART_SECONDS, RESTART_PAUSE_FACTOR * (time.monotonic() - started))
                problem = await reporting
            finally:
                reporting.cancel()
            log.warning(
                "work_dirs cannot be watched; they are scanned periodically",
                problem=problem,
                seconds=round(pause),
            )
            self._is_polling = True
            await self._poll(time.monotonic() + pause)
            self._is_polling = False

    async def _report_changes(self) -> str:
        """Report changes until the watcher fails; return the reason."""
        from watchfiles import awatch  # an extension module, loaded on first use

        changes = awatch(
            self._root,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            ignore_permission_denied=True,
        )
        try:
            async for batch in changes:
                if len(batch) > MAX_CHANGED_PATHS:
                    for paths in self._paths.values():
                        paths.lose()
                for _, path in batch:
                    self._report(Path(path).relative_to(self._root).parts)
        except OSError as error:
            return str(error)
        except ExceptionGroup as group:  # a changed file has a name that is not UTF-8
            return "; ".join(map(str, group.exceptions))
        return "the watcher has ended"

    async def _poll(self, until: float) -> None:
        """Regard all work_dirs as changed, again and again, up to a monotonic time."""
        while time.monotonic() < until:
            for paths in self._paths.values():
                paths.lose()
            for changed in self._changed.values():
                changed.set()
            await asyncio.sleep(POLL_SECONDS)

    def _report(self, parts: tuple[str, ...]) -> None:
        if not parts:
            return
        if parts[0] == INCOMING:
            if (mark := self._marks.get(parts[-1])) is not None:
                mark.set()
            return
        if (paths := self._paths.get(parts[0])) is not None:
            paths.add(parts[1:])
        if (changed := self._changed.get(parts[0])) is not None:
            changed.set()


class _DirectoryScan:
    """States of the files in one work_dir at the last scan."""

    def __init__(self, work_dir: Path, emit: Emit) -> None:
        self._work_dir = work_dir
        self._emit = emit
        self._states: dict[bytes, _FileState] | None = None

    async def begin(self) -> None:
        """Scan the work_dir for the first time."""
        with suppress(PathError):
            self._states = await self._scan()

    async def repeat(self, changed: asyncio.Event, stopping: asyncio.Event) -> None:
        """Report changes until ``stopping`` is set, including those before that."""
        while self._states is not None:
            await changed.wait()
            changed.clear()
            last = stopping.is_set()
            started = time.monotonic()
            await self._report_changes()
            if last:
                return
            with suppress(TimeoutError):
                pause = SCAN_PAUSE_FACTOR * (time.monotonic() - started)
                async with asyncio.timeout(max(pause, REPORT_SECONDS)):
                    await stopping.wait()

    async def _report_changes(self) -> None:
        """Scan the work_dir and report the differences from the last scan."""
        assert self._states is not None
        before = self._states
        try:
            self._states = await self._scan()
        except PathError as error:
            # The work_dir was removed, or is too large to be scanned periodically.
            self._states = None
            await self._emit(_update({"kind": "files_not_watched", "message": error.reason}))
            return
        updates = list(_differences(before, self._states))
        for start in range(0, len(updates), MAX_CONCURRENT_EVENTS):
            await asyncio.gather(*map(self._emit, updates[start : start + MAX_CONCURRENT_EVENTS]))

    async def _scan(self) -> dict[bytes, _FileState]:
        return await retry_on_shortage(lambda: run_in_threadpool(self._read_states))

    def _read_states(self) -> dict[bytes, _FileState]:
        with open_work_dir(self._work_dir) as workspace:
            entries = tree.walk(workspace.descriptor, limit=MAX_ENTRIES)
            return {
                entry.path: _FileState(
                    entry.status.st_size, entry.status.st_mtime_ns, entry.status.st_ino
                )
                for entry in entries
                if not entry.is_directory
            }


def _differences(
    before: dict[bytes, _FileState], now: dict[bytes, _FileState]
) -> Iterator[MsgEventCustomUpdate]:
    for path, state in now.items():
        if before.get(path) != state:
            change = "modified" if path in before else "added"
            yield _file_changed(path, state.size, change)
    for path in before.keys() - now.keys():
        yield _file_changed(path, None, "deleted")


def _file_changed(path: bytes, size: int | None, change: str) -> MsgEventCustomUpdate:
    return _update(
        {"kind": "file_changed", "path": wire_names.encode(path), "size": size, "change": change}
    )


def _update(payload: dict[str, Any]) -> MsgEventCustomUpdate:
    return MsgEventCustomUpdate(payload=payload, source="files")
