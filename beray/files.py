"""Files to and from disk.

A download is written beside its target under a temporary name, flushed to disk and
renamed: under its final name it is whole, or not there.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import requests

from beray.exceptions import InvalidResponseError, TransferCancelled, TransferError
from beray.transport import connection_error

BLOCK_BYTES: Final = 1024 * 1024
Progress = Callable[[int, int | None], None]
"""Called with the bytes done and, where it is known, the bytes in all."""


class Transfer:
    """A handle on one transfer: reports progress, and cancels it from any thread."""

    def __init__(self, on_progress: Progress | None = None) -> None:
        self._on_progress = on_progress
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End the transfer at its next block. Idempotent."""
        self._cancelled.set()

    def advance(self, done: int, total: int | None) -> None:
        """Report progress.

        Raises:
            TransferCancelled: when somebody called ``cancel``.
        """
        if self._cancelled.is_set():
            raise TransferCancelled("the transfer was cancelled")
        if self._on_progress is not None:
            self._on_progress(done, total)


def save(
    response: requests.Response,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    transfer: Transfer | None = None,
) -> Path:
    """Write the body of a streamed ``response`` to ``target`` and return its path.

    Raises:
        FileExistsError: the target is there and ``overwrite`` was not asked for.
        TransferError: the body was cut short, or the disk refused it.
        TransferCancelled: through ``transfer``.
    """
    path = Path(target)
    with response, _complete_or_absent(path, overwrite) as file:
        done = 0
        total = _content_length(response)
        handle = transfer or Transfer()
        handle.advance(done, total)
        try:
            for block in response.iter_content(BLOCK_BYTES):
                file.write(block)
                done += len(block)
                handle.advance(done, total)
        except requests.RequestException as error:
            raise TransferError(str(connection_error(error, f"download of {path.name}"))) from None
        if total is not None and done != total:
            raise TransferError(f"{path.name}: {done} of {total} bytes arrived")
    return path


def refuse_existing(target: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise ``FileExistsError`` where a download would replace something unasked."""
    if not overwrite and os.path.lexists(target):
        raise FileExistsError(f"{os.fspath(target)} exists; it is overwritten only when asked")


@contextmanager
def _complete_or_absent(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    refuse_existing(path, overwrite=overwrite)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    descriptor, partial = tempfile.mkstemp(".part", f".{path.name[:64]}.", path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _apply_umask(partial)
        if overwrite:
            os.replace(partial, path)
        else:
            _rename_new(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _rename_new(partial: str, path: Path) -> None:
    """Rename without replacing what appeared in the meantime."""
    try:
        os.link(partial, path)
    except FileExistsError:
        raise FileExistsError(f"{path} appeared during the download; it was left alone") from None
    except OSError:
        # A file system without hard links: the check before is what there is.
        refuse_existing(path, overwrite=False)
        os.rename(partial, path)
    else:
        os.unlink(partial)


def _apply_umask(path: str) -> None:
    """Give a temporary file, which only its owner may read, the mode of a new file."""
    if os.name == "posix":
        mask = os.umask(0o077)
        os.umask(mask)
        os.chmod(path, 0o666 & ~mask)


def _content_length(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length")
    if length is None or response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    return int(length) if length.isdigit() else None


class Upload:
    """A local file as a request body: streamed, with its length, reporting progress."""

    def __init__(self, file: BinaryIO, transfer: Transfer) -> None:
        self._file = file
        self._transfer = transfer
        self._total = os.fstat(file.fileno()).st_size
        self._done = 0

    def __len__(self) -> int:
        return self._total

    def read(self, size: int = -1) -> bytes:
        # http.client asks for 8 KiB at a time, which costs several times the throughput.
        block = self._file.read(BLOCK_BYTES if 0 <= size < BLOCK_BYTES else size)
        self._done += len(block)
        self._transfer.advance(self._done, self._total)
        return block


def local_path(folder: str | os.PathLike[str], remote: str) -> Path:
    """Where a file of a work_dir goes below ``folder``.

    Raises:
        InvalidResponseError: for a name that would leave the folder.
    """
    parts = remote.split("/")
    unsafe = any(part in ("", ".", "..") or "\0" in part for part in parts)
    if unsafe or (os.name == "nt" and any(set(part) & set('\\:*?"<>|') for part in parts)):
        raise InvalidResponseError(
            f"the server names a file that cannot be saved here: {remote!r}", body=remote[:2048]
        )
    return Path(folder, *parts)
