"""Local files as request bodies: streamed, with progress, and with their own errors kept apart."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from beray.exceptions import InvalidArgument, TransferError
from beray.transfers.transfer import BLOCK_BYTES, Transfer


def open_for_upload(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a local file for an upload.

    Raises:
        InvalidArgument: The path is not a regular file, so that its size is unknown.
        OSError: The file cannot be read.
    """
    local = Path(path)
    mode = local.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # open() reports a directory itself
        raise InvalidArgument(
            f"{local} is not a regular file; copy its content to a file and upload that"
        )
    return local.open("rb")


class UploadAborted(BaseException):
    """Carries a local error through the HTTP library.

    It is a BaseException, because the library would report an Exception as a failed connection.

    Attributes:
        error: The local error.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class UploadBody:
    """File as a request body of known length, which reports progress.

    The length is determined at the start; data appended later is not sent. ``read`` raises
    ``UploadAborted`` with the exception of the file or of the progress callback, or with
    ``TransferError`` if the file became shorter.
    """

    def __init__(self, file: BinaryIO, transfer: Transfer) -> None:
        self._file = file
        self._transfer = transfer
        self._start = file.tell()
        self._total = file.seek(0, os.SEEK_END) - self._start
        self.seek(self._start)

    def __len__(self) -> int:
        return self._total

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()

    def seek(self, position: int) -> int:
        """Continue at a position of the file."""
        self._remaining = self._total - (position - self._start)
        return self._file.seek(position)

    def read(self, size: int = -1) -> bytes:
        """Return the next block, which may be larger than ``size``."""
        # http.client requests a few KiB at a time, which would cost most of the throughput.
        limit = max(size, BLOCK_BYTES) if size >= 0 else self._remaining
        length = min(self._remaining, limit)
        with _abort_on_error():
            block = _read_bytes(self._file, length)
            if length and not block:
                raise TransferError("the file became shorter during the upload")
            self._remaining -= len(block)
            self._transfer.advance(self._total - self._remaining, self._total)
        return block


class MultipartBody:
    """Multipart form with one file as a request body, streamed like ``UploadBody``.

    Args:
        upload: The file.
        name: File name in the form.
        content_type: Media type of the file.
        fields: Other fields of the form.

    Attributes:
        content_type: Media type of the form, for the request header.

    Source: RFC 7578; WHATWG HTML, 4.10.21.8 (names in a form).
    """

    def __init__(
        self, upload: UploadBody, name: str, content_type: str, fields: Mapping[str, str]
    ) -> None:
        boundary = os.urandom(16).hex()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
        parts = [f'{begin}"{_quoted(key)}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
        parts.append(
            f'{begin}"file"; filename="{_quoted(name)}"\r\nContent-Type: {content_type}\r\n\r\n'
        )
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._upload = upload
        self._start = upload.tell()
        self._position = 0

    def __len__(self) -> int:
        return len(self._head) + len(self._upload) + len(self._tail)

    def tell(self) -> int:
        """Return the position in the form."""
        return self._position

    def seek(self, position: int) -> int:
        """Start again from the beginning, the only supported position."""
        if position:
            raise ValueError("a form can only be sent from its beginning")
        self._upload.seek(self._start)
        self._position = 0
        return 0

    def read(self, size: int = -1) -> bytes:
        """Return the next block, which may be larger than ``size``."""
        if size < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        if self._position == 0:
            block = self._head
        elif self._position == len(self):
            return b""
        else:
            block = self._upload.read(size) or self._tail
        self._position += len(block)
        return block


def _quoted(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


class ChunkedUploadBody:
    """File of unknown length, such as a pipe, as a request body in chunks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK_BYTES):
            yield block

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; b"" at the end."""
        with _abort_on_error():
            return _read_bytes(self._file, size)


@contextmanager
def guard_transfer_errors(transfer: Transfer) -> Iterator[None]:
    """Re-raise local errors unchanged; after a cancellation, raise TransferCancelled instead."""
    try:
        with transfer.separating_cancel():
            yield
    except UploadAborted as aborted:
        raise aborted.error from None


@contextmanager
def _abort_on_error() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - guard_transfer_errors raises it again
        raise UploadAborted(error) from None


def _read_bytes(file: BinaryIO, size: int) -> bytes:
    block = file.read(size)
    if not isinstance(block, bytes):
        raise InvalidArgument("the file is open in text mode; open it with 'rb'")
    return block
