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
# The block that servers send most: an id, then one line of data.
# Possessive quantifiers (*+) keep a mismatch from trying each shorter line.
_CANONICAL: Final = re.compile(rb"id: ?([^\n\0]*+)\ndata: ?([^\n]*+)")
# Other blocks with one line of data; ids and event names may be missing, or come after it.
_ONE_LINE: Final = re.compile(
    rb"(?:id: ?([^\n\0]*+)\n)?(?:event: ?([^\n]*+)\n)?(?:id: ?([^\n\0]*+)\n)?"
    rb"data: ?([^\n]*+)"
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
        *finished, rest = self._blocks(chunk)
        if rest:
            self._keep(rest)
        finished.reverse()
        while finished:
            block = finished.pop()
            canonical = _CANONICAL.fullmatch(block)
            if canonical is not None:
                self.last_event_id = canonical[1].decode("utf-8", "replace")
                data = canonical[2]
                del block, canonical
                yield data, "message", self.last_event_id
                continue
            one_line = _ONE_LINE.fullmatch(block)
            if one_line is None:
                dispatched = self._dispatch(block)
                if dispatched is not None:
                    yield dispatched
                continue
            id_1, name_1, id_2, data, id_3, name_2, id_4 = one_line.groups()
            del block, one_line
            event_id = id_1 if id_2 is None else id_2
            if id_3 is not None or id_4 is not None:
                event_id = id_3 if id_4 is None else id_4
            if event_id is not None:
                self.last_event_id = event_id.decode("utf-8", "replace")
            name = name_1 if name_2 is None else name_2
            if name != self._name:
                self._name, self._event = name, _decoded_name(name)
            yield data, self._event, self.last_event_id

    def _blocks(self, chunk: bytes) -> list[bytes]:
        """The blocks that ``chunk`` finishes, and last what it leaves unfinished."""
        if not self._unfinished:
            return self._limited(chunk.split(b"\n\n"))
        if self._unfinished[-1].endswith(b"\n") and chunk.startswith(b"\n"):
            # The blank line itself was cut in two.
            block = self._taken()[:-1]
            return [block, *self._limited(chunk[1:].split(b"\n\n"))]
        if b"\n\n" not in chunk:
            return [chunk]
        first, _, rest = chunk.partition(b"\n\n")
        self._keep(first)
        return [self._taken(), *self._limited(rest.split(b"\n\n"))]

    def _limited(self, blocks: list[bytes]) -> list[bytes]:
        if len(max(blocks, key=len)) > self._max:
            raise BlockTooLarge(f"an event is larger than {self._max} bytes")
        return blocks

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._max:
            raise BlockTooLarge(f"an event is larger than {self._max} bytes")
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

    def _dispatch(self, block: bytes) -> tuple[bytes, str, str] | None:
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


def _decoded_name(name: bytes | None) -> str:
    return name.decode("utf-8", "replace") if name else "message"
