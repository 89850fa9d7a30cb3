"""State of the selected task."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from beray.schema import FileItem
from beray.streaming.cursor import StreamState
from tui.events.event_buffer import EventBuffer

_STREAM_TEXTS: Final = {
    StreamState.CONNECTING: ("◌ connecting", "connecting"),
    StreamState.LIVE: ("● live", "online"),
    StreamState.RECONNECTING: ("◌ reconnecting", "offline"),
    StreamState.ENDED: ("■ ended", "ended"),
}


@dataclass
class SelectedTask:
    """Selected task with its event buffer, the state of its stream and its files.

    Attributes:
        task_id: Id of the task.
        record: Events that were received.
        stream: State of the event stream.
        retry_at: Time of the next attempt while reconnecting.
        failure: Error message of a stream that is not retried, or "".
        files: Files of the task, or None while they are not known.
        files_failure: Error message of the last request for the files, or "".
    """

    task_id: int
    record: EventBuffer = field(default_factory=EventBuffer)
    stream: StreamState = StreamState.CONNECTING
    retry_at: datetime | None = None
    failure: str = ""
    files: list[FileItem] | None = None
    files_failure: str = ""

    def set_stream_state(self, state: StreamState, retry_in: float, now: datetime) -> None:
        """Set the state of the stream; ``retry_in`` is in seconds."""
        self.stream = state
        self.retry_at = (
            now + timedelta(seconds=retry_in) if state is StreamState.RECONNECTING else None
        )

    def stream_text(self, now: datetime) -> tuple[str, str]:
        """Return a description of the stream's state and its style class."""
        if self.failure:
            return "○ stream lost", "offline"
        text, name = _STREAM_TEXTS[self.stream]
        left = (self.retry_at - now).total_seconds() if self.retry_at is not None else 0.0
        if left > 0:
            text = f"{text} in {math.ceil(left)} s"
        return text, name
