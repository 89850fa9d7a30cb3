"""Selected task: its event stream and its log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from beray.schema import TERMINAL_STATUSES, TaskEvent
from beray.streaming.cursor import StreamState
from tui import messages, sanitize, status
from tui.controllers.failures import FailureReporter
from tui.controllers.files import FilesController
from tui.controllers.interfaces import RunningTimer, SetTimer
from tui.controllers.task_checkpoints import TaskCheckpoints
from tui.io.background import MessageTarget, TaskStreamReader
from tui.state.current_server import CurrentServer
from tui.state.tasks import TasksState

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.events.event_buffer import EventBuffer
    from tui.state.selected_task import SelectedTask

SETTLE_SECONDS: Final = 0.12
"""Time for which the cursor must rest on a task before its stream is opened."""


class TaskLogView(Protocol):
    """Display of a task's events; implemented by ``LogPane``."""

    def open(
        self, client: BeRayClient, task_id: int, buffer: EventBuffer, *, chat: bool = False
    ) -> None: ...

    def leave(self) -> None: ...

    def append_events(self, events: Sequence[TaskEvent]) -> None: ...

    def show_failure(self, text: str) -> None: ...

    def use_client(self, client: BeRayClient) -> None: ...


class TaskDetail:
    """Selects a task, reads its stream and passes the events to its log and its files.

    Args:
        tasks: Tasks; ``selected`` is set here.
        server: Server of the tasks.
        log: Returns the view of the events, which exists once a task can be selected.
        files: Files of the selected task.
        checkpoints: Checkpoints of the selected task.
        target: Receives the messages of the reader, and ``TaskEnded``.
        set_timer: Delays the opening of the stream.
        failures: Requests a new sign-in if the session has ended.
        clock: Returns the current time.
        on_change: Called after a change of the selected task or of the state of its stream.
    """

    def __init__(
        self,
        *,
        tasks: TasksState,
        server: CurrentServer,
        log: Callable[[], TaskLogView],
        files: FilesController,
        checkpoints: TaskCheckpoints,
        target: MessageTarget,
        set_timer: SetTimer,
        failures: FailureReporter,
        clock: Callable[[], datetime],
        on_change: Callable[[], None],
    ) -> None:
        self._tasks = tasks
        self._server = server
        self._log = log
        self._files = files
        self._checkpoints = checkpoints
        self._target = target
        self._set_timer = set_timer
        self._failures = failures
        self._clock = clock
        self._on_change = on_change
        self._reader: TaskStreamReader | None = None
        self._settling: RunningTimer | None = None

    def select(self, task_id: int | None, *, settle: bool = True) -> None:
        """Select a task, or none. Its stream is opened once the cursor rests on it.

        Args:
            task_id: Task to select.
            settle: Whether to wait for the cursor to rest.
        """
        if self._tasks.selected is not None and self._tasks.selected.task_id == task_id:
            return
        self.close()
        self._checkpoints.task_selected()
        self._files.task_selected()
        if task_id is None:
            self._tasks.selected = None
            self._log().leave()
        else:
            self._open(task_id, settle=settle)
        self._on_change()

    def _open(self, task_id: int, *, settle: bool) -> None:
        from tui.events.event_buffer import EventBuffer
        from tui.state.selected_task import SelectedTask

        task = self._tasks.get(task_id)
        selected = SelectedTask(task_id, EventBuffer(task.get("last_seq") if task else None))
        self._tasks.selected = selected
        if settle:
            self._settling = self._set_timer(SETTLE_SECONDS, self._open_stream)
        else:
            self._open_stream()
        is_chat = task is not None and status.is_chat(task)
        self._log().open(self._server.client, task_id, selected.record, chat=is_chat)

    def _open_stream(self) -> None:
        self._settling = None
        selected = self._tasks.selected
        if selected is not None:
            start_after = selected.record.start_after
            self._read(selected.task_id, str(start_after) if start_after else None)
            self._files.read_if_shown()

    def _read(self, task_id: int, last_event_id: str | None) -> None:
        self._reader = TaskStreamReader(self._server.client, task_id, self._target, last_event_id)

    def close(self) -> None:
        """Stop reading the stream."""
        if self._settling is not None:
            self._settling.stop()
            self._settling = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def client_replaced(self) -> None:
        """Read from the new client; the stream resumes after its last event."""
        selected, reader = self._tasks.selected, self._reader
        if selected is None:
            return
        self._log().use_client(self._server.client)
        if reader is None:
            return
        events, last_event_id = reader.close()
        self._show_events(selected, events)
        if selected.stream is not StreamState.ENDED or selected.failure:
            selected.set_stream_state(StreamState.CONNECTING, 0.0, self._clock())
            selected.failure = ""
            self._log().show_failure("")
            self._read(selected.task_id, last_event_id)
        self._files.read_if_shown()
        self._on_change()

    # Messages of the reader, which are dropped if another task was selected meanwhile

    def take_events(self, task_id: int) -> None:
        """Show the events that have been received."""
        selected = self._selected(task_id)
        if selected is not None and self._reader is not None:
            self._show_events(selected, self._reader.take())

    def stream_changed(self, message: messages.StreamChanged) -> None:
        """Show the state of the stream."""
        # Events that were received before the change are shown first.
        self.take_events(message.task_id)
        selected = self._selected(message.task_id)
        if selected is not None:
            selected.set_stream_state(message.state, message.retry_in, self._clock())
            self._on_change()

    def stream_failed(self, message: messages.StreamFailed) -> None:
        """Show why the stream ended."""
        selected = self._selected(message.task_id)
        if selected is not None:
            # Also if the session ended: the stream is resumed after the next sign-in.
            selected.set_stream_state(StreamState.ENDED, 0.0, self._clock())
            selected.failure = sanitize.error_text(message.error)
            if not self._failures.session_ended(message.error):
                self._log().show_failure(selected.failure)
            self._on_change()

    def _selected(self, task_id: int) -> SelectedTask | None:
        """Return the selected task if it is ``task_id``, otherwise None."""
        selected = self._tasks.selected
        return selected if selected is not None and selected.task_id == task_id else None

    def _show_events(self, selected: SelectedTask, events: list[TaskEvent]) -> None:
        for event in events:
            name = event.get("status") if event.get("type") == "TASK_STATUS" else None
            if isinstance(name, str) and name in TERMINAL_STATUSES:
                self._target.post_message(messages.TaskEnded(selected.task_id, event))
        self._log().append_events(events)
        self._checkpoints.events_received(events)
        self._files.events_received(events)
