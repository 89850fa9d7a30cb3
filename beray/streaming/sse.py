"""Server-Sent Events: bytes in, events out. Knows nothing of BeRay.

The parser takes pieces of any size, cut anywhere, and gives each event as soon as
the last byte of its block has arrived. A block that is unfinished when the stream
ends was never an event. Its time is linear in the bytes, however they are cut.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_BLOCK_BYTES: Final = 64 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
# The lines before and after one line of data; the data itself is delimited by ``find``, which
# scans long data about 20 times as fast as a pattern. Possessive quantifiers (*+) keep a
# mismatch from trying each shorter line.
_ID_AND_DATA: Final = re.compile(rb"id: ?([^\n\0]*+)\ndata: ?")  # what most servers send
_HEAD: Final = re.compile(
    rb"(?:id: ?([^\n\0]*+)\n)?(?:event: ?([^\n]*+)\n)?(?:id: ?([^\n\0]*+)\n)?data: ?"
)
_TAIL: Final = re.compile(
    rb"(?:\nid: ?([^\n\0]*+))?(?:\nevent: ?([^\n]*+))?(?:\nid: ?([^\n\0]*+))?"
)


class BlockTooLarge(ValueError):
    """A block grew past the limit without its blank line."""


class ServerSentEvent(NamedTuple):
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
        self._unfinished: list[bytes] = []  # pieces of a block; lines end in LF here
        self._size = 0
        self._after_cr = False
        # The event name of the last block: most streams repeat one or a few.
        self._name: bytes | None = None
        self._event = "message"
        self._head: bytes | None = b""  # what may still be a byte order mark

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Give the events that ``chunk`` completes.

        Raises:
            BlockTooLarge: when a block exceeds the limit.
        """
        for data, event, event_id in self.feed_raw(chunk):
            yield ServerSentEvent(data.decode("utf-8", "replace"), event, event_id)

    def feed_raw(self, chunk: bytes) -> Iterator[tuple[bytes, str, str]]:
        """As ``feed``, with the data as it came: for a reader that decodes by itself.

        Data of several lines has no invalid UTF-8 any more. Nothing here keeps the data
        while the caller works with it.
        """
        if self._head is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_lf(chunk)
        if not chunk:
            return
        start = 0
        if self._unfinished:
            start = self._finish(chunk)
            if start < 0:
                self._keep(chunk)
                return
            event = self._parsed(self._taken())
            if event is not None:
                yield event
            del event
        while True:
            # Most blocks end with one line of data. The end of that line is found by a search for
            # one byte, which is about 20 times as fast as a search for the two of a blank line.
            head = _ID_AND_DATA.match(chunk, start)
            only_id = head is not None
            if head is None:
                head = _HEAD.match(chunk, start)
            if head is not None:
                end = chunk.find(b"\n", head.end())
                if end >= 0 and chunk.startswith(b"\n", end + 1):
                    self._limit(end - start)
                    start = end + 2
                    if only_id:
                        self.last_event_id = head[1].decode("utf-8", "replace")
                        yield chunk[head.end() : end], "message", self.last_event_id
                    else:
                        self._take_fields(*head.groups())
                        yield chunk[head.end() : end], self._event, self.last_event_id
                    continue
            end = chunk.find(b"\n\n", start)
            if end < 0:
                break
            self._limit(end - start)
            event = self._parsed(chunk[start:end])
            start = end + 2
            if event is not None:
                yield event
            del event
        if start < len(chunk):
            self._keep(chunk[start:])

    def _finish(self, chunk: bytes) -> int:
        """Complete the unfinished block from ``chunk``.

        Returns:
            Position after the block in ``chunk``; -1 if the block goes on after ``chunk``.
        """
        if self._unfinished[-1].endswith(b"\n") and chunk.startswith(b"\n"):
            self._unfinished[-1] = self._unfinished[-1][:-1]  # the blank line was cut in two
            return 1
        end = chunk.find(b"\n\n") if b"\n" in chunk else -1
        if end >= 0:
            self._keep(chunk[:end])
        return -1 if end < 0 else end + 2

    def _limit(self, size: int) -> None:
        if size > self._max:
            raise BlockTooLarge(f"an event is larger than {self._max} bytes")

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        self._limit(self._size)
        self._unfinished.append(piece)

    def _taken(self) -> bytes:
        block = b"".join(self._unfinished)
        self._unfinished.clear()
        self._size = 0
        return block

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

    def _parsed(self, block: bytes) -> tuple[bytes, str, str] | None:
        """Data, event name and last event id of a block; ``None`` if it has no data."""
        head = _HEAD.match(block)
        if head is None:
            return self._lines(block)
        end = block.find(b"\n", head.end())
        tail = None if end < 0 else _TAIL.fullmatch(block, end)
        if end >= 0 and tail is None:
            return self._lines(block)
        self._take_fields(*head.groups(), *(() if tail is None else tail.groups()))
        return block[head.end() : end if end >= 0 else None], self._event, self.last_event_id

    def _take_fields(
        self,
        id_1: bytes | None,
        name_1: bytes | None,
        id_2: bytes | None,
        id_3: bytes | None = None,
        name_2: bytes | None = None,
        id_4: bytes | None = None,
    ) -> None:
        """Set id and event name from the fields of a block in their order; the last one counts."""
        if id_2 is not None:
            id_1 = id_2
        if id_3 is not None or id_4 is not None:
            id_1 = id_3 if id_4 is None else id_4
        if id_1 is not None:
            self.last_event_id = id_1.decode("utf-8", "replace")
        name = name_1 if name_2 is None else name_2
        if name != self._name:
            self._name, self._event = name, name.decode("utf-8", "replace") if name else "message"

    def _lines(self, block: bytes) -> tuple[bytes, str, str] | None:
        """As ``_parsed``, for a block of any lines."""
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
        return "\n".join(data).encode(), event or "message", self.last_event_id
