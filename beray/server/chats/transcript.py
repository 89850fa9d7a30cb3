"""Transcript of a chat, for agents without a memory of the conversation."""

from __future__ import annotations

import json
from typing import Any, Final

from beray.sanitize import one_line
from beray.server.storage.events import EventRepository
from beray.server.storage.tables import Task
from beray.streaming.retraction import is_retractable, retracted_range

MAX_BYTES: Final = 60_000
"""Maximum size of a transcript in bytes of UTF-8; longer conversations lose their start. Together
with a message, it must fit into one argument of a program, which Linux limits to 131,071 bytes."""

_VALUE_CHARACTERS: Final = 500
"""Maximum length of the arguments or the result of a tool call."""


def transcript(events: EventRepository, task: Task) -> str:
    """Return the conversation before the next message, or "" if it is empty.

    It has the messages of both sides, tool calls with their results, and errors, including those
    of answers that were stopped or failed.

    The log is read backwards, one event at a time, until the transcript is long enough.
    """
    reader = _BackwardReader()
    with events.newest_first(task.id, task.last_seq) as bodies:
        for body in bodies:
            reader.add(json.loads(body))
            if reader.length > MAX_BYTES:
                break
    if not (conversation := reader.text()):
        return ""
    # The first character may be incomplete.
    end = conversation.encode(errors="replace")[-MAX_BYTES:].decode(errors="ignore")
    return f"The conversation so far:\n\n{end}\n\nThe user says now:"


class _BackwardReader:
    """Builder of a transcript, which starts at its end.

    Attributes:
        length: Bytes of the transcript so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._parts: list[str] = []
        self._speaker = ""
        self._retracted = (0, 0)
        self._arguments: dict[str, list[str]] = {}

    def add(self, event: dict[str, Any]) -> None:
        """Add the event that precedes those added so far."""
        if (span := retracted_range(event)) is not None:
            self._retracted = span
            return
        first, last = self._retracted
        if first <= event["seq"] <= last and is_retractable(event):
            return
        match event["type"]:
            case "USER_MESSAGE":
                self._prepend("User", event["text"])
            case "AGENT_EVENT_TEXT_CHUNK" if event.get("source") == "main":
                self._prepend("You", event["text"])
            case "AGENT_EVENT_TOOL_CALL_CHUNK":
                self._add_call(event)
            case "AGENT_EVENT_TOOL_RESULT" if (
                event.get("tool_name") != "shell"
            ):  # that of a "!" goal
                result = json.dumps(event.get("result"), ensure_ascii=False)
                self._add_line(f"{event.get('tool_name')} returned {result}")
            case "ERROR":
                self._add_line(str(event["details"]))

    def text(self) -> str:
        """Return the transcript."""
        start = [f"{self._speaker}: "] if self._speaker else []
        return "".join(reversed([*self._parts, *start]))

    def _add_call(self, event: dict[str, Any]) -> None:
        """Collect the chunks of a tool call back to the first one, which names the tool."""
        call_id = str(event.get("call_id", ""))
        chunks = self._arguments.setdefault(call_id, [])
        chunks.append(str(event.get("args_chunk") or ""))
        if name := event.get("tool_name"):
            del self._arguments[call_id]
            self._add_line(f"called {name} with {''.join(reversed(chunks))}")

    def _add_line(self, text: str) -> None:
        continues = self._speaker == "You" and bool(self._parts)
        gap = "\n" if continues and not self._parts[-1].startswith("\n") else ""
        self._prepend("You", f"\n[{one_line(text, _VALUE_CHARACTERS)}]{gap}")

    def _prepend(self, speaker: str, text: str) -> None:
        if self._speaker and (speaker != self._speaker or speaker == "User"):
            self._parts.append(f"\n\n{self._speaker}: ")
        self._speaker = speaker
        self._parts.append(text)
        self.length += len(text.encode(errors="replace"))
