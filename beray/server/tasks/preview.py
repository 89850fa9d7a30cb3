"""Last lines of the output of tasks, for task lists."""

from __future__ import annotations

from typing import Final

from beray.events import (
    Event,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
)
from beray.streaming.retraction import retracted_range

MAX_CHARACTERS: Final = 200
"""Maximum length of a last line."""
_TAIL_CHARACTERS: Final = 4 * MAX_CHARACTERS
"""Length of the text that is kept to complete a line."""


class LastLines:
    """Last lines of running tasks, updated from their events.

    Text comes in chunks that may end anywhere.
    """

    def __init__(self) -> None:
        self._ends: dict[int, tuple[str, str]] = {}
        """Stream and end of the last text, by task."""

    def update(self, task_id: int, event: Event) -> str | None:
        """Return the last line of the task after ``event``, or None if it is unchanged."""
        match event:
            case MsgEventTextChunk() if retracted_range(event):
                text = event.text
            case MsgEventTextChunk():
                stream, before = self._ends.get(task_id, ("", ""))
                text = (before if stream == _stream(event) else "") + event.text
            case MsgEventToolCallChunk() if event.tool_name:
                text = f"→ {event.tool_name}"
            case MsgEventSendFile():
                text = f"⇩ {event.path}"
            case MsgEventCustomUpdate() if isinstance(event.payload.get("message"), str):
                text = event.payload["message"]
            case MsgError():
                text = f"{event.code}: {event.details}"
            case _:
                return None
        # After any other event, text starts a new line.
        if isinstance(event, MsgEventTextChunk):
            self._ends[task_id] = _stream(event), text[-_TAIL_CHARACTERS:]
        else:
            self._ends.pop(task_id, None)
        return _last_line(text[-_TAIL_CHARACTERS:])

    def forget(self, task_id: int) -> None:
        """Discard the text of a task."""
        self._ends.pop(task_id, None)


def _stream(event: MsgEventTextChunk) -> str:
    return f"{event.source} {(event.model_extra or {}).get('call_id', '')}"


def _last_line(text: str) -> str:
    lines = text.split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    # A progress bar overwrites its line after "\r"; only the last version counts. A surrogate
    # that is cut in half is replaced.
    visible = last.rstrip("\r").rpartition("\r")[2].encode("utf-8", "replace").decode()
    line = " ".join(visible.split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"
