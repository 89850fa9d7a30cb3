"""A program's output: text as it comes, and lines of JSON that are events."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Final

from pydantic import ValidationError

from beray.events import EVENT, Event, MsgUserMessage, TaskStatusChanged
from beray.schema import ENVELOPE
from beray.server.storage.json_values import check_json
from beray.transfers import wire_names

HELD_CHARACTERS: Final = 1024 * 1024
"""How long a line may be that could be an event."""

Told = str | tuple[Event, str]
"""Text, or an event and the line it was read from."""


class OutputLines:
    """Takes bytes, gives text and events in order.

    Text goes on at once. Only a line whose first character that is not blank is ``{`` is held,
    until it ends or is longer than ``HELD_CHARACTERS``.
    """

    def __init__(self) -> None:
        # Bytes that end in the middle of a character wait for the rest of it.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[str] = []
        self._held_characters = 0
        self._passing = False
        """Whether the rest of the line is known to be text."""

    def feed(self, data: bytes) -> list[Told]:
        return list(_joined(self._lines(self._decoder.decode(data))))

    def end(self) -> list[Told]:
        """What is left when the output has ended."""
        return list(_joined([*self._lines(self._decoder.decode(b"", final=True)), *self._let_go()]))

    def _lines(self, text: str) -> Iterator[Told]:
        start = 0
        while start < len(text):
            newline = text.find("\n", start)
            end = len(text) if newline < 0 else newline + 1
            yield from self._piece(text[start:end])
            start = end

    def _piece(self, piece: str) -> Iterator[Told]:
        """A part of one line, with its newline or without."""
        ends = piece.endswith("\n")
        if self._passing:
            self._passing = not ends
            yield piece
            return
        self._held.append(piece)
        self._held_characters += len(piece)
        if ends:
            yield from self._let_go()
        elif self._held_characters > HELD_CHARACTERS or not self._may_be_event():
            self._passing = True
            yield "".join(self._held)
            self._forget()

    def _may_be_event(self) -> bool:
        # Blanks alone are held as well; they are not the beginning of text that people wait for.
        for piece in self._held:
            if begun := piece.lstrip(" \t\r"):
                return begun.startswith("{")
        return True

    def _let_go(self) -> Iterator[Told]:
        """The line that was held is whole."""
        line = "".join(self._held)
        self._forget()
        if line:
            event = _event(line)
            yield line if event is None else (event, line)

    def _forget(self) -> None:
        self._held.clear()
        self._held_characters = 0


def _event(line: str) -> Event | None:
    if not line.lstrip(" \t\r").startswith("{") or len(line) > HELD_CHARACTERS:
        return None
    try:
        said: Any = json.loads(line)
        if not isinstance(said, dict) or not isinstance(said.get("type"), str):
            return None
        if isinstance(path := said.get("path"), str):
            # A Python program writes a name that is not UTF-8 with lone surrogates.
            said["path"] = wire_names.accepted(path)
        check_json(said)
        event = EVENT.validate_python({k: v for k, v in said.items() if k not in ENVELOPE})
    except (ValueError, RecursionError, ValidationError):
        return None
    # These two are not for an agent to say.
    return None if isinstance(event, TaskStatusChanged | MsgUserMessage) else event


def _joined(pieces: Iterator[Told] | list[Told]) -> Iterator[Told]:
    """Text that follows text becomes one."""
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
