"""The tool calls of a session: what is known of each, and what is said of it when.

Source: ACP, "Tool Calls". An update holds only what has changed; lists replace lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from acp.schema import FileEditToolCallContent, ToolCall, ToolCallUpdate
from pydantic import JsonValue

from beray.events import Event, MsgEventToolCallChunk, MsgEventToolResult
from beray.server.runners.acp.blocks import ToolContent, in_result
from beray.server.runners.acp.bounded import (
    NAME_CHARACTERS,
    PATH_CHARACTERS,
    TEXT_CHARACTERS,
    cut,
    plain,
)
from beray.server.runners.task_paths import TaskPaths

KEPT_CALLS: Final = 200
"""How many calls are remembered. The oldest are forgotten first."""
KEPT_ITEMS: Final = 100
"""How many places, and how many blocks of content, one call may have."""
_NOWHERE: Final = "/"


@dataclass(slots=True)
class Call:
    """What is known of one call, cut to what a log can take.

    Attributes:
        places: the paths that it says it touches.
        edited: the paths of the diffs in ``content``.
    """

    call_id: str
    name: str
    kind: str | None = None
    places: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    content: list[dict[str, JsonValue]] = field(default_factory=list)
    raw_input: JsonValue = None
    raw_output: JsonValue = None
    told_input: bool = False
    ended: bool = False

    @classmethod
    def of(cls, update: ToolCall | ToolCallUpdate) -> Call:
        """A call of which nothing was known."""
        name = cut(update.title or update.kind or "tool", NAME_CHARACTERS)
        return cls(cut(update.tool_call_id, NAME_CHARACTERS), name)

    def learn(self, update: ToolCall | ToolCallUpdate, paths: TaskPaths) -> None:
        """Take over what an update says."""
        self.kind = update.kind or self.kind
        if update.locations is not None:
            self.places = [_path(place.path) for place in update.locations[:KEPT_ITEMS]]
            if len(update.locations) > KEPT_ITEMS:
                self.places.append(_NOWHERE)
        if update.content is not None:
            edits = [edit for edit in update.content if isinstance(edit, FileEditToolCallContent)]
            self.edited = [_path(edit.path) for edit in edits[:KEPT_ITEMS]]
            if len(edits) > KEPT_ITEMS:
                self.edited.append(_NOWHERE)
            self.content = _bounded(update.content, paths)
        if update.raw_input is not None:
            self.raw_input = plain(update.raw_input)
        if update.raw_output is not None:
            self.raw_output = plain(update.raw_output)


class ToolCalls:
    """All calls of a session. ``of_terminal`` says what has come of a terminal so far."""

    def __init__(self, paths: TaskPaths, of_terminal: Callable[[str], JsonValue]) -> None:
        self._paths = paths
        self._of_terminal = of_terminal
        self._calls: dict[str, Call] = {}

    def known(self, update: ToolCall | ToolCallUpdate) -> Call:
        """What is known of the call that a request for permission is about, nothing kept."""
        asked = Call.of(update)
        if (call := self._calls.get(asked.call_id)) is not None:
            asked = replace(call, name=asked.name if update.title else call.name)
        asked.learn(update, self._paths)
        return asked

    def told(self, update: ToolCall | ToolCallUpdate) -> Iterator[Event]:
        """What an update is in our log: the call, its arguments, its result; each once."""
        new = Call.of(update)
        call = self._calls.setdefault(new.call_id, new)
        if len(self._calls) > KEPT_CALLS:
            del self._calls[next(iter(self._calls))]
        if call.ended:
            return
        call.learn(update, self._paths)
        # Some agents begin with empty arguments and send the true ones a little later.
        arguments = ""
        if call.raw_input and not call.told_input:
            arguments = json.dumps(call.raw_input, ensure_ascii=False)
            call.told_input = True
        if call is new or arguments:
            yield MsgEventToolCallChunk(
                tool_name=call.name if call is new else None,
                args_chunk=arguments,
                **_extra(call, kind=call.kind),
            )
        if update.status in ("completed", "failed"):
            call.ended = True
            yield MsgEventToolResult(
                tool_name=call.name,
                result=self._result(call, update.status),
                source=f"tools:{call.name}",
                **_extra(call),
            )
            call.content, call.raw_input, call.raw_output = [], None, None

    def _result(self, call: Call, status: str) -> JsonValue:
        result: dict[str, JsonValue] = {"status": status}
        if call.content:
            result["content"] = [self._block(block) for block in call.content]
        elif call.raw_output is not None:
            result["output"] = call.raw_output
        return result

    def _block(self, block: dict[str, JsonValue]) -> JsonValue:
        terminal = block.get("terminal")
        return {"terminal": self._of_terminal(terminal)} if isinstance(terminal, str) else block


def _path(path: str) -> str:
    """A path that is too long to be one is nowhere in a work_dir."""
    return path if len(path) <= PATH_CHARACTERS else _NOWHERE


def _bounded(content: Sequence[ToolContent], paths: TaskPaths) -> list[dict[str, JsonValue]]:
    kept: list[dict[str, JsonValue]] = []
    left = TEXT_CHARACTERS
    for block in content[:KEPT_ITEMS]:
        if left <= 0:
            break
        kept.append(in_result(block, paths, left))
        left -= len(json.dumps(kept[-1], ensure_ascii=False))
    if len(kept) < len(content):
        kept.append({"text": f"… ({len(content) - len(kept)} more)"})
    return kept


def _extra(call: Call, **more: Any) -> dict[str, Any]:
    """What our events have beside their published fields."""
    return {"call_id": call.call_id, **more}
