"""A task's events as the lines of a log.

Source of the event types: :mod:`beray.events`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from beray.text import one_line
from tui import status
from tui.document import Document

_JSON_LIMIT: Final = 600
STYLES: Final = frozenset(
    {
        "event--text",
        "event--output",
        "event--call",
        "event--result",
        "event--failure",
        "event--note",
        "event--file",
    }
)


class Transcript(Document):
    """The log of one task: pieces of text joined, everything else a line of its own."""

    def __init__(self) -> None:
        super().__init__(gutter=2)
        self.events = 0
        self._flow: tuple[str, str] | None = None

    def add(self, event: Mapping[str, Any]) -> None:
        """Show one event; a type or a field that is unknown or malformed is shown as JSON."""
        self.events += 1
        kind = event.get("type", "")
        if kind == "AGENT_EVENT_TEXT_CHUNK":
            self._text(event)
            return
        if kind == "AGENT_EVENT_TOOL_CALL_CHUNK":
            self._call(event)
            return
        self._flow = None
        if kind == "TASK_STATUS":
            self._status(event)
        elif kind == "AGENT_EVENT_TOOL_RESULT":
            self._result(event)
        elif kind == "AGENT_EVENT_SEND_FILE":
            self.append(one_line(_words(event.get("path"))), "event--file", "⇩")
        elif kind == "AGENT_EVENT_CUSTOM_UPDATE":
            self.append(_payload(event.get("payload")), "event--note", "·")
        elif kind == "AGENT_EVENT_END":
            tokens = event.get("tokens_used")
            used = f", {tokens} tokens" if isinstance(tokens, int) and tokens else ""
            self.append(f"answer complete{used}", "event--note", "·")
        elif kind == "ERROR":
            said = f"{_words(event.get('code'))}: {_words(event.get('details'))}"
            self.append(said, "event--failure", "!")
        else:
            self.append(one_line(_json(dict(event)), _JSON_LIMIT), "event--note", "·")

    def _text(self, event: Mapping[str, Any]) -> None:
        source = _words(event.get("source"))
        style = "event--output" if source.startswith("tools:") else "event--text"
        self._flowing(("text", source))
        self.extend(_words(event.get("text")), style)

    def _call(self, event: Mapping[str, Any]) -> None:
        source, name = _words(event.get("source")), _words(event.get("tool_name"))
        if name or self._flow != ("call", source):
            self._flow = None
        self._flowing(("call", source))
        self.extend(f"{one_line(name)} " if name else "", "event--call", "→")
        self.extend(_words(event.get("args_chunk")), "event--call", "→")

    def _flowing(self, flow: tuple[str, str]) -> None:
        if self._flow != flow:
            self.close_line()
            self._flow = flow

    def _result(self, event: Mapping[str, Any]) -> None:
        result = event.get("result")
        name = one_line(_words(event.get("tool_name")), 80)
        code = result.get("exit_code") if isinstance(result, dict) and len(result) == 1 else None
        if isinstance(code, int):
            style = "event--result" if code == 0 else "event--failure"
            self.append(f"{name}: exit status {code}", style, "←")
        else:
            self.append(f"{name}: {one_line(_words(result), _JSON_LIMIT)}", "event--result", "←")

    def _status(self, event: Mapping[str, Any]) -> None:
        look = status.look_of(_words(event.get("status")))
        reason = one_line(_words(event.get("reason")), 200)
        self.append(f"{look.word} ({reason})" if reason else look.word, look.style, look.glyph)


def _payload(payload: object) -> str:
    message = payload.get("message") if isinstance(payload, dict) else None
    return message if isinstance(message, str) else one_line(_words(payload), _JSON_LIMIT)


def _words(value: object) -> str:
    """A field of an event as text, whatever came in its place."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to show)"
