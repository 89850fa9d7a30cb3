"""What is known of the selected task: its log, and the state of its stream."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from beray.schema import FileItem
from beray.streaming.cursor import StreamState
from tui.events.event_buffer import EventBuffer

_WORDS: Final = {
    StreamState.CONNECTING: ("◌ connecting", "connecting"),
    StreamState.LIVE: ("● live", "online"),
    StreamState.RECONNECTING: ("◌ reconnecting", "offline"),
    StreamState.ENDED: ("■ ended", "ended"),
}


@dataclass
class WatchedTask:
    """The selected task.

    Attributes:
        retry_at: when the next attempt to come back is made, while reconnecting.
        failure: why the stream was given up, in words.
    """

    task_id: int
    record: EventBuffer = field(default_factory=EventBuffer)
    stream: StreamState = StreamState.CONNECTING
    retry_at: datetime | None = None
    failure: str = ""
    files: list[FileItem] | None = None
    files_failure: str = ""

    def stream_is(self, state: StreamState, retry_in: float, now: datetime) -> None:
        """Take over what the stream says of itself; ``retry_in`` is in seconds."""
        self.stream = state
        self.retry_at = (
            now + timedelta(seconds=retry_in) if state is StreamState.RECONNECTING else None
        )

    @property
    def counts_down(self) -> bool:
        """Whether ``stream_words`` says something else a second later."""
        return self.retry_at is not None and not self.failure

    def stream_words(self, now: datetime) -> tuple[str, str]:
        """The state of the connection for a reader, and the style class of it."""
        if self.failure:
            return "○ stream lost", "offline"
        words, name = _WORDS[self.stream]
        left = (self.retry_at - now).total_seconds() if self.retry_at is not None else 0.0
        if left > 0:
            words = f"{words} in {math.ceil(left)} s"
        return words, name
