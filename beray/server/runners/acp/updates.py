"""The updates of a session, as events.

Source: ACP, "Prompt Turn" and "Agent Plan". Left out: ``user_message_chunk`` (the goal, said
again); the lists of commands and options (for somebody who types); titles (a task has its
goal); and whatever this version of the package does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from acp.schema import (
    AgentMessageChunk,
    AgentPlanUpdate,
    AgentThoughtChunk,
    CurrentModeUpdate,
    SessionNotification,
    TextContentBlock,
    ToolCallProgress,
    ToolCallStart,
    UsageUpdate,
)
from pydantic import ValidationError

from beray.events import Event, MsgEventCustomUpdate, MsgEventTextChunk
from beray.server.runners.acp import usage
from beray.server.runners.acp.blocks import Block, attachment
from beray.server.runners.acp.bounded import NAME_CHARACTERS, TEXT_CHARACTERS, cut
from beray.server.runners.acp.tool_calls import ToolCalls
from beray.server.runners.base import Sink, Usage
from beray.server.runners.task_paths import TaskPaths

PLAN_ENTRIES: Final = 200
ENTRY_CHARACTERS: Final = 2000


class Updates:
    """Turns updates into events and emits them.

    Attributes:
        usage: what the agent has told of its usage.
    """

    def __init__(self, sink: Sink, paths: TaskPaths, calls: ToolCalls) -> None:
        self.usage = Usage()
        self._sink = sink
        self._paths = paths
        self._calls = calls

    async def take(self, params: Any) -> None:
        """Log one update. What is not one is left out: a newer agent may say more."""
        try:
            update = SessionNotification.model_validate(params).update
        except ValidationError:
            return
        if isinstance(update, UsageUpdate):
            self.usage = usage.so_far(self.usage, update)
            await self._sink.charge(self.usage)
            return
        for event in self._events(update):
            await self._sink.emit(event)

    def _events(self, update: object) -> Iterator[Event]:
        match update:
            case AgentMessageChunk():
                yield from self._said(update.content, "main")
            case AgentThoughtChunk():
                yield from self._said(update.content, "thinking")
            case ToolCallStart() | ToolCallProgress():
                yield from self._calls.told(update)
            case AgentPlanUpdate():
                yield MsgEventCustomUpdate(payload=_plan(update))
            case CurrentModeUpdate(current_mode_id=mode):
                said = f"The agent is in mode {cut(mode, NAME_CHARACTERS)!r} now."
                yield MsgEventCustomUpdate(payload={"kind": "mode", "message": said})

    def _said(self, block: Block, source: str) -> Iterator[Event]:
        if not isinstance(block, TextContentBlock):
            yield MsgEventCustomUpdate(payload=attachment(block, self._paths), source=source)
            return
        for start in range(0, len(block.text), TEXT_CHARACTERS):
            piece = block.text[start : start + TEXT_CHARACTERS]
            yield MsgEventTextChunk(text=piece, source=source)


def _plan(update: AgentPlanUpdate) -> dict[str, Any]:
    entries = [
        {
            "content": cut(entry.content, ENTRY_CHARACTERS),
            "status": entry.status,
            "priority": entry.priority,
        }
        for entry in update.entries[:PLAN_ENTRIES]
    ]
    done = sum(entry.status == "completed" for entry in update.entries)
    now = [entry.content for entry in update.entries if entry.status == "in_progress"]
    message = f"{done} of {len(update.entries)} done"
    if now:
        message += f": {cut(now[0], NAME_CHARACTERS)}"
    return {"kind": "plan", "entries": entries, "message": message}
