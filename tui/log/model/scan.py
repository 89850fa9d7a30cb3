"""Search through the whole log in a background thread, page by page."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from textual.message import Message
from textual.message_pump import MessagePump

from beray.exceptions import InvalidResponseError
from tui.events.blocks import Block, BlockBuilder, BlockKind
from tui.events.window import NumberedEvent, number_events
from tui.io.background import EXPECTED_ERRORS, deliver
from tui.log.model.query import Query

if TYPE_CHECKING:
    from beray.client import BeRayClient

PAGE: Final = 2000
"""Number of events per page."""
_OVERLAP: Final = 64
"""Number of events that adjacent pages share, so that matches across the boundary are found."""
_PROGRESS_INTERVAL_SECONDS: Final = 0.1


class ScanAdvanced(Message):
    """Progress of a scan: it has reached event ``number``."""

    def __init__(self, scan: LogScan, number: int) -> None:
        super().__init__()
        self.scan = scan
        self.number = number

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ScanAdvanced)


class ScanEnded(Message):
    """End of a scan.

    Args:
        scan: The scan that ended.
        number: Number of the event that matches; ``None`` if none was found.
        error: Reason why the scan failed; ``None`` if it succeeded.
    """

    def __init__(self, scan: LogScan, number: int | None, error: Exception | None = None) -> None:
        super().__init__()
        self.scan = scan
        self.number = number
        self.error = error


class LogScan:
    """Search for the next match after event ``number``, or for the last one before it.

    The thread starts at once and posts ``ScanAdvanced`` and ``ScanEnded`` to ``target``.

    Args:
        client: Client that fetches the events.
        task_id: Task whose log is searched.
        query: The query to match.
        step: 1 to search forward, -1 to search backward.
        number: Number of the event to start at, which itself does not match.
        target: Receiver of the messages.
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
        self._progress_at = 0.0
        threading.Thread(target=self._run, name="beray-scan", daemon=True).start()

    def close(self) -> None:
        """Stop the scan before the next page; no more messages are posted."""
        self._closed = True

    def _run(self) -> None:
        try:
            found = self._find()
        except EXPECTED_ERRORS as error:
            self._post(ScanEnded(self, None, error))
        else:
            self._post(ScanEnded(self, found))

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
            if time.monotonic() >= self._progress_at + _PROGRESS_INTERVAL_SECONDS:
                self._progress_at = time.monotonic()
                self._post(ScanAdvanced(self, events[-1][0] if self.step > 0 else after + 1))
        return None

    def _forward(self) -> Iterator[tuple[int, Sequence[NumberedEvent]]]:
        after = max(0, self._number - _OVERLAP)
        while not self._closed and (events := self._fetch_page(after, PAGE)):
            yield after, events
            last = events[-1][0]
            if len(events) < PAGE:
                return
            after = last - _OVERLAP

    def _backward(self) -> Iterator[tuple[int, Sequence[NumberedEvent]]]:
        last = self._number - 1
        while not self._closed and last > 0:
            after = max(0, last - PAGE)
            events = self._fetch_page(after, last - after + _OVERLAP)
            if not events:
                return
            yield after, events
            last = after

    def _fetch_page(self, after: int, limit: int) -> list[NumberedEvent]:
        events = self._client.list_events(self._task_id, after=after, limit=limit)
        pairs = number_events(events, after)
        if pairs and not after < pairs[0][0]:
            raise InvalidResponseError(
                f"the server returned event {pairs[0][0]} in a page after event {after}", body=""
            )
        return pairs

    def _matches(self, block: Block) -> Iterator[int]:
        """Yield the numbers of the events that match in ``block``."""
        if not self.query.accepts(block):
            return
        if block.kind is not BlockKind.OUTPUT or not self.query.patterns:
            if self.query.matches(block):
                yield (
                    block.first
                    if self.step < 0
                    else max(block.first, min(block.last, self._number + 1))
                )
            return
        at = 0
        for line in block.text.split("\n"):
            if self.query.matches_text(line):
                yield block.number_at(at)
            at += len(line) + 1

    def _post(self, message: Message) -> None:
        if not self._closed:
            deliver(self._target, message)


def _blocks(events: Sequence[NumberedEvent]) -> list[Block]:
    builder = BlockBuilder()
    for number, event in events:
        builder.feed(event, number)
    return builder.blocks
