"""Files to and from disk.

A download is written beside its target under a temporary name, flushed to disk and
renamed: under its final name it is whole, or not there. What a cut leaves is taken up
again, by this process or a later one, where the server says which version it is of.

Source: RFC 9110, 8.8.3 (ETag), 13.1.5 (If-Range), 14 (Range); RFC 9530 (Repr-Digest).
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import requests

from beray.exceptions import (
    APIError,
    BeRayException,
    ConnectionFailed,
    InvalidResponseError,
    TransferCancelled,
    TransferError,
)
from beray.http import retry
from beray.http.connection import Cancel
from beray.http.response_body import Body
from beray.transfers import digest, file_modes
from beray.transfers.download import Partial, refuse_existing

BLOCK_BYTES: Final = 1024 * 1024
RECEIVE_BYTES: Final = 256 * 1024
"""A buffer that stays in the processor's cache between the socket and the file."""
PATIENCE_SECONDS: Final = 60.0
"""How long a download goes on trying without a byte received."""
Progress = Callable[[int, int | None], None]
"""Called with the bytes done and, where it is known, the bytes in all."""
Fetch = Callable[[Mapping[str, str]], requests.Response]
"""Makes the request of a download with these headers; its body is left to be read."""

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


class Transfer:
    """A handle on one transfer: reports progress, and cancels it from any thread."""

    def __init__(self, on_progress: Progress | None = None) -> None:
        self._on_progress = on_progress
        self.calls = Cancel()
        """What the calls of this transfer are called off by."""

    def cancel(self) -> None:
        """End the transfer now, wherever it waits. Idempotent; from any thread."""
        self.calls.cancel()

    def advance(self, done: int, total: int | None) -> None:
        """Report progress.

        Raises:
            TransferCancelled: when somebody called ``cancel``.
        """
        self.wait(0)
        if self._on_progress is not None:
            self._on_progress(done, total)

    def part(self, before: int, total: int) -> Transfer:
        """A handle on a part: its progress counts behind ``before`` bytes of ``total``."""
        part = Transfer(lambda done, _: self.advance(before + done, total))
        part.calls = self.calls
        return part

    def wait(self, seconds: float) -> None:
        """Sleep.

        Raises:
            TransferCancelled: it was, or is meanwhile.
        """
        if self.calls.wait(seconds) if seconds else self.calls.cancelled:
            raise TransferCancelled("the transfer was cancelled")

    @contextmanager
    def told_apart(self) -> Iterator[None]:
        """Whatever fails in the block after a cancel has failed because of it."""
        try:
            yield
        except BeRayException as error:
            if self.calls.cancelled and not isinstance(error, TransferCancelled):
                raise TransferCancelled("the transfer was cancelled") from None
            raise


def download(
    fetch: Fetch,
    target: str | os.PathLike[str],
    *,
    source: str,
    overwrite: bool = False,
    verify: bool = False,
    repeatable: bool = True,
    transfer: Transfer | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Path:
    """Write what ``fetch`` answers to ``target`` and return its path.

    Args:
        source: what is fetched and from where: by this a part that an earlier process
            has left is known.
        verify: ask the server for a SHA-256 and check it. A file that came in parts is
            checked in any case, where the server can.
        repeatable: whether ``fetch`` may be called again for what cannot be resumed.
        patience: seconds to go on trying without a byte received.

    Raises:
        FileExistsError: the target is there and ``overwrite`` was not asked for.
        TransferError: the file did not come whole; what came waits to be taken up again.
        TransferCancelled: through ``transfer``; nothing is left.
    """
    path = Path(target)
    handle = transfer or Transfer()
    refuse_existing(path, overwrite=overwrite)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}")
    with Partial(path, source).alone() as partial:
        try:
            with handle.told_apart():
                _fill(
                    partial, fetch, handle, verify=verify, repeatable=repeatable, patience=patience
                )
            partial.publish(overwrite=overwrite)
        except BaseException as error:
            if partial.etag is None or not partial.size() or isinstance(error, TransferCancelled):
                partial.discard()
            raise
    return path


def _fill(
    partial: Partial,
    fetch: Fetch,
    transfer: Transfer,
    *,
    verify: bool,
    repeatable: bool,
    patience: float,
) -> None:
    """Fetch, and fetch again what is missing, until ``partial`` is whole."""
    attempt, had, heard_at = 0, partial.size(), time.monotonic()
    while True:
        transfer.wait(0)
        try:
            _receive(partial, fetch, transfer, verify=verify)
            return
        except APIError as error:
            if error.status_code != 416 or not partial.size():
                raise
            partial.restart(None)  # what is there now is shorter than what we have
        except ConnectionFailed as error:
            if partial.size() > had:
                attempt, heard_at = 0, time.monotonic()
            had = partial.size()
            attempt += 1
            resumable = partial.etag is not None
            if not resumable and (not repeatable or attempt > retry.RETRIES):
                partial.discard()
                raise TransferError(f"{partial.target.name}: {error}") from error
            if time.monotonic() - heard_at > patience:
                raise TransferError(f"{partial.target.name}: {error}") from error
            transfer.wait(retry.backoff(attempt))


def _receive(partial: Partial, fetch: Fetch, transfer: Transfer, *, verify: bool) -> None:
    """Put one answer into ``partial``, as far as it comes."""
    headers = partial.headers()
    asked = {"Accept-Encoding": "identity"} | headers
    with fetch(asked | (digest.WANTED if verify or headers else {})) as response:
        etag = response.headers.get("ETag")
        partial.mode = file_modes.parsed(response.headers.get(file_modes.HEADER))
        try:
            start, total = extent(response)
        except InvalidResponseError:
            if not headers:
                raise
            start, total = -1, None  # a part, but who knows of what
        if start and (start != partial.size() or etag != partial.etag):
            partial.restart(None)
            raise ConnectionFailed("the server sent another part than was asked for")
        if not start:
            partial.restart(etag)
        expected = digest.sha256_of(response.headers)
        hashed = hashlib.sha256() if expected is not None else None
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise TransferError(f"{partial.target.name}: the server sends it encoded, unasked")
        if verify and expected is None:
            raise TransferError(f"{partial.target.name}: the server tells no SHA-256 to check")
        body = Body(response, f"download of {partial.target.name}")
        done = start
        with partial.open() as file, closing(body), transfer.calls.waking(body.shut):
            if hashed is not None:
                digest.feed(hashed, file, start)
            file.seek(start)
            transfer.advance(done, total)
            for block in body.blocks(RECEIVE_BYTES, None if total is None else total - start):
                with _saving(partial.target):
                    write_all(file, block)
                if hashed is not None:
                    hashed.update(block)
                done += len(block)
                transfer.advance(done, total)
            transfer.wait(0)  # a cancelled body just ends
            if total is not None and done != total:
                raise ConnectionFailed(f"{done} of {total} bytes arrived")
            with _saving(partial.target):
                os.fsync(file.fileno())
    if hashed is not None and hashed.digest() != expected:
        partial.discard()
        raise TransferError(f"{partial.target.name}: what arrived is not what the server has")


@contextmanager
def _saving(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TransferError(f"{target}: {error.strerror or error}") from error


def extent(response: requests.Response) -> tuple[int, int | None]:
    """Where the body of ``response`` begins in the file, and how large the file is.

    Raises:
        InvalidResponseError: it is no file, or does not say which part of one it is.
    """
    if response.status_code not in (200, 206):
        raise InvalidResponseError(
            f"the answer is no file ({response.status_code})",
            body="",
            status_code=response.status_code,
        )
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None:
            raise InvalidResponseError("a part of a file that does not say which", body="")
        return int(match[1]), int(match[3])
    length = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity") != "identity"
    return 0, int(length) if length.isdigit() and not encoded else None


def write_all(file: BinaryIO, block: bytes | memoryview) -> None:
    """Write to an unbuffered file, which may take less than it is given."""
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]
