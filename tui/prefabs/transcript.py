"""What a run has streamed, as far as it is kept: its last lines."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

from tui.events.text_stream import TextStream

MOST_LINES: Final = 2000
MOST_CHARACTERS: Final = 400_000
LONGEST_LINE: Final = 2000
"""A longer line is broken here, so that no line costs more than this to lay out."""


class Transcript:
    """Lines of safe text; the first ones are dropped where there are too many.

    Attributes:
        lines: what is kept; the last one may go on.
        dropped: how many lines there were before these.
        changes: how often it has changed.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.dropped = 0
        self.changes = 0
        self._characters = 0
        self._open = False
        self._stream = TextStream()

    def add(self, content: Any) -> None:
        """Add what was streamed: text goes on where the last one ended, a value has its line."""
        if isinstance(content, str):
            self._write(self._stream.feed(content))
        else:
            self._end_line()
            self._write(TextStream().feed(json.dumps(content, ensure_ascii=False)) + "\n")

    def end(self) -> None:
        """Nothing comes any more: what was kept back is shown."""
        self._write(self._stream.flush())

    def _end_line(self) -> None:
        self._write(self._stream.flush())
        self._open = False

    def _write(self, text: str) -> None:
        if not text:
            return
        self.changes += 1
        first, *others = text.split("\n")
        self._go_on(first)
        for line in others:
            self._open = False
            self._begin(line)
        if others and not others[-1]:
            self._take_back()
        self._drop()

    def _go_on(self, text: str) -> None:
        if self._open and self.lines:
            before = self.lines.pop()
            self._characters -= len(before)
            text = before + text
        self._begin(text)

    def _begin(self, line: str) -> None:
        """Add a line that may go on, in pieces where it is long."""
        for at in range(0, len(line) or 1, LONGEST_LINE):
            piece = line[at : at + LONGEST_LINE].expandtabs(8)
            self.lines.append(piece)
            self._characters += len(piece)
            if len(self.lines) > MOST_LINES * 2:
                self._drop()
        self._open = True

    def _take_back(self) -> None:
        """Behind a last newline there is no line yet."""
        self.lines.pop()
        self._open = False

    def _drop(self) -> None:
        while len(self.lines) > MOST_LINES or self._characters > MOST_CHARACTERS:
            self._characters -= len(self.lines.popleft())
            self.dropped += 1
