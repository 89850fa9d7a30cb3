"""Sanitizing of streamed text and its division into pieces of bounded size.

A complete piece never changes, so that only the last piece of an endless stream must be laid
out again. The boundaries depend only on the text and the numbers of its events, not on the grouping
of events into batches. If reading starts in the middle of a stream, the boundaries soon
coincide with those found when reading from an earlier start.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from beray.sanitize import printable_output, split_unfinished

MAX_LINE_CHARS: Final = 2000
"""Length after which a line is broken, to limit the cost of laying it out."""
_MAX_OUTPUT_LINES: Final = 200
_MAX_OUTPUT_CHARS: Final = 16_000
_MAX_MARKDOWN_LINES: Final = 100
_MAX_MARKDOWN_CHARS: Final = 4000
_LINE_PREFIX_CHARS: Final = 200
"""Length of the start of a Markdown line that is examined."""
_BUCKET_EVENTS: Final = 64
"""Output is divided at the first line end after each multiple of this many events."""
_REDRAW_BUCKET_EVENTS: Final = 1024
"""A line that is overwritten is divided at the first CR after each multiple of this many events."""
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")


class BlockKind(StrEnum):
    """Type of a block. Most values can be used as ``kind:`` in a filter."""

    TEXT = "text"
    OUTPUT = "output"
    USER = "user"
    """A message of the user of a chat."""
    CALL = "call"
    RESULT = "result"
    FILE = "file"
    NOTE = "note"
    ERROR = "error"
    STATUS = "status"
    CHECKPOINT = "checkpoint"
    """Changes of the files in a step."""
    END = "end"
    GAP = "gap"
    """A line of the view itself, such as a count of omitted events."""


class TextFlow(NamedTuple):
    """Streamed text of one source.

    Attributes:
        kind: ``TEXT`` or ``OUTPUT``.
        source: Source of the events.
        call_id: ``call_id`` of the command whose output it is.
    """

    kind: BlockKind
    source: str
    call_id: str = ""


class BlockContext(NamedTuple):
    """State of a builder at the start of a block; building can be resumed from it.

    Attributes:
        flow: Text that the block continues; ``None`` if it does not continue one.
        continues_line: Whether the block continues a line.
        after_paragraph: Whether a paragraph ended before the block.
        fence: Line that opened the code block around the start of the block.
        pending_calls: Number of tool calls directly before the block that have no result.
        pending: Text of the previous event that ``TextStream`` has retained.
        last_call_id: ``call_id`` of the call or output directly before the block.
        open_calls: ``call_id`` and description of each call without a result.
    """

    flow: TextFlow | None = None
    continues_line: bool = False
    after_paragraph: bool = False
    fence: str = ""
    pending_calls: int = 0
    pending: str = ""
    last_call_id: str = ""
    open_calls: tuple[tuple[str, str], ...] = ()


START_CONTEXT: Final = BlockContext()


class TextStream:
    """Incremental sanitizer for streamed text.

    The end of a chunk is retained if it may be the start of CRLF or of a colour sequence. A CR
    in the returned text means that the current line is overwritten.

    Args:
        pending: Text that an earlier sanitizer of the same stream has retained.
    """

    def __init__(self, pending: str = "") -> None:
        self.pending = pending

    def feed(self, text: str) -> str:
        """Return the sanitized text of a chunk, without the part that is retained."""
        complete, self.pending = split_unfinished(self.pending + text)
        return printable_output(complete)

    def flush(self) -> str:
        """Return the retained text, sanitized, at the end of the stream."""
        pending, self.pending = self.pending, ""
        return printable_output(pending).removesuffix("\r")


class FlowSplitter:
    """Splitter that divides sanitized text into pieces of bounded size.

    Args:
        flow: The text to divide.
        context: State at the start of the text.
    """

    def __init__(self, flow: TextFlow, context: BlockContext) -> None:
        self._markdown = flow.kind is BlockKind.TEXT
        self._max_lines = _MAX_MARKDOWN_LINES if self._markdown else _MAX_OUTPUT_LINES
        self._max_chars = _MAX_MARKDOWN_CHARS if self._markdown else _MAX_OUTPUT_CHARS
        self._flow = flow
        self._open_calls = context.open_calls
        self._fence, self._after_blank_line = context.fence, context.after_paragraph
        # State of the current line: its start, and the column since its last break.
        self._line, self._at_line_start, self._column = "", not context.continues_line, 0
        # State of the current piece:
        self._length = self._lines = 0
        self._line_start = 0
        self._bucket: int | None = None
        self._first_event = 0
        self._starts_with_digit = False

    def split(self, text: str, number: int) -> list[tuple[str, BlockContext | None]]:
        """Divide ``text`` of event ``number`` into parts.

        Returns:
            The parts in order. If a part ends a piece, it has the context of the next piece.
        """
        parts: list[tuple[str, BlockContext | None]] = []
        start = at = 0
        while at < len(text):
            if text[at] == "\r":
                if self._restart_line(number):
                    parts.append((text[start:at], self._end_piece()))
                    start = at
                at += 1
                continue
            if self._at_line_start and self._markdown and self._ends_paragraph(text[at]):
                parts.append((text[start:at], self._end_piece()))
                start = at
            if self._bucket is None:
                self._bucket, self._starts_with_digit = number // _BUCKET_EVENTS, text[at].isdigit()
                self._first_event = number
            redraw = text.find("\r", at)
            newline = text.find("\n", at, redraw if redraw >= 0 else len(text))
            end = newline if newline >= 0 else redraw if redraw >= 0 else len(text)
            if end - at > MAX_LINE_CHARS - self._column:
                end = at + MAX_LINE_CHARS - self._column
                self._consume(text, at, end)
                self._column = 0
                at, cut = end, self._length >= self._max_chars
            else:
                self._consume(text, at, end)
                at, cut = end, False
                if newline >= 0:
                    at, cut = end + 1, self._end_line(number)
            if cut:
                parts.append((text[start:at], self._end_piece()))
                start = at
        if start < len(text):
            parts.append((text[start:], None))
        return parts

    def _consume(self, text: str, at: int, end: int) -> None:
        if end > at:
            self._at_line_start = False
            self._length += end - at
            self._column += end - at
            if self._markdown and len(self._line) < _LINE_PREFIX_CHARS:
                self._line += text[at : min(end, at + _LINE_PREFIX_CHARS)]

    def _restart_line(self, number: int) -> bool:
        """Handle a CR: restart the current line; return True if the piece ends before it."""
        if (
            self._bucket is not None
            and number // _REDRAW_BUCKET_EVENTS > self._first_event // _REDRAW_BUCKET_EVENTS
        ):
            self._line, self._at_line_start, self._column = "", True, 0
            return True
        self._length = self._line_start
        self._line, self._column = "", 0
        return False

    def _end_line(self, number: int) -> bool:
        """Handle a newline; return True if the piece ends after it."""
        line, self._line = self._line, ""
        self._at_line_start, self._column = True, 0
        self._length += 1
        self._line_start = self._length
        self._lines += 1
        if self._markdown:
            self._after_blank_line = not line.strip()
            self._update_fence(line)
        elif self._bucket is not None and number // _BUCKET_EVENTS > self._bucket:
            return True
        return self._lines >= self._max_lines or self._length >= self._max_chars

    def _update_fence(self, line: str) -> None:
        found = _FENCE.match(line)
        if found is None:
            return
        if not self._fence:
            self._fence = line
            return
        mark, opened = found[1], self._fence.lstrip(" ")
        if opened.startswith(mark[0] * 3) and not found[2].strip():
            longest = len(opened) - len(opened.lstrip(mark[0]))
            if len(mark) >= longest:
                self._fence = ""

    def _ends_paragraph(self, following: str) -> bool:
        """Return True if the piece ends before a line that starts with ``following``.

        It does not end before an indented line, which may belong to a list item, or before a
        number that may continue a numbered list.
        """
        if not (self._after_blank_line and self._length) or self._fence or following in " \t\n":
            return False
        return not (self._starts_with_digit and following.isdigit())

    def _end_piece(self) -> BlockContext:
        self._length = self._lines = self._line_start = 0
        self._bucket = None
        after_paragraph = self._markdown and self._at_line_start and self._after_blank_line
        return BlockContext(
            self._flow,
            not self._at_line_start,
            after_paragraph,
            self._fence,
            open_calls=self._open_calls,
        )
