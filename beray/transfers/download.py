"""Resumable, atomic downloads of single files.

A download is written to a temporary file beside its target, flushed to disk and renamed: under
its final name the file is complete, or it does not exist. The temporary name is hidden and derived
from the target's name and the source, so that a later process finds and resumes an interrupted
download. A note beside it contains the ETag of the partial content; without one it is discarded.

Source: RFC 9110, 8.8.3 (ETag), 13.1.5 (If-Range), 14 (Range); RFC 9530 (Repr-Digest).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final, Self

import requests

from beray.exceptions import (
    APIError,
    ConnectionFailed,
    InvalidResponseError,
    TransferCancelled,
    TransferError,
)
from beray.http import retry
from beray.http.response_body import ResponseBody
from beray.transfers import digest, file_modes
from beray.transfers.local_files import (
    CREATE_FLAGS,
    SAFE_OPEN_FLAGS,
    current_umask,
    mode_to_keep,
    rename_without_replacing,
    require_absent,
    short_stem,
    write_all,
)
from beray.transfers.transfer import Transfer

RECEIVE_BYTES: Final = 256 * 1024
"""Size of the receive buffer, chosen to stay in the processor's cache between socket and file."""
PATIENCE_SECONDS: Final = 60.0
"""Default time after which a download without a received byte is given up."""
FetchResponse = Callable[[Mapping[str, str]], requests.Response]
"""Requests the file with additional headers; the body is left to be read."""

_MAX_ETAG_BYTES: Final = 1024
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class PartialDownload:
    """Temporary file of an incomplete download.

    Args:
        target: Final path of the file.
        source: Identifies the remote file; part of the temporary name.

    Attributes:
        target: Final path of the file.
        etag: Strong ETag of the content; ``None`` if the download cannot be resumed.
        mode: Permission bits of the file, if the server states them.
    """

    def __init__(self, target: Path, source: str) -> None:
        self.target = target
        key = hashlib.sha256(f"{target.name}\0{source}".encode("utf-8", "surrogatepass"))
        name = f".{short_stem(target.name)}.{key.hexdigest()[:16]}"
        self._path = target.with_name(f"{name}.part")
        self._note = target.with_name(f"{name}.etag")
        self._new_note = target.with_name(f"{name}.new")
        self._lock = target.with_name(f"{name}.lock")
        self._created: tuple[int, int] | None = None  # device and inode of a file created here
        self.etag: str | None = None
        self.mode: int | None = None

    @contextmanager
    def single_use(self) -> Iterator[Self]:
        """Lock the file against other processes and threads, and load its ETag.

        Raises:
            TransferError: Another process or thread is downloading the same file.
            OSError: The directory of the target is not writable.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self._lock, mode=0o600, is_singleton=False, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise TransferError(
                f"{self.target} is already being downloaded by another process or thread"
            ) from None
        except OSError as error:
            # The message names the target, because users do not know the lock file.
            raise OSError(error.errno, error.strerror, str(self.target)) from error
        try:
            self.etag = self._stored_etag()
            yield self
        finally:
            # Unlinked while it is held: a process that waits for it then creates a new file.
            self._lock.unlink(missing_ok=True)
            lock.release()

    def _stored_etag(self) -> str | None:
        if not self.size():
            return None
        try:
            with os.fdopen(self._open_own_file(self._note, os.O_RDONLY), "rb") as file:
                etag = file.read(_MAX_ETAG_BYTES + 1).decode("ascii")
        except (OSError, ValueError):
            return None
        return etag if _is_strong(etag) else None

    def size(self) -> int:
        """Return the number of bytes received so far; 0 if the file is not usable."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return 0
        return found.st_size if self._is_own_file(found) else 0

    def headers(self) -> dict[str, str]:
        """Return the headers that request the rest; empty if the whole file is needed."""
        if self.etag is None or not self.size():
            return {}
        return {"Range": f"bytes={self.size()}-", "If-Range": self.etag}

    def restart(self, etag: str | None) -> None:
        """Discard the content and create an empty file.

        Args:
            etag: ETag of the new content. A weak one is ignored, as it cannot resume a download.

        Raises:
            TransferError: A file or directory with the temporary name cannot be removed.
        """
        try:
            self.discard()
        except OSError as error:
            raise TransferError(f"cannot remove {self._path}: {error.strerror}") from error
        try:
            descriptor = os.open(self._path, CREATE_FLAGS, 0o600)
            try:
                created = os.fstat(descriptor)
            finally:
                os.close(descriptor)
            self._created = created.st_dev, created.st_ino
            if etag is not None and _is_strong(etag):
                # Renamed when complete: a truncated ETag would be that of another version.
                with os.fdopen(os.open(self._new_note, CREATE_FLAGS, 0o600), "wb") as note:
                    note.write(etag.encode("ascii"))
                self._new_note.replace(self._note)
                self.etag = etag
        except BaseException:
            self.discard()
            raise

    def open(self) -> BinaryIO:
        """Open the file for reading and writing, unbuffered.

        Raises:
            TransferError: The path is not a regular file of this user any more.
        """
        try:
            descriptor = self._open_own_file(self._path, os.O_RDWR)
        except OSError as error:
            reason = error.strerror
            raise TransferError(f"{self._path}: {reason}", reason=reason) from error
        file: BinaryIO = os.fdopen(descriptor, "r+b", buffering=0)
        return file

    def discard(self) -> None:
        """Delete the file and its notes."""
        self.etag = None
        # The notes first: partial content without a note is ignored.
        for path in (self._note, self._new_note, self._path):
            path.unlink(missing_ok=True)

    def publish(self, *, overwrite: bool) -> None:
        """Move the complete file to its final path and set its mode.

        The mode is ``mode``; if that is unknown, the mode of the replaced file, or of a new file.

        Args:
            overwrite: Replace an existing file.

        Raises:
            FileExistsError: ``overwrite`` is False and the target exists.
        """
        if os.name == "posix":
            mode = self.mode
            if mode is None:
                mode = 0o666 & ~current_umask(self.target.parent)
                mode = mode_to_keep(self.target, mode) if overwrite else mode
            with self.open() as file:
                file_modes.set_file_mode(file.fileno(), mode)
        if overwrite:
            self._path.replace(self.target)
        else:
            rename_without_replacing(self._path, self.target)
        self._note.unlink(missing_ok=True)

    def _open_own_file(self, path: Path, flags: int) -> int:
        """Return a descriptor of ``path``.

        Raises:
            OSError: ``path`` is not a regular file of this user.
        """
        descriptor = os.open(path, flags | SAFE_OPEN_FLAGS)
        try:
            if not self._is_own_file(os.fstat(descriptor)):
                raise PermissionError(None, "is not a regular file of this user", str(path))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_own_file(self, found: os.stat_result) -> bool:
        """Return True for a regular file without other links that only this user has written."""
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return False
        # A network file system may report another owner for a file that was just created.
        was_created_here = (found.st_dev, found.st_ino) == self._created
        return was_created_here or not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _is_strong(etag: str) -> bool:
    is_quoted = len(etag) >= 2 and etag[0] == etag[-1] == '"'
    return is_quoted and etag.isascii() and etag.isprintable() and len(etag) <= _MAX_ETAG_BYTES


def download(
    fetch: FetchResponse,
    target: str | os.PathLike[str],
    *,
    source: str,
    overwrite: bool = False,
    verify: bool = False,
    repeatable: bool = True,
    transfer: Transfer | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Path:
    """Download a file to ``target`` and return its path.

    Args:
        fetch: Requests the file with additional headers.
        target: Path of the file to create.
        source: Identifies the remote file, so that an interrupted download of an earlier process
            is found.
        overwrite: Replace an existing file.
        verify: Request a SHA-256 from the server and check it. A file that arrived in parts is
            checked in any case if the server supports it.
        repeatable: True if ``fetch`` may be called again for content that cannot be resumed.
        transfer: Reports progress and cancels the download.
        patience: Seconds without a received byte after which the download is given up.

    Raises:
        FileExistsError: The target exists and ``overwrite`` is False.
        IsADirectoryError: The target is a directory.
        FileNotFoundError: The directory of the target does not exist.
        TransferError: The file could not be downloaded completely. The received part is kept if a
            later call can resume it.
        TransferCancelled: ``transfer`` was cancelled; nothing is kept.
        APIError: The server returned an error.
    """
    path = Path(target)
    handle = transfer or Transfer()
    require_absent(path, overwrite=overwrite)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"directory {path.parent} does not exist")
    with PartialDownload(path, source).single_use() as partial:
        try:
            with handle.separating_cancel():
                _complete(
                    partial, fetch, handle, verify=verify, repeatable=repeatable, patience=patience
                )
            partial.publish(overwrite=overwrite)
        except BaseException as error:
            if partial.etag is None or not partial.size() or isinstance(error, TransferCancelled):
                partial.discard()
            raise
    return path


def _complete(
    partial: PartialDownload,
    fetch: FetchResponse,
    transfer: Transfer,
    *,
    verify: bool,
    repeatable: bool,
    patience: float,
) -> None:
    """Request the file, and then what is missing of it, until ``partial`` is complete."""
    attempt, previous_size, received_at = 0, partial.size(), time.monotonic()
    while True:
        transfer.raise_if_cancelled()
        try:
            _receive(partial, fetch, transfer, verify=verify)
            return
        except APIError as error:
            if error.status_code != 416 or not partial.size():
                raise
            partial.restart(None)  # the remote file is now shorter than the received part
        except ConnectionFailed as error:
            if partial.size() > previous_size:
                attempt, received_at = 0, time.monotonic()
            previous_size = partial.size()
            attempt += 1
            is_resumable = partial.etag is not None
            if not is_resumable and (not repeatable or attempt > retry.MAX_RETRIES):
                partial.discard()
                raise TransferError(f"{partial.target.name}: {error}") from error
            if time.monotonic() - received_at > patience:
                raise TransferError(f"{partial.target.name}: {error}") from error
            transfer.wait(retry.backoff(attempt))


def _receive(
    partial: PartialDownload, fetch: FetchResponse, transfer: Transfer, *, verify: bool
) -> None:
    """Write the body of one response to ``partial``, as far as it arrives."""
    name = partial.target.name
    range_headers = partial.headers()
    headers = {"Accept-Encoding": "identity"} | range_headers
    with fetch(headers | (digest.WANT_SHA256 if verify or range_headers else {})) as response:
        etag = response.headers.get("ETag")
        partial.mode = file_modes.parse(response.headers.get(file_modes.HEADER))
        try:
            start, total = body_extent(response)
        except InvalidResponseError:
            if not range_headers:
                raise
            start, total = -1, None  # a range that the server does not describe
        if start and (start != partial.size() or etag != partial.etag):
            partial.restart(None)
            raise ConnectionFailed("the server sent another range than was requested")
        if not start:
            partial.restart(etag)
        expected = digest.sha256_from_headers(response.headers)
        sha256 = hashlib.sha256() if expected is not None else None
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise TransferError(f"{name}: the server sent an unrequested Content-Encoding")
        if verify and expected is None:
            raise TransferError(f"{name}: cannot verify, the server did not send a SHA-256")
        body = ResponseBody(response, f"download of {name}")
        done = start
        cancelling = transfer.cancel_token.on_cancel(body.shut_down)
        with partial.open() as file, closing(body), cancelling:
            if sha256 is not None:
                digest.hash_prefix(sha256, file, start)
            file.seek(start)
            transfer.advance(done, total)
            for block in body.blocks(RECEIVE_BYTES, None if total is None else total - start):
                with _write_errors(partial.target):
                    write_all(file, block)
                if sha256 is not None:
                    sha256.update(block)
                done += len(block)
                transfer.advance(done, total)
            transfer.raise_if_cancelled()  # a cancelled body ends like a complete one
            if total is not None and done != total:
                raise ConnectionFailed(f"{done} of {total} bytes arrived")
            with _write_errors(partial.target):
                os.fsync(file.fileno())
    if sha256 is not None and sha256.digest() != expected:
        partial.discard()
        raise TransferError(f"{name}: the SHA-256 does not match that of the server")


@contextmanager
def _write_errors(target: Path) -> Iterator[None]:
    """Convert ``OSError`` to ``TransferError`` with the target's path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TransferError(f"{target}: {reason}", reason=reason) from error


def body_extent(response: requests.Response) -> tuple[int, int | None]:
    """Return the start of the body within the file, and the size of the file if it is known.

    Raises:
        InvalidResponseError: The status is neither 200 nor 206, or a 206 has no valid
            ``Content-Range``.
    """
    if response.status_code not in (200, 206):
        raise InvalidResponseError(
            f"expected a file with status 200 or 206, got status {response.status_code}",
            body="",
            status_code=response.status_code,
        )
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None:
            raise InvalidResponseError("a partial response has no valid Content-Range", body="")
        return int(match[1]), int(match[3])
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return 0, int(length) if length.isdigit() and not encoded else None
