"""Human-readable output of events: streamed text, and one short line for every other event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from beray.cli import output
from beray.event_types import is_verbatim_source
from beray.sanitize import one_line
from beray.streaming.retraction import ends_attempt, is_retractable, retracted_range

MAX_SUMMARY_CHARS: Final = 200
"""Maximum length of a tool's arguments or result in a summary, in characters."""


class ParallelCalls:
    """Numbers of parallel tool calls, identified by ``call_id``.

    A single call has no number. If a second call starts before the first has a result, all calls
    have numbers until all of them have ended.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._open: set[str] = set()

    def begin(self, call_id: str) -> None:
        """Register the start of a call."""
        if call_id and call_id not in self._numbers:
            self._numbers[call_id] = len(self._numbers) + 1
            self._open.add(call_id)

    def end(self, call_id: str) -> None:
        """Register the end of a call."""
        self._open.discard(call_id)
        if not self._open:
            self._numbers.clear()

    def clear(self) -> None:
        """Forget all calls."""
        self._numbers.clear()
        self._open.clear()

    def number(self, call_id: str) -> str:
        """Return the number of a call, or "" if it is the only one or unknown."""
        number = self._numbers.get(call_id)
        return str(number) if number is not None and len(self._numbers) > 1 else ""

    def label(self, name: str, call_id: str) -> str:
        """Return a tool's name, with the number of the call if it has one."""
        number = self.number(call_id)
        return f"{name} [{number}]" if number else name


class EventView(Protocol):
    """Destination of a watched task's events."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event."""

    def note(self, text: str) -> None:
        """Show a line about the connection or the task."""

    def finish(self) -> None:
        """Show pending output. No events follow."""


class TextView:
    """View that writes the task's text to stdout and everything else to stderr."""

    def __init__(self) -> None:
        self._writer = output.TextWriter()
        self._call: tuple[str, list[str], str] | None = None
        """Name, pieces of the arguments, and ``call_id`` of an incomplete tool call."""
        self._partial_lines: dict[tuple[str, str], str] = {}
        """Incomplete lines of side output by source and ``call_id``."""
        self._parallel = ParallelCalls()
        self._tool_call_since_text = False
        self._retractable_from: int | None = None
        """``seq`` of the first text of the answer that can be retracted."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event."""
        kind = event.get("type")
        if (span := retracted_range(event)) is not None:
            self._retract(span[0], str(event.get("text", "")))
            return
        if ends_attempt(event):
            self._retractable_from = None
        if kind == "AGENT_EVENT_TOOL_CALL_CHUNK":
            self._tool_call(event)
            return
        if event.get("source") in ("files", "history"):
            # Changed files may be reported in the middle of a tool call.
            if text := summarize(event):
                self.note(text)
            return
        self._end_tool_call()
        call_id = str(event.get("call_id") or "")
        if kind == "AGENT_EVENT_TOOL_RESULT":
            self._end_side_output(call_id)
            name = self._parallel.label(str(event.get("tool_name")), call_id)
            self.note(summarize({**event, "tool_name": name}))
            self._parallel.end(call_id)
        elif kind != "AGENT_EVENT_TEXT_CHUNK":
            # Updates arrive while commands continue, so their lines stay open.
            self._end_side_output("" if kind == "AGENT_EVENT_CUSTOM_UPDATE" else None)
            if text := summarize(event):
                self.note(text)
        elif is_side_output(source := str(event.get("source", ""))):
            self._parallel.begin(call_id)
            self._side_output(source, call_id, str(event.get("text") or ""))
        else:
            self._end_side_output()
            self._parallel.clear()
            if self._tool_call_since_text:
                # Text after a tool call is a new paragraph.
                self._tool_call_since_text = False
                self._writer.end_line()
            if self._retractable_from is None and is_retractable(event):
                self._retractable_from = int(event.get("seq", 0))
                self._writer.mark()
            self._writer.write(str(event.get("text") or ""))

    def note(self, text: str) -> None:
        """Write a line to stderr."""
        self._writer.note(f"-- {text}")

    def finish(self) -> None:
        """Write incomplete lines and tool calls."""
        self._end_tool_call()
        self._end_side_output()
        self._writer.finish()

    def _retract(self, first: int, text: str) -> None:
        """Erase the retracted text. If that is impossible, show ``text``, which announces it."""
        self._call = None
        self._partial_lines = {
            key: rest for key, rest in self._partial_lines.items() if key[0] != "thinking"
        }
        retractable_from, self._retractable_from = self._retractable_from, None
        if retractable_from is None or (retractable_from >= first and self._writer.erase()):
            return
        self._writer.end_line()
        self._writer.write(text)

    def _side_output(self, source: str, call_id: str, text: str) -> None:
        """Write the complete lines of a tool's output or of a thought, and keep the rest."""
        key = source, call_id
        *lines, rest = (self._partial_lines.get(key, "") + text).split("\n")
        if len(rest) > output.MAX_NOTE_CHARS:
            lines, rest = [*lines, rest], ""
        for line in lines:
            self._write_side_line(line, call_id)
        self._partial_lines[key] = rest

    def _write_side_line(self, line: str, call_id: str) -> None:
        self._writer.note(f"{self._parallel.number(call_id):>3}| {line}")

    def _end_side_output(self, call_id: str | None = None) -> None:
        """Write incomplete lines: those of one call and those without a call, or all if None."""
        for key in list(self._partial_lines):
            if (call_id is None or key[1] in ("", call_id)) and (
                rest := self._partial_lines.pop(key)
            ):
                self._write_side_line(rest, key[1])

    def _tool_call(self, event: Mapping[str, Any]) -> None:
        """Collect the chunks of a call. The first chunk contains the tool's name."""
        self._end_side_output("")
        self._tool_call_since_text = True
        name, call_id = event.get("tool_name"), str(event.get("call_id") or "")
        self._parallel.begin(call_id)
        if name or self._call is None:
            self._end_tool_call()
            self._call = (str(name or "a tool"), [], call_id)
        self._call[1].append(str(event.get("args_chunk") or ""))

    def _end_tool_call(self) -> None:
        if self._call is not None:
            (name, pieces, call_id), self._call = self._call, None
            self.note(describe_call(self._parallel.label(name, call_id), "".join(pieces)))


class JsonView:
    """View that writes each event as one line of JSON to stdout."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Write an event to stdout."""
        output.json_line(event)

    def note(self, text: str) -> None:
        """Write a line to stderr."""
        output.note(f"-- {text}")

    def finish(self) -> None:
        """Do nothing: no output is pending."""


def summarize(event: Mapping[str, Any]) -> str:
    """Return one line about an event, not yet sanitized; "" if the event needs no line."""
    match event.get("type"):
        case "TASK_STATUS":
            return status_text(str(event.get("status")), event.get("reason"))
        case "AGENT_EVENT_TEXT_CHUNK":
            return one_line(str(event.get("text") or ""), MAX_SUMMARY_CHARS)
        case "AGENT_EVENT_TOOL_CALL_CHUNK":
            return describe_call(
                str(event.get("tool_name") or "…"), str(event.get("args_chunk") or "")
            )
        case "AGENT_EVENT_TOOL_RESULT":
            return f"{event.get('tool_name')} returned {short_json(event.get('result'))}"
        case "AGENT_EVENT_CUSTOM_UPDATE":
            return _update_text(event.get("payload"))
        case "AGENT_EVENT_SEND_FILE":
            return f"file {event.get('path')}"
        case "AGENT_EVENT_END":
            tokens = event.get("tokens_used")
            return f"{tokens} tokens used" if tokens else ""
        case "USER_MESSAGE":
            return f"you> {one_line(str(event.get('text') or ''), MAX_SUMMARY_CHARS)}"
        case "ERROR":
            return f"error {event.get('code')}: {event.get('details')}"
        case kind:
            return f"{kind} {short_json(event)}"


def is_side_output(source: str) -> bool:
    """Return True for thoughts, stderr and tool output, as opposed to the task's own text.

    The output of a shell command is the text of its task.
    """
    return is_verbatim_source(source) and source != "tools:shell"


def _update_text(payload: object) -> str:
    if isinstance(payload, dict):
        if payload.get("kind") == "file_changed":
            size = payload.get("size")
            size_note = f" ({size} bytes)" if isinstance(size, int) else ""
            return f"{payload.get('change')} {payload.get('path')}{size_note}"
        if payload.get("kind") == "checkpoint":
            return ""  # the changed files were reported; `beray log` lists checkpoints
        if isinstance(payload.get("message"), str):
            return f"{payload.get('kind', 'update')}: {payload['message']}"
    return f"update {short_json(payload)}"


def describe_call(name: str, arguments: str) -> str:
    """Return one line about a tool call."""
    return f"{name} called with {one_line(arguments, MAX_SUMMARY_CHARS)}" if arguments else name


def status_text(status: str, reason: object) -> str:
    """Return a status, with its reason in parentheses if there is one."""
    return f"{status} ({reason})" if reason else status


def short_json(value: object) -> str:
    """Return a value as JSON, truncated to the length of a summary."""
    return one_line(json.dumps(value, ensure_ascii=False), MAX_SUMMARY_CHARS)
