"""The files of what is remembered, written by one thread for all dashboards of the user.

A change is made to a value in memory at once and noted; the thread brings the notes into
the file a moment later: under a lock it reads what another dashboard may have written,
applies the notes to that, and writes it whole. So each keeps what the other has added.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from filelock import FileLock
from filelock import Timeout as LockTimeout

from beray import config
from tui.state.saved_state import Kind

DELAY_SECONDS: Final = 0.1
"""How long changes are gathered before they are written."""
CLOSE_SECONDS: Final = 0.09
LOAD_SECONDS: Final = 0.5
"""How long a reader waits for a file that is read for the first time."""
_LOCK_SECONDS: Final = 1.0
_AGAIN_SECONDS: Final = 1.0
"""After what time that could not be written is tried again."""
_MOST_CHANGES: Final = 2_000

T = TypeVar("T")
Problem = Callable[[str], None]


class Shelf(Generic[T]):
    """One file, its value as far as this process knows, and what is not in the file yet."""

    def __init__(self, folder: Path, kind: Kind[T], changed: Callable[[], None]) -> None:
        self.path = folder / kind.name
        self._kind = kind
        self._changed = changed
        self._mutex = threading.Lock()
        self._value = kind.empty
        self._stored = kind.empty
        self._stamp: tuple[int, ...] | None = None
        """Of which state of the file ``_stored`` is."""
        self._changes: list[tuple[str, Callable[[T], T]]] = []
        self._loaded = threading.Event()

    @property
    def value(self) -> T:
        self._loaded.wait(LOAD_SECONDS)
        return self._value

    def change(self, change: Callable[[T], T], replaces: str = "") -> None:
        """Change the value now and the file soon.

        Args:
            replaces: a change is left out where the next one has the same word here.
        """
        with self._mutex:
            self._value = change(self._value)
            if replaces and self._changes and self._changes[-1][0] == replaces:
                self._changes[-1] = (replaces, change)
            else:
                self._changes.append((replaces, change))
                del self._changes[:-_MOST_CHANGES]
        self._changed()

    # In the thread of the keeper

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
        """Bring the changes into the file. Call it under the lock.

        Raises:
            OSError: it cannot be read or written; the changes wait for another time.
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
            # What was replaced meanwhile stays to be written.
            written = dict.fromkeys(map(id, changes))
            self._changes = [change for change in self._changes if id(change) not in written]
            self._value = value
            for _, change in self._changes:
                self._value = change(self._value)

    def is_changed(self) -> bool:
        with self._mutex:
            return bool(self._changes)

    def _read(self, problem: Problem, *, set_aside: bool = False) -> None:
        """Make ``_stored`` what the file says."""
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
            os.replace(self.path, aside)
            problem(f"{self.path.name} was damaged; what could not be read is in {aside}")
        elif damaged:
            self.change(_unchanged)  # so that it is set aside under the lock


def _unchanged(value: T) -> T:
    return value


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Keeper:
    """The thread that reads the shelves once and writes what has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._shelves: list[Shelf[Any]] = []
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._problems: list[str] = []
        self._listener: Problem | None = None
        self._mutex = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="beray-memory", daemon=True)

    def shelf(self, kind: Kind[T]) -> Shelf[T]:
        made = Shelf(self.folder, kind, self._wake.set)
        self._shelves.append(made)
        return made

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Write what is not written yet, within a tenth of a second. Idempotent."""
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_SECONDS)

    def tell(self, listener: Problem) -> None:
        """Have ``listener`` called, in any thread, with each thing that goes wrong, once."""
        with self._mutex:
            self._listener, earlier = listener, list(self._problems)
        for words in earlier:
            listener(words)

    def _problem(self, words: str) -> None:
        with self._mutex:
            if words in self._problems:
                return
            self._problems.append(words)
            listener = self._listener
        if listener is not None:
            listener(words)

    def _run(self) -> None:
        for shelf in self._shelves:
            try:
                shelf.load(self._problem)
            except OSError as error:
                self._problem(f"{shelf.path} cannot be read: {_words(error)}")
        while True:
            self._wake.wait()
            self._closing.wait(DELAY_SECONDS)
            closing = self._closing.is_set()
            self._wake.clear()
            written = self._write(shelf for shelf in self._shelves if shelf.is_changed())
            if closing:
                return
            if not written:
                self._closing.wait(_AGAIN_SECONDS)
                self._wake.set()

    def _write(self, shelves: Iterable[Shelf[Any]]) -> bool:
        """Store the shelves; whether that has worked."""
        changed = list(shelves)
        if not changed:
            return True
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with FileLock(self.folder / "lock", timeout=_LOCK_SECONDS, mode=0o600):
                return not [shelf for shelf in changed if not self._store(shelf)]
        except LockTimeout:
            self._problem(f"{self.folder} is locked by another dashboard: nothing is remembered")
        except (OSError, NotImplementedError) as error:
            self._problem(f"{self.folder} cannot be used: {_words(error)}")
        return False

    def _store(self, shelf: Shelf[Any]) -> bool:
        try:
            # What a dashboard that was killed while it wrote has left.
            for partial in self.folder.glob(f".{shelf.path.name}.*"):
                partial.unlink(missing_ok=True)
            shelf.store(self._problem)
        except OSError as error:
            self._problem(f"{shelf.path} cannot be written: {_words(error)}")
            return False
        return True


def _words(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
