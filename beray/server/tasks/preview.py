"""The last line of what was said in a task, for lists of tasks."""

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
"""Characters of a last line."""
_TAIL_CHARACTERS: Final = 4 * MAX_CHARACTERS


class LastLines:
    """Reads along with the logs of running tasks. Texts come in pieces cut anywhere."""

    def __init__(self) -> None:
        self._ends: dict[int, tuple[str, str]] = {}
        """Of each task, the source and call of its last text, and the end of it."""

    def update(self, task_id: int, event: Event) -> str | None:
        """The last line of the task by now; ``None`` where this event says nothing of it."""
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
        # Where everything else ends, the next text begins a line of its own.
        if isinstance(event, MsgEventTextChunk):
            self._ends[task_id] = _stream(event), text[-_TAIL_CHARACTERS:]
        else:
            self._ends.pop(task_id, None)
        return _last_line(text[-_TAIL_CHARACTERS:])

    def forget(self, task_id: int) -> None:
        self._ends.pop(task_id, None)


def _stream(event: MsgEventTextChunk) -> str:
    return f"{event.source} {(event.model_extra or {}).get('call_id', '')}"


def _last_line(text: str) -> str:
    lines = text.split("\n")
    said = next((line for line in reversed(lines) if line.strip()), "")
    # Of a line that was written over and over, what it says now; half a character is none.
    now = said.rstrip("\r").rpartition("\r")[2].encode("utf-8", "replace").decode()
    line = " ".join(now.split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"
