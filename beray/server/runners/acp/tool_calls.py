"""State of a session's tool calls, and their conversion to events.

Source: ACP, "Tool Calls". An update contains only the changed fields; lists are replaced.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from acp.schema import FileEditToolCallContent, ToolCall, ToolCallUpdate
from pydantic import JsonValue

from beray.events import Event, MsgEventToolCallChunk, MsgEventToolResult
from beray.server.runners.acp.blocks import (
    NAME_CHARACTERS,
    PATH_CHARACTERS,
    TEXT_CHARACTERS,
    ToolContent,
    result_block,
    to_loggable,
    truncate,
)
from beray.server.runners.task_paths import TaskPaths

KEPT_CALLS: Final = 200
"""Number of calls whose state is kept. The oldest are discarded first."""
KEPT_ITEMS: Final = 100
"""Number of locations, and of content blocks, that are kept of one call."""
_OUTSIDE: Final = "/"
"""Path outside of every work_dir. It replaces paths that are omitted or too long, so that a
permission for the call is denied."""


@dataclass(slots=True)
class AgentToolCall:
    """State of one tool call, with all values limited in size.

    Attributes:
        call_id: Id that the agent has given the call.
        name: Title of the call.
        kind: Kind of the tool, such as ``edit``.
        locations: Paths of files that the call accesses.
        edited_paths: Paths of the diffs in ``content``.
        content: Content blocks of the result.
        raw_input: Arguments of the tool.
        raw_output: Result of the tool, if there is no ``content``.
        input_logged: Whether an event with the arguments was emitted.
        ended: Whether the result was emitted.
    """

    call_id: str
    name: str
    kind: str | None = None
    locations: list[str] = field(default_factory=list)
    edited_paths: list[str] = field(default_factory=list)
    content: list[dict[str, JsonValue]] = field(default_factory=list)
    raw_input: JsonValue = None
    raw_output: JsonValue = None
    input_logged: bool = False
    ended: bool = False

    @classmethod
    def new(cls, update: ToolCall | ToolCallUpdate) -> AgentToolCall:
        """Return a call with the id and the name in an update."""
        name = truncate(update.title or update.kind or "tool", NAME_CHARACTERS)
        return cls(truncate(update.tool_call_id, NAME_CHARACTERS), name)

    def apply(self, update: ToolCall | ToolCallUpdate, paths: TaskPaths) -> None:
        """Set the fields that an update contains, except for the name."""
        self.kind = update.kind or self.kind
        if update.locations is not None:
            self.locations = [_path(item.path) for item in update.locations[:KEPT_ITEMS]]
            if len(update.locations) > KEPT_ITEMS:
                self.locations.append(_OUTSIDE)
        if update.content is not None:
            edits = [edit for edit in update.content if isinstance(edit, FileEditToolCallContent)]
            self.edited_paths = [_path(edit.path) for edit in edits[:KEPT_ITEMS]]
            if len(edits) > KEPT_ITEMS:
                self.edited_paths.append(_OUTSIDE)
            self.content = _bounded(update.content, paths)
        if update.raw_input is not None:
            self.raw_input = to_loggable(update.raw_input)
        if update.raw_output is not None:
            self.raw_output = to_loggable(update.raw_output)


class ToolCalls:
    """Tool calls of a session.

    Args:
        paths: Converter for the paths in results.
        terminal_result: Returns the result of the terminal with an id.
    """

    def __init__(self, *, paths: TaskPaths, terminal_result: Callable[[str], JsonValue]) -> None:
        self._paths = paths
        self._terminal_result = terminal_result
        self._calls: dict[str, AgentToolCall] = {}

    def describe(self, update: ToolCall | ToolCallUpdate) -> AgentToolCall:
        """Return the call of a permission request with its update applied to a copy."""
        described = AgentToolCall.new(update)
        if (call := self._calls.get(described.call_id)) is not None:
            described = replace(call, name=described.name if update.title else call.name)
        described.apply(update, self._paths)
        return described

    def events(self, update: ToolCall | ToolCallUpdate) -> Iterator[Event]:
        """Return the events of an update: the call, its arguments and its result, each once."""
        new = AgentToolCall.new(update)
        call = self._calls.setdefault(new.call_id, new)
        if len(self._calls) > KEPT_CALLS:
            del self._calls[next(iter(self._calls))]
        if call.ended:
            return
        call.apply(update, self._paths)
        # Some agents announce a call with empty arguments and send the actual ones later.
        arguments = ""
        if call.raw_input and not call.input_logged:
            arguments = json.dumps(call.raw_input, ensure_ascii=False)
            call.input_logged = True
        if call is new or arguments:
            yield MsgEventToolCallChunk(
                tool_name=call.name if call is new else None,
                args_chunk=arguments,
                **_extension_fields(call, kind=call.kind),
            )
        if update.status in ("completed", "failed"):
            call.ended = True
            yield MsgEventToolResult(
                tool_name=call.name,
                result=self._result(call, update.status),
                source=f"tools:{call.name}",
                **_extension_fields(call),
            )
            call.content, call.raw_input, call.raw_output = [], None, None

    def _result(self, call: AgentToolCall, status: str) -> JsonValue:
        result: dict[str, JsonValue] = {"status": status}
        if call.content:
            result["content"] = [self._block(block) for block in call.content]
        elif call.raw_output is not None:
            result["output"] = call.raw_output
        return result

    def _block(self, block: dict[str, JsonValue]) -> JsonValue:
        terminal = block.get("terminal")
        if isinstance(terminal, str):
            return {"terminal": self._terminal_result(terminal)}
        return block


def _path(path: str) -> str:
    return path if len(path) <= PATH_CHARACTERS else _OUTSIDE


def _bounded(content: Sequence[ToolContent], paths: TaskPaths) -> list[dict[str, JsonValue]]:
    """Return the first content blocks, with ``TEXT_CHARACTERS`` in total."""
    blocks: list[dict[str, JsonValue]] = []
    remaining = TEXT_CHARACTERS
    for block in content[:KEPT_ITEMS]:
        if remaining <= 0:
            break
        blocks.append(result_block(block, paths, remaining))
        remaining -= len(json.dumps(blocks[-1], ensure_ascii=False))
    if len(blocks) < len(content):
        blocks.append({"text": f"… ({len(content) - len(blocks)} more)"})
    return blocks


def _extension_fields(call: AgentToolCall, **further: Any) -> dict[str, Any]:
    """Return the fields of events that the published API does not have. BeRay extension."""
    return {"call_id": call.call_id, **further}
