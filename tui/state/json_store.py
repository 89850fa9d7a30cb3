"""JSON files of the saved state, written by one thread and shared by all dashboards of a user.

A change is applied to the value in memory at once and queued. Shortly afterwards the thread
takes a lock, reads the file again, applies the queued changes and rewrites it as a whole. So
two dashboards that run at the same time keep each other's changes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from filelock import FileLock
from filelock import Timeout as LockTimeout

from beray import config
from tui.state.saved_state import StateFile

DELAY_SECONDS: Final = 0.1
"""Time for which changes are collected before they are written."""
CLOSE_SECONDS: Final = 0.09
LOAD_SECONDS: Final = 0.5
"""Maximum time that a reader waits for the first read of a file."""
_LOCK_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0
"""Pause before a failed write is repeated."""
_MAX_CHANGES: Final = 2_000

T = TypeVar("T")
Problem = Callable[[str], None]


class JsonFile(Generic[T]):
    """JSON file with its current value and the changes that are not written yet.

    Args:
        folder: Directory of the file.
        kind: Name and format of the file.
        changed: Called after each change, to wake the writer.
    """

    def __init__(self, folder: Path, kind: StateFile[T], changed: Callable[[], None]) -> None:
        self.path = folder / kind.name
        self._kind = kind
        self._changed = changed
        self._mutex = threading.Lock()
        self._value = kind.empty
        self._stored = kind.empty
        self._stamp: tuple[int, ...] | None = None
        """Identifies the version of the file that ``_stored`` was read from."""
        self._changes: list[tuple[str, Callable[[T], T]]] = []
        self._loaded = threading.Event()

    @property
    def value(self) -> T:
        """Current value; waits up to ``LOAD_SECONDS`` for the first read."""
        self._loaded.wait(LOAD_SECONDS)
        return self._value

    def change(self, change: Callable[[T], T], replaces: str = "") -> None:
        """Change the value now and the file soon.

        Args:
            change: Returns the new value for an old one. It is applied again to the value in
                the file.
            replaces: Key of the change. A queued change is dropped if the next one has the
                same key.
        """
        with self._mutex:
            self._value = change(self._value)
            if replaces and self._changes and self._changes[-1][0] == replaces:
                self._changes[-1] = (replaces, change)
            else:
                self._changes.append((replaces, change))
                del self._changes[:-_MAX_CHANGES]
        self._changed()

    # Called by the writer thread

    def load(self, problem: Problem) -> None:
        """Read the file for the first time."""
        try:
            self._read(problem)
        finally:
            with self._mutex:
                self._value = self._stored
                for _, change in self._changes:
                    self._value = change(self._value)
            self._loaded.set()

    def store(self, problem: Problem) -> None:
        """Write the queued changes to the file. The caller holds the lock.

        Raises:
            OSError: The file cannot be read or written. The changes remain queued.
        """
        with self._mutex:
            changes = list(self._changes)
        if not changes:
            return
        self._read(problem, set_aside=True)
        value = self._stored
        for _, change in changes:
            value = change(value)
        if value != self._stored or self._stamp is None:
            config.write_private_file(self.path, json.dumps(self._kind.dump(value)))
            self._stored, self._stamp = value, _stamp(self.path)
        with self._mutex:
            # Changes that were replaced meanwhile still have to be written.
            written = dict.fromkeys(map(id, changes))
            self._changes = [change for change in self._changes if id(change) not in written]
            self._value = value
            for _, change in self._changes:
                self._value = change(self._value)

    def is_changed(self) -> bool:
        """Return True if changes are queued."""
        with self._mutex:
            return bool(self._changes)

    def _read(self, problem: Problem, *, set_aside: bool = False) -> None:
        """Read the file into ``_stored`` if it has changed."""
        stamp = _stamp(self.path)
        if stamp is None:
            self._stored, self._stamp = self._kind.empty, None
            return
        if stamp == self._stamp:
            return
        try:
            data: Any = json.loads(self.path.read_bytes())
            value, damaged = self._kind.read(data)
        except (ValueError, RecursionError):
            value, damaged = self._kind.empty, True
        self._stored, self._stamp = value, None if damaged else stamp
        if damaged and set_aside:
            aside = self.path.with_suffix(".damaged")
            aside.unlink(missing_ok=True)
            try:
                # The file keeps its name until it is rewritten, so that its undamaged entries are
                # not lost if the process ends before.
                aside.hardlink_to(self.path)
            except OSError:  # the file system has no links
                self.path.replace(aside)
            problem(f"{self.path.name} was damaged and has been renamed to {aside}")
        elif damaged:
            self.change(_unchanged)  # has the writer rename the file under the lock


def _unchanged(value: T) -> T:
    return value


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class JsonWriter:
    """Thread that reads all files of the saved state once and writes their changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._json_files: list[JsonFile[Any]] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._problems: list[str] = []
        self._listener: Problem | None = None
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="beray-memory", daemon=True)

    def json_file(self, kind: StateFile[T]) -> JsonFile[T]:
        """Return a new file that is read and written by this thread. Call before ``start``."""
        json_file = JsonFile(self.folder, kind, self._wake.set)
        self._json_files.append(json_file)
        return json_file

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Write the remaining changes, within a tenth of a second. Idempotent."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def set_problem_listener(self, listener: Problem) -> None:
        """Have ``listener`` called once for each distinct problem, from any thread."""
        with self._mutex:
            self._listener, earlier = listener, list(self._problems)
        for text in earlier:
            listener(text)

    def _problem(self, text: str) -> None:
        with self._mutex:
            if text in self._problems:
                return
            self._problems.append(text)
            listener = self._listener
        if listener is not None:
            listener(text)

    def _run(self) -> None:
        for json_file in self._json_files:
            try:
                json_file.load(self._problem)
            except OSError as error:
                self._problem(f"Cannot read {json_file.path}: {_error_text(error)}")
        while True:
            self._wake.wait()
            self._closing.wait(DELAY_SECONDS)
            closing = self._closing.is_set()
            self._wake.clear()
            written = self._write(
                json_file for json_file in self._json_files if json_file.is_changed()
            )
            if closing:
                return
            if not written:
                self._closing.wait(_RETRY_SECONDS)
                self._wake.set()

    def _write(self, json_files: Iterable[JsonFile[Any]]) -> bool:
        """Write the changed files; return True if that succeeded."""
        changed = list(json_files)
        if not changed:
            return True
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.folder / "lock", timeout=_LOCK_SECONDS, mode=0o600):
                return not [json_file for json_file in changed if not self._store(json_file)]
        except LockTimeout:
            self._problem(
                f"{self.folder} is locked by another dashboard: drafts and settings are not saved"
            )
        except (OSError, NotImplementedError) as error:
            self._problem(f"Cannot save drafts and settings in {self.folder}: {_error_text(error)}")
        return False

    def _store(self, json_file: JsonFile[Any]) -> bool:
        try:
            # Remove temporary files of dashboards that were killed while writing.
            for partial in self.folder.glob(f".{json_file.path.name}.*"):
                partial.unlink(missing_ok=True)
            json_file.store(self._problem)
        except OSError as error:
            self._problem(f"Cannot write {json_file.path}: {_error_text(error)}")
            return False
        return True


def _error_text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
