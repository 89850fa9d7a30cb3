"""The log of one task on the screen: live events, pages of earlier ones, the reader's place."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from textual.app import ComposeResult

from beray.exceptions import APIError
from beray.schema import TaskEvent
from tui import messages
from tui.events.blocks import Block, Kind
from tui.events.event_buffer import PAGE, Record
from tui.log.log_fetch import Asking
from tui.log.messages import BlockOpened, EdgeWanted, FileWanted, Moved, ViewMoved
from tui.log.model.filtered_log import counted, note
from tui.log.model.new_events import NewEvents
from tui.log.render.row_layout import Anchor, Spot
from tui.log.scroll_anchors import Reader, Readers
from tui.log.view import LogView

if TYPE_CHECKING:
    from beray.client import BeRayClient

_SLICE_SECONDS: Final = 0.008
_SLICE_EVENTS: Final = 100
_PAUSE_SECONDS: Final = 0.002
_REFRESH_SECONDS: Final = 0.05
_UNKNOWN: Final = frozenset({404, 405})
"""How a server answers that gives no event a second time."""
_LAST: Final = 1 << 62
_TURNS: Final = frozenset({"RUNNING", "INPUT_REQUIRED"})
"""Statuses that a chat has in turn, which can be seen from who says something."""


class Reading(Asking):
    """Is given a task's record and its live events; fetches what the reader scrolls to."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.record = Record()
        self._readers = Readers()
        self._waiting: deque[TaskEvent] = deque()
        self._working = False
        self._refresh_at = 0.0
        self._seen = 0
        self._is_chat = False
        self._restored: Reader | None = None
        """The place that is being gone back to."""
        self._said = ""
        self._place = ""

    def compose(self) -> ComposeResult:
        yield LogView(id="log")
        yield NewEvents(id="log-new")

    @property
    def view(self) -> LogView:
        return self.query_one(LogView)

    @property
    def row_texts(self) -> list[str]:
        """The text of every row that is laid out, without its gutter."""
        return self.view.row_texts

    # One task after another

    def open(
        self, client: BeRayClient, task_id: int, record: Record, *, chat: bool = False
    ) -> None:
        """Show another task's log where its reader left it, else at its end."""
        self.leave()
        self.reset()
        self._client, self._task_id, self.record = client, task_id, record
        self._is_chat = chat
        self._waiting.clear()
        self._seen, self._said = record.end, ""
        reader = self._readers.come_back(task_id)
        self.view.clear()
        self.view.unfolded.update(reader.unfolded)
        if reader.spot is not None and record.pageable:
            self._restored = reader
            self._seen = reader.seen
            self.go_back(reader)
        self.refresh_view()

    def leave(self) -> None:
        """Keep the reader's place, and stop what was begun for this log."""
        if self._task_id is not None:
            self._readers.leave(self._task_id, self._restored or self.reader())
        self.forget_answers()
        self._restored = None

    def reset(self) -> None:
        """Forget what was begun in the log that was shown."""

    def go_on_with(self, client: BeRayClient) -> None:
        """Ask ``client`` from now on."""
        self._client = client
        self.forget_answers()
        if self._restored is not None:
            self.go_back(self._restored)

    def reader(self) -> Reader:
        """The reader's place now."""
        view = self.view
        spot = None if view.following else view.sheet.spot(view.scroll_offset.y)
        if spot is not None and not 1 <= spot.number <= self.record.total:
            spot = Spot(min(max(spot.number, 1), self.record.total))
        return Reader(spot, self._seen, frozenset(view.unfolded))

    def go_back(self, reader: Reader) -> None:
        """Show the place that a reader had."""
        if reader.spot is None:
            self.action_end()
        else:
            self.view.following = False
            self.go_to(reader.spot)

    def go_to(self, spot: Spot, then: Callable[[], None] | None = None) -> None:
        """Bring a row to the top, fetching what is around it where it must be.

        Args:
            then: done once it is there.
        """
        number = spot.number
        window = self.record.window

        def shown() -> None:
            self._restored = None
            self.view.following = False
            self.refresh_view(spot)
            if then is not None:
                then()

        def arrived(events: list[TaskEvent]) -> None:
            self.record.show(after, events, number)
            shown()

        after = max(0, number - PAGE // 2)
        if window.first <= number <= window.last and self._restored is None:
            shown()
        else:
            self.fetch(after, PAGE, arrived)

    # Live events

    def take(self, events: Iterable[TaskEvent]) -> None:
        """Show live events: in slices, so that keys are never kept waiting."""
        self._waiting.extend(events)
        if not self._working:
            self._work()

    def _work(self) -> None:
        self._working = False
        deadline = time.monotonic() + _SLICE_SECONDS
        while self._waiting and time.monotonic() < deadline:
            events = list(islice(self._waiting, _SLICE_EVENTS))
            for _ in events:
                self._waiting.popleft()
            self.took(events)
        if not self._waiting or deadline > self._refresh_at:
            self.refresh_view()
            self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        if self._waiting:
            self._working = True
            self.set_timer(_PAUSE_SECONDS, self._work)

    def took(self, events: list[TaskEvent]) -> None:
        self.record.take(events, held=not self.view.following)

    def failed(self, words: str) -> None:
        """Show a line at the end that is no event, such as why the stream was given up."""
        self._said = words
        self.refresh_view()

    # What is shown

    def blocks(self) -> list[Block]:
        """What the view shows."""
        if self._restored is not None:
            return []
        record = self.record
        blocks = list(record.window.blocks)
        if self._is_chat and blocks:
            blocks = [block for block in blocks if not _is_turn(block)]
            if not blocks and not record.has_earlier:
                return [note("Nothing has been said yet.", 0)]
        if blocks and record.has_earlier:
            words = f"… {counted(record.window.first - 1, 'earlier ')}"
            if not record.pageable:
                words = "earlier events are not kept"
            blocks.insert(0, note(words, 0))
        if blocks and not record.attached:
            blocks.append(note(f"… {counted(record.end - record.window.last, 'later ')}", _LAST))
        elif self._said:
            said = note(self._said, _LAST)
            said.style, said.mark, said.failed = "event--failure", "!", True
            blocks.append(said)
        return blocks

    def at_newest(self) -> bool:
        """Whether the end of what is shown is the end of the log."""
        return self.record.attached

    def refresh_view(self, anchor: Anchor | Spot | None = None) -> None:
        view = self.view
        view.at_newest = self.at_newest()
        view.show(self.blocks(), anchor)
        self.tell()
        self.look_ahead()

    def on_view_moved(self, message: ViewMoved) -> None:
        message.stop()
        self.tell()
        self.look_ahead()

    def tell(self) -> None:
        """Say where the reader is, and how much has come since."""
        record, view = self.record, self.view
        new = self.query_one(NewEvents)
        if view.following and self.at_newest():
            self._seen = record.end
        count = record.end - self._seen
        new.show(count)
        words = self.words_of_place()
        if words != self._place:
            self._place = words
            self.post_message(Moved(words))

    def words_of_place(self) -> str:
        view, total = self.view, self.record.total
        place = view.sheet.place(view.scroll_offset.y)
        if place is None or (view.following and self.at_newest()):
            return ""
        number = view.sheet.event_at(place)
        return f"event {min(max(number, 1), total):,} of {total:,}"

    # Pages

    def look_ahead(self) -> None:
        """Fetch the page that the reader is about to come to."""
        if not self.can_ask():
            return
        view = self.view
        top, height = view.scroll_offset.y, max(1, view.size.height)
        record = self.record
        short = view.sheet.total < height and record.end >= record.total
        if top < 2 * height and (short or not view.following):
            self.ask_for_page(before=True)
        if view.sheet.total - top - height < 2 * height:
            self.ask_for_page(before=False)

    def can_ask(self) -> bool:
        return self.record.pageable and self._restored is None and super().can_ask()

    def ask_for_page(self, *, before: bool) -> None:
        wanted = self.record.wanted(before=before)
        if wanted is None or self._asked:
            return

        def arrived(events: list[TaskEvent]) -> None:
            self.record.arrived(wanted, events)
            self.refresh_view()

        self.fetch(wanted.after, wanted.limit, arrived)

    def refused(self, error: Exception) -> None:
        super().refused(error)
        self._restored = None
        if isinstance(error, APIError) and error.status_code in _UNKNOWN:
            self.record.pageable = False
        else:
            self.post_message(messages.OperationFailed("read more of the log", error))
        self.refresh_view()

    # What the reader does

    def action_home(self) -> None:
        """Show the beginning of the log."""
        record = self.record
        if not record.pageable or (record.window.first == 1 and record.window.is_whole):
            self.view.go_to_beginning()
        else:
            self.go_to(Spot(1))

    def action_end(self) -> None:
        """Show the end of the log, and follow it."""
        self.forget_answers()
        self._restored = None
        self.record.show_end()
        self.view.following = True
        self.refresh_view()

    def on_edge_wanted(self, message: EdgeWanted) -> None:
        message.stop()
        if message.end:
            self.action_end()
        else:
            self.action_home()

    def action_cursor(self, step: int) -> None:
        """Go to the next block that can be opened, or to the one before."""
        self.view.move_cursor(step)

    def action_open(self) -> None:
        """Fold or unfold the block under the cursor, or show its file."""
        self.view.open_block()

    def on_block_opened(self, message: BlockOpened) -> None:
        message.stop()
        block = next((one for one in self.view.sheet.blocks if one.first == message.first), None)
        if block is not None and block.files:
            self.post_message(FileWanted(message.path or block.files[0]))
        elif block is not None:
            self.view.fold(message.first)


def _is_turn(block: Block) -> bool:
    return block.kind is Kind.STATUS and block.name in _TURNS
