"""Log pane: the log of a task with all its key bindings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from beray.schema import TaskEvent
from tui import messages
from tui.events.blocks import BlockKind
from tui.events.event_buffer import EventBuffer
from tui.log.bar import LogBar, NewEventsIndicator
from tui.log.messages import (
    BlockOpened,
    CallbackReady,
    EdgeRequested,
    EventChanged,
    FileRequested,
    PositionChanged,
    StepRequested,
    ViewChanged,
)
from tui.log.model import query as queries
from tui.log.model.query import FILTER_PROMPT, FIND_PROMPT, QueryError
from tui.log.model.scan import PageReader
from tui.log.scheduler import WidgetScheduler
from tui.log.scroll_anchors import ReadingPositions
from tui.log.task_log import TaskLog
from tui.log.view import LogView
from tui.state.checkpoints import LogPosition

if TYPE_CHECKING:
    from beray.client import BeRayClient

_STATUS_SECONDS: Final = 4.0
"""Time after which a status is hidden if the bar was opened for it."""


class LogPane(Vertical):
    """Log of the selected task, with search, filter and replay.

    Attributes:
        view: View of the blocks.
        bar: Bar in which queries are entered.
        task_log: Log that is shown; an empty one before a task is selected.
    """

    DEFAULT_CSS = """
    LogPane { layers: base above; }
    LogPane #log-new {
        layer: above; dock: bottom; width: auto; height: 1; display: none; offset: 2 0;
        padding: 0 1; background: $primary; color: $background; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", show=False),
        Binding("right", "step", "One event", show=False),
        Binding("plus,equals_sign", "faster", "Faster", show=False),
        Binding("minus", "slower", "Slower", show=False),
        Binding("p", "replay", "Replay", show=False),
        Binding("home,g", "home", "Beginning", show=False),
        Binding("end,G", "end", "End", show=False),
        Binding("j,ctrl+down", "cursor(1)", "Next block", show=False),
        Binding("k,ctrl+up", "cursor(-1)", "Block before", show=False),
        Binding("space", "open", "Fold", show=False),
        Binding("enter", "open", "Open", show=False),
        # With priority, so that keys typed directly afterwards reach the bar.
        Binding("slash", "find", "Search", key_display="/", priority=True),
        Binding("ampersand", "filter", "Filter", key_display="&", priority=True),
        Binding("n", "next_match", "Next"),
        Binding("N", "previous_match", "Match before", show=False),
        Binding("left_square_bracket", "previous_error", "Error before", show=False),
        Binding("right_square_bracket", "next_error", "Next error", show=False),
        Binding("left_curly_bracket", "previous_file", "File before", show=False),
        Binding("right_curly_bracket", "next_file", "Next file", show=False),
        Binding("v", "step_changes", "Changes", tooltip="Show the changes of the selected step"),
        Binding("escape", "leave", "Back", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.view = LogView(id="log")
        self.bar = LogBar(id="log-bar")
        self._new_events = NewEventsIndicator(id="log-new")
        self._scheduler = WidgetScheduler(self)
        self._task_id: int | None = None
        self._positions = ReadingPositions()
        self._position_text = ""
        self._event: LogPosition | None = None
        self._prompt = FIND_PROMPT
        self._bar_texts: dict[str, str] = {}
        """Last query for each prompt, of any task."""
        self.task_log = self._new_log(EventBuffer(), lambda after, limit: [], is_chat=False)

    def compose(self) -> ComposeResult:
        yield self.view
        yield self._new_events
        yield self.bar

    @property
    def row_texts(self) -> list[str]:
        """Text of every row that is laid out, without its gutter."""
        return self.view.row_texts

    # Selection of a task

    def open(
        self, client: BeRayClient, task_id: int, buffer: EventBuffer, *, chat: bool = False
    ) -> None:
        """Show the log of a task at its last reading position, or at its end.

        Args:
            client: Client that fetches earlier events.
            task_id: The task.
            buffer: Buffer of the task's events.
            chat: Whether the task is a chat.
        """
        self.leave()
        self.view.clear()
        self._task_id = task_id
        self.task_log = self._new_log(buffer, _page_reader(client, task_id), is_chat=chat)
        self._show_mode()
        self.task_log.open(self._positions.load(task_id))

    def _new_log(self, buffer: EventBuffer, page_reader: PageReader, *, is_chat: bool) -> TaskLog:
        return TaskLog(
            view=self.view,
            display=self,
            scheduler=self._scheduler,
            page_reader=page_reader,
            buffer=buffer,
            is_chat=is_chat,
        )

    def leave(self) -> None:
        """Save the reading position, and stop timers and requests."""
        if self._task_id is not None:
            self._positions.save(self._task_id, self.task_log.reading_position())
            self._task_id = None
        self.task_log.close()

    def use_client(self, client: BeRayClient) -> None:
        """Replace the client, for example after the user has signed in again."""
        if self._task_id is not None:
            self.task_log.use_page_reader(_page_reader(client, self._task_id))

    def append_events(self, events: Iterable[TaskEvent]) -> None:
        """Add live events of the task."""
        self.task_log.append(events)

    def show_failure(self, text: str) -> None:
        """Show an error at the end of the log, such as the failure of the stream; "" removes it."""
        self.task_log.show_failure(text)

    # Messages

    def on_callback_ready(self, message: CallbackReady) -> None:
        message.stop()
        message.callback()

    def on_view_changed(self, message: ViewChanged) -> None:
        message.stop()
        self.task_log.update_position()

    def on_edge_requested(self, message: EdgeRequested) -> None:
        message.stop()
        if message.end:
            self.task_log.go_to_end()
        else:
            self.task_log.go_to_start()

    def on_block_opened(self, message: BlockOpened) -> None:
        message.stop()
        block = next(
            (block for block in self.view.row_layout.blocks if block.first == message.first), None
        )
        if block is not None and block.checkpoint is not None:
            self.post_message(StepRequested(block.checkpoint.name))
        elif block is not None and block.files:
            written = block.first if block.kind is BlockKind.FILE else None
            self.post_message(FileRequested(message.path or block.files[0], written))
        elif block is not None:
            self.view.toggle_fold(message.first)

    # The bar

    @property
    def is_typing(self) -> bool:
        """True if the input of the bar has the focus."""
        return self.screen.focused is self.bar.input

    def _open_bar(self, prompt: str) -> None:
        self._prompt = prompt
        self.bar.open_input(prompt, self._bar_texts.get(prompt, ""))

    @on(Input.Changed)
    def _query_changed(self, event: Input.Changed) -> None:
        event.stop()
        try:
            if self._prompt == FIND_PROMPT:
                self.task_log.search.highlight(queries.parse_search(event.value))
            else:
                queries.parse_filter(event.value)
        except QueryError as error:
            self.bar.show_status(str(error), problem=True)
        else:
            self.bar.show_status("")

    @on(Input.Submitted)
    def _query_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._bar_texts[self._prompt] = event.value
        try:
            if self._prompt == FIND_PROMPT:
                self.task_log.search.start(event.value)
            else:
                self.task_log.filter(queries.parse_filter(event.value))
        except QueryError as error:
            self.bar.show_status(str(error), problem=True)
        else:
            self._show_mode()

    def _show_mode(self) -> None:
        """Show the search or the source in the bar, and move the focus from the bar to the log."""
        if self.is_typing:
            self.screen.set_focus(self.view)
        if self.task_log.search.is_active:
            self._prompt = FIND_PROMPT
            self.bar.show(FIND_PROMPT, self._bar_texts.get(FIND_PROMPT, ""))
        else:
            self.show_source_status()

    def show_source_status(self) -> None:
        """Show the source in the bar, unless the bar is used to enter a query."""
        source = self.task_log.source
        if self.is_typing:
            return
        if not source.prompt:
            self.bar.hide()
            return
        if source.prompt == FILTER_PROMPT:
            self._prompt = FILTER_PROMPT
            self.bar.show(FILTER_PROMPT, self._bar_texts.get(FILTER_PROMPT, ""))
        else:
            self.bar.show(source.prompt)
        self.bar.show_status(source.status_text)

    def show_status(self, text: str, *, open_bar: bool = True) -> None:
        """Show a status in the bar. A bar that was hidden is hidden again after some seconds."""
        if not self.bar.display:
            if not open_bar:
                return
            self.bar.show("")
            self.set_timer(_STATUS_SECONDS, self._hide_status)
        self.bar.show_status(text)

    def _hide_status(self) -> None:
        if not self.task_log.search.is_scanning and not self.bar.input.display:
            self.show_source_status()

    def show_position(self, text: str, new_events: int) -> None:
        """Show the number of new events, and report a change of the reading position."""
        self._new_events.show(new_events)
        if text != self._position_text:
            self._position_text = text
            self.post_message(PositionChanged(text))

    def show_event(self, position: LogPosition | None) -> None:
        """Report a change of the position at which the log is read."""
        if position != self._event:
            self._event = position
            self.post_message(EventChanged(position))

    @property
    def selected_position(self) -> LogPosition | None:
        """Event or checkpoint under the cursor, otherwise the last one on the screen.

        ``None`` at the end of the log without a cursor.
        """
        return self.task_log.selected_position

    def report_failure(self, action: str, error: Exception) -> None:
        """Report a failed request to the screen."""
        self.post_message(messages.OperationFailed(action, error))

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("next_match", "previous_match"):
            return self.task_log.search.is_active
        if action in ("find", "filter"):
            return not self.is_typing
        if action in ("pause", "step", "faster", "slower"):
            return self.task_log.replay is not None
        if action == "leave":
            return self.can_leave()
        return True

    def can_leave(self) -> bool:
        """Return True if there is a mode that ``escape`` can end."""
        log = self.task_log
        return log.search.is_scanning or log.search.is_active or not log.shows_all or self.is_typing

    def action_leave(self) -> None:
        """End the scan, or else the input and the search, or else the filter or the replay."""
        log = self.task_log
        if log.search.is_scanning:
            log.search.stop_scan()
            self.show_status("search stopped")
        elif self.is_typing or log.search.is_active:
            log.search.end()
            self._show_mode()
        else:
            log.show_all()
            self._show_mode()

    def action_home(self) -> None:
        """Show the start of the log."""
        self.task_log.go_to_start()

    def action_end(self) -> None:
        """Show the end of the log and follow it."""
        self.task_log.go_to_end()

    def action_cursor(self, step: int) -> None:
        """Move the cursor to the next block that can be opened, or for -1 to the previous one."""
        self.view.move_cursor(step)

    def action_open(self) -> None:
        """Fold or unfold the block under the cursor, or show its file."""
        self.view.open_block()

    def action_find(self) -> None:
        """Open the bar to enter a search."""
        self._open_bar(FIND_PROMPT)

    def action_next_match(self) -> None:
        self.task_log.search.next_match(1)

    def action_previous_match(self) -> None:
        self.task_log.search.next_match(-1)

    def action_next_error(self) -> None:
        self.task_log.search.next_block(queries.ERRORS, "error", 1)

    def action_previous_error(self) -> None:
        self.task_log.search.next_block(queries.ERRORS, "error", -1)

    def action_next_file(self) -> None:
        self.task_log.search.next_block(queries.FILES, "file", 1)

    def action_previous_file(self) -> None:
        self.task_log.search.next_block(queries.FILES, "file", -1)

    def action_step_changes(self) -> None:
        """Show the changes of the selected step, or at the end of the log all changes."""
        self.post_message(StepRequested(self.selected_position))

    def action_filter(self) -> None:
        """Open the bar to enter a filter."""
        if self.task_log.replay is not None:
            self.task_log.show_all()
        self._open_bar(FILTER_PROMPT)

    def action_filter_errors(self) -> None:
        """Show only errors."""
        self._bar_texts[FILTER_PROMPT] = "errors"
        self.task_log.filter(queries.ERRORS)
        self._show_mode()
        self.screen.set_focus(self.view)

    def action_replay(self) -> None:
        """Start a replay from the first event, or end the current one."""
        if self.task_log.replay is not None:
            self.task_log.show_all()
            self._show_mode()
        else:
            self.task_log.start_replay()

    def action_pause(self) -> None:
        if (replay := self.task_log.replay) is not None:
            replay.toggle_pause()

    def action_step(self) -> None:
        if (replay := self.task_log.replay) is not None:
            self.view.following = True
            replay.step()

    def action_faster(self) -> None:
        if (replay := self.task_log.replay) is not None:
            replay.faster()

    def action_slower(self) -> None:
        if (replay := self.task_log.replay) is not None:
            replay.slower()


def _page_reader(client: BeRayClient, task_id: int) -> PageReader:
    """Return a function that reads a page of a task's events."""
    return lambda after, limit: client.list_events(task_id, after=after, limit=limit)
