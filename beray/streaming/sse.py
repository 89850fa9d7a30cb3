"""Incremental parser for Server-Sent Events. Independent of BeRay.

The parser accepts chunks of any size, split anywhere, and yields each event as soon as the last
byte of its block has arrived. A block that is incomplete when the stream ends is discarded. The
running time is linear in the number of bytes, regardless of how they are split.

Source: WHATWG HTML, "Server-sent events", 9.2.5 and 9.2.6.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_BLOCK_BYTES: Final = 64 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
# Patterns for the lines before and after a single data line. The data itself is delimited with
# ``find``, which is about 20 times as fast as a pattern. Possessive quantifiers (*+) prevent
# backtracking over each shorter line.
_ID_AND_DATA: Final = re.compile(rb"id: ?([^\n\0]*+)\ndata: ?")  # the most common block
_HEAD: Final = re.compile(
    rb"(?:id: ?([^\n\0]*+)\n)?(?:event: ?([^\n]*+)\n)?(?:id: ?([^\n\0]*+)\n)?data: ?"
)
_TAIL: Final = re.compile(
    rb"(?:\nid: ?([^\n\0]*+))?(?:\nevent: ?([^\n]*+))?(?:\nid: ?([^\n\0]*+))?"
)


class BlockTooLarge(ValueError):
    """An event block exceeds the size limit."""


class ServerSentEvent(NamedTuple):
    """A dispatched event. ``id`` is the last event id at that time, "" if there was none."""

    data: str
    event: str = "message"
    id: str = ""


class Parser:
    """Incremental parser of an event stream.

    Args:
        max_block_bytes: Maximum size of the block of one event, in bytes.

    Attributes:
        last_event_id: Last event id of the stream; "" before the first one.
        retry: Reconnection time that the server sent, in seconds; ``None`` if it sent none.
    """

    def __init__(self, max_block_bytes: int = MAX_BLOCK_BYTES) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._max = max_block_bytes
        self._partial_block: list[bytes] = []  # parts of a block, with LF line endings
        self._size = 0
        self._after_cr = False
        # Event name of the last block, cached because most streams repeat a few names.
        self._name: bytes | None = None
        self._event = "message"
        # Start of the stream while it may be an incomplete byte order mark.
        self._bom_prefix: bytes | None = b""

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that ``chunk`` completes.

        Raises:
            BlockTooLarge: A block exceeds the limit.
        """
        for data, event, event_id in self.feed_raw(chunk):
            yield ServerSentEvent(data.decode("utf-8", "replace"), event, event_id)

    def feed_raw(self, chunk: bytes) -> Iterator[tuple[bytes, str, str]]:
        """Yield data, event name and last event id of the events that ``chunk`` completes.

        The data is not decoded, except if it has several lines: then invalid UTF-8 is replaced.
        The parser holds no reference to the data while the caller processes it.

        Raises:
            BlockTooLarge: A block exceeds the limit.
        """
        if self._bom_prefix is not None:
            chunk = self._strip_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._normalize_newlines(chunk)
        if not chunk:
            return
        start = 0
        if self._partial_block:
            start = self._complete_block(chunk)
            if start < 0:
                self._store(chunk)
                return
            event = self._parse_block(self._take_block())
            if event is not None:
                yield event
            del event
        while True:
            # Most blocks end with a single data line. Searching for its end, one byte, is about 20
            # times as fast as searching for the two bytes of a blank line.
            head = _ID_AND_DATA.match(chunk, start)
            has_only_id = head is not None
            if head is None:
                head = _HEAD.match(chunk, start)
            if head is not None:
                end = chunk.find(b"\n", head.end())
                if end >= 0 and chunk.startswith(b"\n", end + 1):
                    self._check_size(end - start)
                    start = end + 2
                    if has_only_id:
                        self.last_event_id = head[1].decode("utf-8", "replace")
                        yield chunk[head.end() : end], "message", self.last_event_id
                    else:
                        self._set_fields(*head.groups())
                        yield chunk[head.end() : end], self._event, self.last_event_id
                    continue
            end = chunk.find(b"\n\n", start)
            if end < 0:
                break
            self._check_size(end - start)
            event = self._parse_block(chunk[start:end])
            start = end + 2
            if event is not None:
                yield event
            del event
        if start < len(chunk):
            self._store(chunk[start:])

    def _complete_block(self, chunk: bytes) -> int:
        """Complete the unfinished block from ``chunk``.

        Returns:
            Position after the block in ``chunk``; -1 if the block is still incomplete.
        """
        if self._partial_block[-1].endswith(b"\n") and chunk.startswith(b"\n"):
            self._partial_block[-1] = self._partial_block[-1][:-1]  # the blank line was split
            return 1
        end = chunk.find(b"\n\n") if b"\n" in chunk else -1
        if end >= 0:
            self._store(chunk[:end])
        return -1 if end < 0 else end + 2

    def _check_size(self, size: int) -> None:
        if size > self._max:
            raise BlockTooLarge(f"an event is larger than {self._max} bytes")

    def _store(self, piece: bytes) -> None:
        self._size += len(piece)
        self._check_size(self._size)
        self._partial_block.append(piece)

    def _take_block(self) -> bytes:
        block = b"".join(self._partial_block)
        self._partial_block.clear()
        self._size = 0
        return block

    def _strip_bom(self, chunk: bytes) -> bytes:
        assert self._bom_prefix is not None
        head = self._bom_prefix + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._bom_prefix = head
            return b""
        self._bom_prefix = None
        return head.removeprefix(_BOM)

    def _normalize_newlines(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            # The LF of a split CRLF: its CR has already ended the line.
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" not in chunk:
            return chunk
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _parse_block(self, block: bytes) -> tuple[bytes, str, str] | None:
        """Return data, event name and last event id of a block; ``None`` if it has no data."""
        head = _HEAD.match(block)
        if head is None:
            return self._parse_lines(block)
        end = block.find(b"\n", head.end())
        tail = None if end < 0 else _TAIL.fullmatch(block, end)
        if end >= 0 and tail is None:
            return self._parse_lines(block)
        self._set_fields(*head.groups(), *(() if tail is None else tail.groups()))
        return block[head.end() : end if end >= 0 else None], self._event, self.last_event_id

    def _set_fields(
        self,
        id_1: bytes | None,
        name_1: bytes | None,
        id_2: bytes | None,
        id_3: bytes | None = None,
        name_2: bytes | None = None,
        id_4: bytes | None = None,
    ) -> None:
        """Set id and event name from the fields of a block; the last occurrence counts."""
        if id_2 is not None:
            id_1 = id_2
        if id_3 is not None or id_4 is not None:
            id_1 = id_3 if id_4 is None else id_4
        if id_1 is not None:
            self.last_event_id = id_1.decode("utf-8", "replace")
        name = name_1 if name_2 is None else name_2
        if name != self._name:
            self._name, self._event = name, name.decode("utf-8", "replace") if name else "message"

    def _parse_lines(self, block: bytes) -> tuple[bytes, str, str] | None:
        """As ``_parse_block``, for a block with any combination of lines."""
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
