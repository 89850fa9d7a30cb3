"""Events as people read them: text as it comes, everything else in short lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Protocol

from beray.cli import output
from beray.cli.parallel_calls import ParallelCalls
from beray.sanitize import one_line
from beray.streaming.retraction import ends_attempt, is_retractable, retracted_range

LONGEST_BRIEF: Final = 200
"""Characters of what a tool was asked, or answered."""


class View(Protocol):
    """Where the events of a watched task go."""

    def event(self, event: Mapping[str, Any]) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...


class Lines:
    """What the task says to stdout, everything else to stderr."""

    def __init__(self) -> None:
        self._flow = output.Flow()
        self._call: tuple[str, list[str], str] | None = None
        self._asides: dict[tuple[str, str], str] = {}
        """Unfinished lines by source and ``call_id``."""
        self._parallel = ParallelCalls()
        self._called = False
        self._said_from: int | None = None
        """``seq`` of the first text of the answer that can be retracted."""

    def event(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        if (span := retracted_range(event)) is not None:
            self._retract(span[0], str(event.get("text", "")))
            return
        if ends_attempt(event):
            self._said_from = None
        if kind == "AGENT_EVENT_TOOL_CALL_CHUNK":
            self._tool_call(event)
            return
        if event.get("source") == "files":
            # It has nothing to do with what is being said, a call in pieces for one.
            self.note(brief(event))
            return
        self._end_tool_call()
        call_id = str(event.get("call_id") or "")
        if kind == "AGENT_EVENT_TOOL_RESULT":
            self._end_asides(call_id)
            name = self._parallel.named(str(event.get("tool_name")), call_id)
            self.note(brief({**event, "tool_name": name}))
            self._parallel.end(call_id)
        elif kind != "AGENT_EVENT_TEXT_CHUNK":
            # Commands go on while updates come.
            self._end_asides("" if kind == "AGENT_EVENT_CUSTOM_UPDATE" else None)
            if text := brief(event):
                self.note(text)
        elif is_aside(source := str(event.get("source", ""))):
            self._parallel.begin(call_id)
            self._aside(source, call_id, str(event.get("text") or ""))
        else:
            self._end_asides()
            self._parallel.clear()
            if self._called:
                # What is said behind a tool call is another paragraph.
                self._called = False
                self._flow.end_line()
            if self._said_from is None and is_retractable(event):
                self._said_from = int(event.get("seq", 0))
                self._flow.mark()
            self._flow.write(str(event.get("text") or ""))

    def note(self, text: str) -> None:
        self._flow.note(f"-- {text}")

    def finish(self) -> None:
        self._end_tool_call()
        self._end_asides()
        self._flow.finish()

    def _retract(self, first: int, text: str) -> None:
        """Remove what was shown of a broken answer; where that is impossible, say it."""
        self._call = None
        self._asides = {key: rest for key, rest in self._asides.items() if key[0] != "thinking"}
        said_from, self._said_from = self._said_from, None
        if said_from is None or (said_from >= first and self._flow.erase()):
            return
        self._flow.end_line()
        self._flow.write(text)

    def _aside(self, source: str, call_id: str, text: str) -> None:
        """Write the whole lines of a tool's output, or of a thought, and keep the rest."""
        key = source, call_id
        *lines, rest = (self._asides.get(key, "") + text).split("\n")
        if len(rest) > output.LONGEST_NOTE:
            lines, rest = [*lines, rest], ""
        for line in lines:
            self._note_aside(line, call_id)
        self._asides[key] = rest

    def _note_aside(self, line: str, call_id: str) -> None:
        self._flow.note(f"{self._parallel.number(call_id):>3}| {line}")

    def _end_asides(self, call_id: str | None = None) -> None:
        """Write unfinished lines: those of one call and those of none, or all."""
        for key in list(self._asides):
            if (call_id is None or key[1] in ("", call_id)) and (rest := self._asides.pop(key)):
                self._note_aside(rest, key[1])

    def _tool_call(self, event: Mapping[str, Any]) -> None:
        """Collect the pieces of one call; the first names the tool."""
        self._end_asides("")
        self._called = True
        name, call_id = event.get("tool_name"), str(event.get("call_id") or "")
        self._parallel.begin(call_id)
        if name or self._call is None:
            self._end_tool_call()
            self._call = (str(name or "a tool"), [], call_id)
        self._call[1].append(str(event.get("args_chunk") or ""))

    def _end_tool_call(self) -> None:
        if self._call is not None:
            (name, pieces, call_id), self._call = self._call, None
            self.note(called(self._parallel.named(name, call_id), "".join(pieces)))


class JsonLines:
    """Each event as one line of JSON on stdout."""

    def event(self, event: Mapping[str, Any]) -> None:
        output.json_line(event)

    def note(self, text: str) -> None:
        output.note(f"-- {text}")

    def finish(self) -> None:
        return


def brief(event: Mapping[str, Any]) -> str:
    """Return an event in a few words, not yet printable; "" where there is nothing to tell."""
    match event.get("type"):
        case "TASK_STATUS":
            return with_reason(str(event.get("status")), event.get("reason"))
        case "AGENT_EVENT_TEXT_CHUNK":
            return one_line(str(event.get("text") or ""), LONGEST_BRIEF)
        case "AGENT_EVENT_TOOL_CALL_CHUNK":
            return called(str(event.get("tool_name") or "…"), str(event.get("args_chunk") or ""))
        case "AGENT_EVENT_TOOL_RESULT":
            return f"{event.get('tool_name')} returned {shortened(event.get('result'))}"
        case "AGENT_EVENT_CUSTOM_UPDATE":
            return _update(event.get("payload"))
        case "AGENT_EVENT_SEND_FILE":
            return f"file {event.get('path')}"
        case "AGENT_EVENT_END":
            tokens = event.get("tokens_used")
            return f"{tokens} tokens used" if tokens else ""
        case "USER_MESSAGE":
            return f"you> {one_line(str(event.get('text') or ''), LONGEST_BRIEF)}"
        case "ERROR":
            return f"error {event.get('code')}: {event.get('details')}"
        case kind:
            return f"{kind} {shortened(event)}"


def is_aside(source: str) -> bool:
    """Whether text of this source is not what the task says itself, but how it gets there.

    A shell command's output is all that its task has to say.
    """
    return source in ("thinking", "stderr") or (
        source.startswith("tools:") and source != "tools:shell"
    )


def _update(payload: object) -> str:
    if isinstance(payload, dict):
        if payload.get("kind") == "file_changed":
            size = payload.get("size")
            held = f" ({size} bytes)" if isinstance(size, int) else ""
            return f"{payload.get('change')} {payload.get('path')}{held}"
        if isinstance(payload.get("message"), str):
            return f"{payload.get('kind', 'update')}: {payload['message']}"
    return f"update {shortened(payload)}"


def called(name: str, arguments: str) -> str:
    """A tool call in a few words."""
    return f"{name} called with {one_line(arguments, LONGEST_BRIEF)}" if arguments else name


def with_reason(status: str, reason: object) -> str:
    return f"{status} ({reason})" if reason else status


def shortened(value: object) -> str:
    """A value as JSON, in a few words."""
    return one_line(json.dumps(value, ensure_ascii=False), LONGEST_BRIEF)
