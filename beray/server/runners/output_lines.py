"""Parser for the output of a program: text, and lines of JSON that are events."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from beray.events import EVENT, Event, MsgUserMessage, TaskStatusChanged
from beray.schema import EVENT_ENVELOPE
from beray.server.storage.json_values import check_json
from beray.transfers import wire_names

MAX_EVENT_CHARACTERS: Final = 1024 * 1024
"""Maximum length of a line that is an event. Longer lines are text."""

OutputItem = str | tuple[Event, str]
"""Text, or an event and the line that it was parsed from."""


class OutputLines:
    """Incremental parser that returns text and events in order.

    Text is returned at once. Only a line whose first non-blank character is ``{`` is buffered,
    until it ends or is longer than ``MAX_EVENT_CHARACTERS``.
    """

    def __init__(self) -> None:
        # The decoder keeps an incomplete character until the rest of it arrives.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._buffer: list[str] = []
        self._buffered_characters = 0
        self._in_text = False
        """True if the rest of the current line is known to be text."""

    def feed(self, data: bytes) -> list[OutputItem]:
        """Parse the next bytes and return the complete items."""
        return list(_joined(self._lines(self._decoder.decode(data))))

    def end(self) -> list[OutputItem]:
        """Return the remaining items at the end of the output."""
        return list(_joined([*self._lines(self._decoder.decode(b"", final=True)), *self._flush()]))

    def _lines(self, text: str) -> Iterator[OutputItem]:
        start = 0
        while start < len(text):
            newline = text.find("\n", start)
            end = len(text) if newline < 0 else newline + 1
            yield from self._feed_piece(text[start:end])
            start = end

    def _feed_piece(self, piece: str) -> Iterator[OutputItem]:
        """Parse a part of one line, with or without its newline."""
        ends = piece.endswith("\n")
        if self._in_text:
            self._in_text = not ends
            yield piece
            return
        self._buffer.append(piece)
        self._buffered_characters += len(piece)
        if ends:
            yield from self._flush()
        elif self._buffered_characters > MAX_EVENT_CHARACTERS or not self._may_be_event():
            self._in_text = True
            yield "".join(self._buffer)
            self._clear()

    def _may_be_event(self) -> bool:
        # A blank beginning is buffered as well: it may precede an event, and no user waits for it.
        for piece in self._buffer:
            if start := piece.lstrip(" \t\r"):
                return start.startswith("{")
        return True

    def _flush(self) -> Iterator[OutputItem]:
        """Return the complete buffered line as an event or as text."""
        line = "".join(self._buffer)
        self._clear()
        if line:
            event = _event(line)
            yield line if event is None else (event, line)

    def _clear(self) -> None:
        self._buffer.clear()
        self._buffered_characters = 0


def _event(line: str) -> Event | None:
    if not line.lstrip(" \t\r").startswith("{") or len(line) > MAX_EVENT_CHARACTERS:
        return None
    try:
        fields: Any = json.loads(line)
        if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
            return None
        if isinstance(path := fields.get("path"), str):
            # Python programs represent a name that is not UTF-8 with lone surrogates.
            fields["path"] = wire_names.to_wire_name(path)
        check_json(fields)
        event = EVENT.validate_python({k: v for k, v in fields.items() if k not in EVENT_ENVELOPE})
    except (ValueError, RecursionError, ValidationError):
        return None
    # Only the server emits these two types.
    return None if isinstance(event, TaskStatusChanged | MsgUserMessage) else event


def _joined(pieces: Iterator[OutputItem] | list[OutputItem]) -> Iterator[OutputItem]:
    """Join adjacent strings."""
    text: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            text.append(piece)
            continue
        if text:
            yield "".join(text)
            text.clear()
        yield piece
    if text:
        yield "".join(text)
