"""Raw HTTP connections, for requests that no HTTP library sends."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

SECONDS = 30.0


@dataclass(frozen=True)
class RawResponse:
    """HTTP response as received."""

    status: int
    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the value of a header; None if the response does not have it."""
        for line in self.head.split("\r\n")[1:]:
            found, _, value = line.partition(":")
            if found.lower() == name.lower():
                return value.strip()
        return None


class RawConnection:
    """HTTP connection; also a context manager."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self.host = address.netloc
        self.socket = socket.create_connection((address.hostname, address.port), SECONDS)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes, with the host of the server in place of ``{host}``."""
        self.socket.sendall(data.replace(b"{host}", self.host.encode()))

    def read_response(self, *, to_head: bool = False) -> RawResponse:
        """Return the next response."""
        head, _, self._received = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        found = RawResponse(int(text.split(" ")[1]), text, b"")
        if to_head or found.status in (100, 204, 304):
            return found
        length = found.header("content-length")
        if length is None:
            return found
        while len(self._received) < int(length):
            self._received += self._block()
        body, self._received = self._received[: int(length)], self._received[int(length) :]
        return RawResponse(found.status, text, body)

    @property
    def received(self) -> bytes:
        """Data after the last response."""
        return self._received

    def until(self, mark: bytes) -> bytes:
        """Return the data after the last response, at least up to ``mark``."""
        return self._until(mark)

    def ended(self) -> bool:
        """Wait until the server closes the connection; raise TimeoutError if it does not."""
        try:
            while block := self.socket.recv(65536):
                self._received += block
        except ConnectionResetError:
            pass
        return True

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._received += self._block()
        return self._received

    def _block(self) -> bytes:
        block = self.socket.recv(65536)
        assert block, f"the connection ended after {self._received[-200:]!r}"
        return block


def send_raw(url: str, data: bytes) -> RawResponse:
    """Return the response to ``data`` on a new connection."""
    with RawConnection(url) as connection:
        connection.send(data)
        return connection.read_response()
