"""A file that is not whole yet, beside the one it is to become.

Its name is hidden and made of the target's name and of what is fetched, so that a
later process finds what an earlier one left. A note beside it says which version the
bytes are of; without one they are worth nothing.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self

from beray.exceptions import TransferError
from beray.transfers import file_modes

_STEM_BYTES: Final = 40
_NOTE_BYTES: Final = 1024
_NAMES_IN_A_LINE: Final = 10
# Windows has neither links nor pipes in the way there, but it would change line ends.
_CAREFULLY: Final = (
    getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CAREFULLY


class Partial:
    """The partial file for ``target``. ``etag`` is its version, where it can be resumed."""

    def __init__(self, target: Path, source: str) -> None:
        self.target = target
        known_by = hashlib.sha256(f"{target.name}\0{source}".encode("utf-8", "surrogatepass"))
        name = f".{stem(target.name)}.{known_by.hexdigest()[:16]}"
        self._path = target.with_name(f"{name}.part")
        self._note = target.with_name(f"{name}.etag")
        self._new_note = target.with_name(f"{name}.new")
        self._lock = target.with_name(f"{name}.lock")
        self._made: tuple[int, int] | None = None
        self.etag: str | None = None
        self.mode: int | None = None
        """Permission bits of the file, where the server states them."""

    @contextmanager
    def alone(self) -> Iterator[Self]:
        """Keep other processes, and other threads, from the same partial file.

        Raises:
            TransferError: somebody is fetching the same to the same place.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self._lock, mode=0o600, is_singleton=False, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise TransferError(f"{self.target} is being downloaded by somebody else") from None
        except OSError as error:
            # Named by the target: nobody has heard of the lock.
            raise OSError(error.errno, error.strerror, str(self.target)) from error
        try:
            self.etag = self._noted()
            yield self
        finally:
            # Unlinked while it is held: whoever waits for it then makes a new one.
            self._lock.unlink(missing_ok=True)
            lock.release()

    def _noted(self) -> str | None:
        if not self.size():
            return None
        try:
            with os.fdopen(self._opened(self._note, os.O_RDONLY), "rb") as file:
                noted = file.read(_NOTE_BYTES + 1).decode("ascii")
        except (OSError, ValueError):
            return None
        return noted if _is_strong(noted) else None

    def size(self) -> int:
        """Bytes that are there; 0 where what is there is not a plain file of our own."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return 0
        return found.st_size if self._is_ours(found) else 0

    def headers(self) -> dict[str, str]:
        """What asks for the rest; empty where the whole is needed."""
        if self.etag is None or not self.size():
            return {}
        return {"Range": f"bytes={self.size()}-", "If-Range": self.etag}

    def restart(self, etag: str | None) -> None:
        """Begin anew, with bytes of version ``etag``; a weak one proves nothing.

        Raises:
            TransferError: something that cannot be removed is in the way.
        """
        try:
            self.discard()
        except OSError as error:
            raise TransferError(f"{self._path} is in the way: {error.strerror}") from error
        try:
            descriptor = os.open(self._path, _NEW, 0o600)
            try:
                made = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            self._made = made.st_dev, made.st_ino
            if etag is not None and _is_strong(etag):
                # Renamed when it is whole: half a note would be about another version.
                with os.fdopen(os.open(self._new_note, _NEW, 0o600), "wb") as note:
                    note.write(etag.encode("ascii"))
                self._new_note.replace(self._note)
                self.etag = etag
        except BaseException:
            self.discard()
            raise

    def open(self) -> BinaryIO:
        """The file for reading and writing, unbuffered.

        Raises:
            TransferError: what is there now is not a plain file of our own.
        """
        try:
            descriptor = self._opened(self._path, os.O_RDWR)
        except OSError as error:
            raise TransferError(f"{self._path}: {error.strerror}") from error
        file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        return file

    def discard(self) -> None:
        self.etag = None
        # The notes first: bytes without one are worth nothing, and harm nobody.
        for path in (self._note, self._new_note, self._path):
            path.unlink(missing_ok=True)

    def publish(self, *, overwrite: bool) -> None:
        """Give the file, which is whole now, its final name and mode.

        The mode is ``mode``; if that is not known, the mode of the file that is replaced, or of
        a new file.
        """
        if os.name == "posix":
            mode = self.mode
            if mode is None:
                mode = 0o666 & ~current_umask(self.target.parent)
                mode = replaced_mode(self.target, mode) if overwrite else mode
            with self.open() as file:
                file_modes.set_open(file.fileno(), mode)
        if overwrite:
            self._path.replace(self.target)
        else:
            rename_new(self._path, self.target)
        self._note.unlink(missing_ok=True)

    def _opened(self, path: Path, flags: int) -> int:
        """A descriptor of ``path``; an ``OSError`` where it is not a plain file of our own."""
        descriptor = os.open(path, flags | _CAREFULLY)
        try:
            if not self._is_ours(os.fstat(descriptor)):
                raise PermissionError(None, "is not a plain file of our own", str(path))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_ours(self, found: os.stat_result) -> bool:
        """Whether writing to it reaches nothing else, and nobody else has written it."""
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return False
        # A file system of the network may name another owner for what we have just made.
        return (found.st_dev, found.st_ino) == self._made or _is_own(found)


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _is_strong(etag: str) -> bool:
    quoted = len(etag) >= 2 and etag[0] == etag[-1] == '"'
    return quoted and etag.isascii() and etag.isprintable() and len(etag) <= _NOTE_BYTES


def stem(name: str) -> str:
    """The beginning of a file's name, for names made of it: at most 40 bytes of UTF-8."""
    return name.encode("utf-8", "ignore")[:_STEM_BYTES].decode("utf-8", "ignore")


def replaced_mode(target: Path, new: int) -> int:
    """Return the permission bits of the regular file ``target``; ``new`` if there is none."""
    try:
        there = target.lstat()
    except OSError:
        return new
    return there.st_mode & file_modes.BITS if stat.S_ISREG(there.st_mode) else new


def rename_new(source: Path, target: Path) -> None:
    """Rename without replacing what appeared in the meantime (``FileExistsError``)."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise FileExistsError(f"{target} appeared during the download; it was left alone") from None
    except OSError:
        # A file system without hard links: to look first is all there is.
        refuse_existing(target, overwrite=False)
        source.rename(target)
    else:
        source.unlink()


def refuse_existing(*targets: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise ``FileExistsError`` where a download would replace something unasked."""
    there = [] if overwrite else [os.fspath(path) for path in targets if os.path.lexists(path)]
    if len(there) == 1:
        raise FileExistsError(f"{there[0]} exists; it is overwritten only when asked")
    if there:
        more = len(there) - _NAMES_IN_A_LINE
        named = ", ".join(there[:_NAMES_IN_A_LINE]) + (f" and {more} more" if more > 0 else "")
        raise FileExistsError(f"{named} exist already")


def current_umask(folder: Path) -> int:
    """The file mode creation mask, as it is for files in ``folder``.

    It is never set to be read: a file that another thread makes meanwhile would get the
    mode of the mask that is only passing.
    """
    if sys.platform == "linux":
        try:
            status = Path("/proc/self/status").read_bytes()
        except OSError:
            status = b""
        for line in status.splitlines():
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return _umask_seen(folder)


def _umask_seen(folder: Path) -> int:
    """The mask by what it takes from the mode of a new file."""
    with tempfile.TemporaryDirectory(prefix=".umask.", dir=folder) as private:
        descriptor = os.open(Path(private, "seen"), _NEW, 0o777)
        try:
            return 0o777 & ~os.fstat(descriptor).st_mode
        finally:
            os.close(descriptor)
