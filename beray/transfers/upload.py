"""Local files as request bodies: streamed, and with what goes wrong here told from there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from beray.exceptions import InvalidArgument, TransferError
from beray.transfers.transfer import BLOCK_BYTES, Transfer


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """A local file, to be uploaded.

    Raises:
        InvalidArgument: it is no regular file: what its size is cannot be known, nor when it ends.
        OSError: it cannot be read.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # of folders, Python has its own words
        raise InvalidArgument(f"{os.fspath(path)} is no regular file; copy what it gives to one")
    return open(path, "rb")


class UploadAborted(BaseException):
    """Carries what went wrong on this side past the HTTP library, which would take it
    for something that went wrong on the other."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Upload:
    """A file as a request body: streamed, with the length it had, reporting progress.

    ``read`` raises ``UploadAborted`` with what the file or the progress callback raised,
    or with ``TransferError`` where the file has become shorter. What is appended
    meanwhile is not sent.
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
        return self._file.tell()

    def seek(self, position: int) -> int:
        self._left = self._total - (position - self._start)
        return self._file.seek(position)

    def read(self, size: int = -1) -> bytes:
        # http.client asks for a few KiB at a time, which costs most of the throughput.
        wanted = min(self._left, max(size, BLOCK_BYTES) if size >= 0 else self._left)
        with _aborting():
            block = _bytes_of(self._file, wanted)
            if wanted and not block:
                raise TransferError("the file became shorter while it was sent")
            self._left -= len(block)
            self._transfer.advance(self._total - self._left, self._total)
        return block


class Multipart:
    """A form with one file in it as a request body: streamed, as ``Upload`` is.

    Source: RFC 7578; WHATWG HTML, 4.10.21.8 (names in a form).
    """

    def __init__(
        self, upload: Upload, name: str, content_type: str, fields: Mapping[str, str]
    ) -> None:
        boundary = os.urandom(16).hex()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        """What the request has to say that it is."""
        begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
        parts = [f'{begin}"{_quoted(key)}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
        parts.append(
            f'{begin}"file"; filename="{_quoted(name)}"\r\nContent-Type: {content_type}\r\n\r\n'
        )
        self._head = "".join(parts).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._upload = upload
        self._start = upload.tell()
        self._at = 0

    def __len__(self) -> int:
        return len(self._head) + len(self._upload) + len(self._tail)

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> int:
        """Begin anew: there is no other place that a body is sent from."""
        if position:
            raise ValueError("a form is sent from its beginning")
        self._upload.seek(self._start)
        self._at = 0
        return 0

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(BLOCK_BYTES), b""))
        if self._at == 0:
            block = self._head
        elif self._at == len(self):
            return b""
        else:
            block = self._upload.read(size) or self._tail
        self._at += len(block)
        return block


def _quoted(name: str) -> str:
    return name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


class UnsizedUpload:
    """A file that does not know its length, such as a pipe, as a request body: in chunks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        while block := self.read(BLOCK_BYTES):
            yield block

    def read(self, size: int = -1) -> bytes:
        with _aborting():
            return _bytes_of(self._file, size)


@contextmanager
def told(transfer: Transfer) -> Iterator[None]:
    """Raise what has gone wrong on this side as what it is, and all behind a cancel as that."""
    try:
        with transfer.told_apart():
            yield
    except UploadAborted as aborted:
        raise aborted.error from None


@contextmanager
def _aborting() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - none is lost: it travels on
        raise UploadAborted(error) from None


def _bytes_of(file: BinaryIO, size: int) -> bytes:
    block = file.read(size)
    if not isinstance(block, bytes):
        raise InvalidArgument("the file is open as text; open it with 'rb'")
    return block
