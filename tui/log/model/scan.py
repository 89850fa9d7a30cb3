"""A search through the whole log, page by page, in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from textual.message import Message
from textual.message_pump import MessagePump

from beray.exceptions import InvalidResponseError
from tui.events.blocks import Block, Builder, Kind
from tui.events.window import Numbered, numbered
from tui.io.background import EXPECTED_ERRORS, deliver
from tui.log.model.query import Query

if TYPE_CHECKING:
    from beray.client import BeRayClient

PAGE: Final = 2000
_OVERLAP: Final = 64
"""Events that are read twice, for what was cut by the edge of a page."""
_TELL_SECONDS: Final = 0.1


class ScanAdvanced(Message):
    """A scan has come to event ``number``."""

    def __init__(self, scan: Scan, number: int) -> None:
        super().__init__()
        self.scan = scan
        self.number = number

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ScanAdvanced)


class ScanEnded(Message):
    """A scan has found event ``number``, or nothing, or could not go on."""

    def __init__(self, scan: Scan, number: int | None, error: Exception | None = None) -> None:
        super().__init__()
        self.scan = scan
        self.number = number
        self.error = error


class Scan:
    """Looks for the next match behind event ``number``, or for the last one before it.

    Args:
        step: 1, or -1 for the one before.
    """

    def __init__(
        self,
        client: BeRayClient,
        task_id: int,
        query: Query,
        step: int,
        number: int,
        target: MessagePump,
    ) -> None:
        self.query = query
        self.step = step
        self._client = client
        self._task_id = task_id
        self._number = number
        self._target = target
        self._closed = False
        self._told_at = 0.0
        threading.Thread(target=self._run, name="beray-scan", daemon=True).start()

    def close(self) -> None:
        """Stop at the next page."""
        self._closed = True

    def _run(self) -> None:
        try:
            found = self._find()
        except EXPECTED_ERRORS as error:
            self._tell(ScanEnded(self, None, error))
        else:
            self._tell(ScanEnded(self, found))

    def _find(self) -> int | None:
        pages = self._forward() if self.step > 0 else self._backward()
        for after, events in pages:
            numbers = (number for block in _blocks(events) for number in self._matches(block))
            if self.step > 0:
                found = next((number for number in numbers if number > self._number), None)
            else:
                found = max((number for number in numbers if number < self._number), default=None)
            if found is not None or self._closed:
                return found
            if time.monotonic() >= self._told_at + _TELL_SECONDS:
                self._told_at = time.monotonic()
                self._tell(ScanAdvanced(self, events[-1][0] if self.step > 0 else after + 1))
        return None

    def _forward(self) -> Iterator[tuple[int, Sequence[Numbered]]]:
        after = max(0, self._number - _OVERLAP)
        while not self._closed and (events := self._page(after, PAGE)):
            yield after, events
            last = events[-1][0]
            if len(events) < PAGE:
                return
            after = last - _OVERLAP

    def _backward(self) -> Iterator[tuple[int, Sequence[Numbered]]]:
        last = self._number - 1
        while not self._closed and last > 0:
            after = max(0, last - PAGE)
            events = self._page(after, last - after + _OVERLAP)
            if not events:
                return
            yield after, events
            last = after

    def _page(self, after: int, limit: int) -> list[Numbered]:
        events = self._client.list_events(self._task_id, after=after, limit=limit)
        pairs = numbered(events, after)
        if pairs and not after < pairs[0][0]:
            raise InvalidResponseError("the events are not those that were asked for", body="")
        return pairs

    def _matches(self, block: Block) -> Iterator[int]:
        """The events of the matches in ``block``."""
        if not self.query.accepts(block):
            return
        if block.kind is not Kind.OUTPUT or not self.query.patterns:
            if self.query.finds(block):
                yield (
                    block.first
                    if self.step < 0
                    else max(block.first, min(block.last, self._number + 1))
                )
            return
        at = 0
        for line in block.text.split("\n"):
            if self.query.has_words(line):
                yield block.number_at(at)
            at += len(line) + 1

    def _tell(self, message: Message) -> None:
        if not self._closed:
            deliver(self._target, message)


def _blocks(events: Sequence[Numbered]) -> list[Block]:
    builder = Builder()
    for number, event in events:
        builder.feed(event, number)
    return builder.blocks
