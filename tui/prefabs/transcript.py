"""Streamed output of a run, limited to its last lines."""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final

from tui.events.text_stream import TextStream

MAX_LINES: Final = 2000
MAX_CHARACTERS: Final = 400_000
MAX_LINE_CHARACTERS: Final = 2000
"""Longer lines are broken at this length, which limits the layout cost of a line."""


class Transcript:
    """Printable lines of streamed output; the first ones are dropped if there are too many.

    Attributes:
        lines: Last lines of the output; the last one may be incomplete.
        dropped: Number of lines that were dropped before these.
        changes: Counter that increases with every change.
    """

    def __init__(self) -> None:
        self.lines: deque[str] = deque()
        self.dropped = 0
        self.changes = 0
        self._characters = 0
        self._open = False
        self._stream = TextStream()

    def add(self, content: Any) -> None:
        """Add streamed content: a string continues the last line, a value gets its own line."""
        if isinstance(content, str):
            self._write(self._stream.feed(content))
        else:
            self._end_line()
            self._write(TextStream().feed(json.dumps(content, ensure_ascii=False)) + "\n")

    def end(self) -> None:
        """Add buffered characters at the end of the stream."""
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
        """Add a line that may be continued; long lines are split."""
        for at in range(0, len(line) or 1, MAX_LINE_CHARACTERS):
            piece = line[at : at + MAX_LINE_CHARACTERS].expandtabs(8)
            self.lines.append(piece)
            self._characters += len(piece)
            if len(self.lines) > MAX_LINES * 2:
                self._drop()
        self._open = True

    def _take_back(self) -> None:
        """Remove the empty line after a final newline."""
        self.lines.pop()
        self._open = False

    def _drop(self) -> None:
        while len(self.lines) > MAX_LINES or self._characters > MAX_CHARACTERS:
            self._characters -= len(self.lines.popleft())
            self.dropped += 1
