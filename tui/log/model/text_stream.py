"""Where a flow of text is cut into pieces.

An endless flow is kept as bounded pieces: a piece that is closed never changes, so
only the last one is laid out anew. Cuts depend on the text and on the numbers of its
events alone, never on how the events were grouped, and in such a way that a reader who
begins in the middle of a flow soon cuts it where one who began earlier does.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from beray.sanitize import UNFINISHED_OUTPUT, printable_output

LINE: Final = 2000
"""Characters after which a line is broken, so that no line costs more than this to lay out."""
_OUTPUT_LINES: Final = 200
_OUTPUT_CHARACTERS: Final = 16_000
_MARKDOWN_LINES: Final = 100
_MARKDOWN_CHARACTERS: Final = 4000
_LINE_START: Final = 200
"""How much of a Markdown line is looked at."""
_BUCKET: Final = 64
"""Output is cut at the first line end in each so many events."""
_REDRAWS: Final = 1024
"""A line that is written over is cut at the first CR in each so many events."""
_MOST_HELD: Final = 1024
_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)")


class Kind(StrEnum):
    """What a block is; the words of a filter's ``kind:``."""

    TEXT = "text"
    OUTPUT = "output"
    USER = "user"
    """What the user of a chat says."""
    CALL = "call"
    RESULT = "result"
    FILE = "file"
    NOTE = "note"
    ERROR = "error"
    STATUS = "status"
    END = "end"
    GAP = "gap"
    """Not of the task: what a view leaves out."""


class Flow(NamedTuple):
    kind: Kind
    source: str
    call: str = ""
    """The ``call_id`` of a command's output."""


class Context(NamedTuple):
    """What holds where a block begins. Whoever knows it can go on from there."""

    flow: Flow | None = None
    """The flow that the block continues; ``None`` where it begins anew."""
    joined: bool = False
    """It continues a line that was cut in the middle."""
    spaced: bool = False
    """A paragraph has ended before it."""
    fence: str = ""
    """The line that opened the code block it is in."""
    calls: int = 0
    """Tool calls right before it that have no result yet."""
    held: str = ""
    """What the gate had kept back of the event before."""
    last_call: str = ""
    """The ``call_id`` of the call or output right before it."""
    open_calls: tuple[tuple[str, str], ...] = ()
    """The ``call_id`` of each call without a result, and its description."""


START: Final = Context()


class Gate:
    """Makes a flow printable piece by piece.

    What could be the beginning of CRLF or of a colour sequence waits for the rest. A CR in
    what it returns means that the line is written over.
    """

    def __init__(self, held: str = "") -> None:
        self.held = held

    def pass_on(self, text: str) -> str:
        text = self.held + text
        held = UNFINISHED_OUTPUT.search(text, max(0, len(text) - _MOST_HELD))
        self.held = held[0] if held else ""
        return printable_output(text[: len(text) - len(self.held)])

    def rest(self) -> str:
        held, self.held = self.held, ""
        return printable_output(held).removesuffix("\r")


class Cutter:
    """Is given safe text; says which piece each part of it belongs to."""

    def __init__(self, flow: Flow, context: Context) -> None:
        self._markdown = flow.kind is Kind.TEXT
        self._most_lines = _MARKDOWN_LINES if self._markdown else _OUTPUT_LINES
        self._most = _MARKDOWN_CHARACTERS if self._markdown else _OUTPUT_CHARACTERS
        self._flow = flow
        self._open_calls = context.open_calls
        self._fence, self._blank = context.fence, context.spaced
        # Of the current line: its beginning, and how far it is since its last break.
        self._line, self._fresh, self._column = "", not context.joined, 0
        # Of the current piece:
        self._length = self._lines = 0
        self._line_start = 0
        self._bucket: int | None = None
        self._first = 0
        self._numbered = False

    def feed(self, text: str, number: int) -> list[tuple[str, Context | None]]:
        """``text`` of event ``number`` in parts; behind one with a context the piece ends."""
        parts: list[tuple[str, Context | None]] = []
        start = at = 0
        while at < len(text):
            if text[at] == "\r":
                if self._write_over(number):
                    parts.append((text[start:at], self._cut()))
                    start = at
                at += 1
                continue
            if self._fresh and self._markdown and self._ends_paragraph(text[at]):
                parts.append((text[start:at], self._cut()))
                start = at
            if self._bucket is None:
                self._bucket, self._numbered = number // _BUCKET, text[at].isdigit()
                self._first = number
            redraw = text.find("\r", at)
            newline = text.find("\n", at, redraw if redraw >= 0 else len(text))
            end = newline if newline >= 0 else redraw if redraw >= 0 else len(text)
            if end - at > LINE - self._column:
                end = at + LINE - self._column
                self._go_on(text, at, end)
                self._column = 0
                at, cut = end, self._length >= self._most
            else:
                self._go_on(text, at, end)
                at, cut = end, False
                if newline >= 0:
                    at, cut = end + 1, self._end_line(number)
            if cut:
                parts.append((text[start:at], self._cut()))
                start = at
        if start < len(text):
            parts.append((text[start:], None))
        return parts

    def _go_on(self, text: str, at: int, end: int) -> None:
        if end > at:
            self._fresh = False
            self._length += end - at
            self._column += end - at
            if self._markdown and len(self._line) < _LINE_START:
                self._line += text[at : min(end, at + _LINE_START)]

    def _write_over(self, number: int) -> bool:
        """Begin the current line anew; return whether the piece ends before that."""
        if self._bucket is not None and number // _REDRAWS > self._first // _REDRAWS:
            self._line, self._fresh, self._column = "", True, 0
            return True
        self._length = self._line_start
        self._line, self._column = "", 0
        return False

    def _end_line(self, number: int) -> bool:
        """Take note of a newline; whether the piece ends behind it."""
        line, self._line = self._line, ""
        self._fresh, self._column = True, 0
        self._length += 1
        self._line_start = self._length
        self._lines += 1
        if self._markdown:
            self._blank = not line.strip()
            self._turn_fence(line)
        elif self._bucket is not None and number // _BUCKET > self._bucket:
            return True
        return self._lines >= self._most_lines or self._length >= self._most

    def _turn_fence(self, line: str) -> None:
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
        """Whether the piece ends before a line that begins with ``following``.

        What is indented may belong to a list above, and numbers go on counting.
        """
        if not (self._blank and self._length) or self._fence or following in " \t\n":
            return False
        return not (self._numbered and following.isdigit())

    def _cut(self) -> Context:
        self._length = self._lines = self._line_start = 0
        self._bucket = None
        spaced = self._markdown and self._fresh and self._blank
        return Context(
            self._flow, not self._fresh, spaced, self._fence, open_calls=self._open_calls
        )
