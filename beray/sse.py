"""Server-Sent Events: bytes in, events out. Knows nothing of BeRay.

The parser takes pieces of any size, cut anywhere, and gives each event as soon as
the last byte of its block has arrived. A block that is unfinished when the stream
ends was never an event. Its time is linear in the bytes, however they are cut.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_BLOCK_BYTES: Final = 64 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class BlockTooLarge(ValueError):
    """A block grew past the limit without its blank line."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """A dispatched event. ``id`` is the last event id at that moment, "" before any."""

    data: str
    event: str = "message"
    id: str = ""


class Parser:
    """Feed bytes, get events. ``last_event_id`` and ``retry`` (seconds) persist."""

    def __init__(self, max_block_bytes: int = MAX_BLOCK_BYTES) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._max = max_block_bytes
        self._buffer = bytearray()  # lines end in LF here, whatever they ended in outside
        self._after_cr = False
        self._head: bytes | None = b""  # what may still be a byte order mark

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Give the events that ``chunk`` completes.

        Raises:
            BlockTooLarge: when a block exceeds the limit.
        """
        if self._head is not None:
            chunk = self._without_bom(chunk)
        buffer = self._buffer
        scan = max(len(buffer) - 1, 0)
        buffer += self._with_lf(chunk)
        start = 0
        while (end := buffer.find(b"\n\n", scan)) >= 0:
            self._limit(end - start)
            event = self._dispatch(bytes(buffer[start:end]))
            start = scan = end + 2
            if event is not None:
                yield event
        del buffer[:start]
        self._limit(len(buffer))

    def _without_bom(self, chunk: bytes) -> bytes:
        assert self._head is not None
        head = self._head + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _with_lf(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            # The LF of a CRLF that was cut in two: its CR has ended the line already.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" not in chunk:
            return chunk
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _limit(self, size: int) -> None:
        if size > self._max:
            raise BlockTooLarge(f"an event is larger than {self._max} bytes")

    def _dispatch(self, block: bytes) -> ServerSentEvent | None:
        data: list[str] = []
        event = ""
        for line in block.decode("utf-8", "replace").split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "id":
                if "\0" not in value:
                    self.last_event_id = value
            elif name == "event":
                event = value
            elif name == "retry" and value.isascii() and value.isdigit():
                self.retry = int(value[:12]) / 1000
        if not data:
            return None
        return ServerSentEvent("\n".join(data), event or "message", self.last_event_id)
