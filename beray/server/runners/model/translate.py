"""Conversion of pydantic-ai's events and tool results to BeRay events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic_ai.messages import (
    BinaryContent,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
)
from pydantic_core import to_jsonable_python

from beray.events import Event, MsgEventTextChunk, MsgEventToolCallChunk, MsgEventToolResult

RESULT_CHARACTERS: Final = 20_000
"""Maximum length of a tool's result in the log. Output of commands is logged separately."""


class EventTranslator:
    """Converter for the stream events of one answer."""

    def __init__(self) -> None:
        self._calls: dict[int, str] = {}

    def events(self, event: ModelResponseStreamEvent) -> Iterator[Event]:
        """Return the BeRay events for a stream event."""
        if isinstance(event, PartStartEvent):
            yield from self._started(event)
        elif isinstance(event, PartDeltaEvent):
            yield from self._continued(event)

    def _started(self, event: PartStartEvent) -> Iterator[Event]:
        part = event.part
        if isinstance(part, TextPart):
            yield from _text(part.content, "main")
        elif isinstance(part, ThinkingPart):
            yield from _text(part.content, "thinking")
        elif isinstance(part, ToolCallPart):
            self._calls[event.index] = part.tool_call_id
            yield _call(part.tool_call_id, part.args, part.tool_name)

    def _continued(self, event: PartDeltaEvent) -> Iterator[Event]:
        delta = event.delta
        if isinstance(delta, TextPartDelta):
            yield from _text(delta.content_delta, "main")
        elif isinstance(delta, ThinkingPartDelta):
            yield from _text(delta.content_delta, "thinking")
        elif isinstance(delta, ToolCallPartDelta) and delta.args_delta:
            yield _call(self._calls.get(event.index, ""), delta.args_delta)


def tool_result(part: ToolReturnPart) -> Event:
    """Return the event for a tool's result.

    Tools can set the logged value in the part's metadata; otherwise the content is logged.
    """
    if part.outcome == "success":
        content = part.metadata if part.metadata is not None else part.content
        result = truncate(_jsonable(content))
    else:
        result = {"error": truncate(_error_text(part))}
    name = part.tool_name
    return MsgEventToolResult.model_validate(
        {
            "tool_name": name,
            "result": result,
            "source": f"tools:{name}",
            "call_id": part.tool_call_id,
        }
    )


def truncate(value: Any) -> Any:
    """Return a JSON value, or the beginning of its text if it is too long for the log."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) <= RESULT_CHARACTERS:
        return value
    return f"{text[:RESULT_CHARACTERS]}… [{len(text):,} characters in all]"


def _error_text(part: ToolReturnPart) -> str:
    """Return the error message of a failed call on one line."""
    content = part.content
    if isinstance(content, list) and content and all(isinstance(e, dict) for e in content):
        # The arguments are invalid: pydantic's list of errors.
        errors = ((".".join(map(str, e.get("loc", ()))), e.get("msg")) for e in content)
        return "; ".join(f"{field}: {text}" if field else str(text) for field, text in errors)
    return content if isinstance(content, str) else part.model_response_str()


def _jsonable(content: Any) -> Any:
    """Convert a tool's result to JSON; binary content is represented by type and size."""
    if isinstance(content, BinaryContent):
        return {"media_type": content.media_type, "bytes": len(content.data)}
    if isinstance(content, list | tuple):
        return [_jsonable(item) for item in content]
    return to_jsonable_python(content, serialize_unknown=True, inf_nan_mode="strings")


def _text(text: str | None, source: str) -> Iterator[Event]:
    if text:
        yield MsgEventTextChunk(text=text, source=source)


def _call(call_id: str, args: str | Mapping[str, Any] | None, name: str | None = None) -> Event:
    chunk = args if isinstance(args, str) else json.dumps(args) if args else ""
    return MsgEventToolCallChunk.model_validate(
        {"tool_name": name, "args_chunk": chunk, "call_id": call_id}
    )
