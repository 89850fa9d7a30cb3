"""A file that is not whole yet, beside the one it is to become.

Its name is hidden and made of the target's name and of what is fetched, so that a
later process finds what an earlier one left. A note beside it says which version the
bytes are of; without one they are worth nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from beray.exceptions import TransferError


class Partial:
    """The partial file for ``target``. ``etag`` is its version, where it can be resumed."""

    def __init__(self, target: Path, source: str) -> None:
        self.target = target
        known_by = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        stem = f".{target.name[:64]}.{known_by}"
        self._path = target.with_name(f"{stem}.part")
        self._note = target.with_name(f"{stem}.etag")
        self._lock = target.with_name(f"{stem}.lock")
        self.etag: str | None = None

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
            noted = self._note.read_text("ascii")
        except (OSError, ValueError):
            return None
        return noted if noted.startswith('"') and noted.isprintable() else None

    def size(self) -> int:
        """Bytes that are there."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def headers(self) -> dict[str, str]:
        """What asks for the rest; empty where the whole is needed."""
        if self.etag is None or not self.size():
            return {}
        return {"Range": f"bytes={self.size()}-", "If-Range": self.etag}

    def restart(self, etag: str | None) -> None:
        """Begin anew, with bytes of version ``etag``; a weak one proves nothing."""
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self.etag = None
        if etag is not None and etag.startswith('"') and etag.isascii():
            self._note.write_text(etag, "ascii")
            self.etag = etag

    def open(self) -> BinaryIO:
        """The file for reading and writing, unbuffered."""
        file: BinaryIO = open(self._path, "r+b", buffering=0)  # noqa: SIM115 - the caller's
        return file

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def publish(self, *, overwrite: bool) -> None:
        """Give the file, which is whole now, its final name and the mode of a new file."""
        if os.name == "posix":
            self._path.chmod(0o666 & ~current_umask())
        if overwrite:
            self._path.replace(self.target)
        else:
            self._rename_new()
        self._note.unlink(missing_ok=True)

    def _rename_new(self) -> None:
        """Rename without replacing what appeared in the meantime."""
        try:
            os.link(self._path, self.target)
        except FileExistsError:
            raise FileExistsError(
                f"{self.target} appeared during the download; it was left alone"
            ) from None
        except OSError:
            # A file system without hard links: to look first is all there is.
            refuse_existing(self.target, overwrite=False)
            self._path.rename(self.target)
        else:
            self._path.unlink()


def refuse_existing(target: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise ``FileExistsError`` where a download would replace something unasked."""
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(f"{os.fspath(target)} exists; it is overwritten only when asked")


def current_umask() -> int:
    """The process's file mode creation mask, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
