"""Conversion of session updates to events and usage.

Source: ACP, "Prompt Turn" and "Agent Plan"; ``usage_update``, and ``usage`` in the response to a
prompt. Ignored are ``user_message_chunk``, which repeats the goal; lists of commands and options,
which are for interactive clients; titles; and updates that the package does not know.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
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
from acp.schema import Usage as AgentUsage
from pydantic import ValidationError

from beray.events import Event, MsgEventCustomUpdate, MsgEventTextChunk
from beray.server.runners.acp.blocks import (
    NAME_CHARACTERS,
    TEXT_CHARACTERS,
    Block,
    attachment,
    truncate,
)
from beray.server.runners.acp.tool_calls import ToolCalls
from beray.server.runners.base import Sink, Usage
from beray.server.runners.task_paths import TaskPaths

PLAN_ENTRIES: Final = 200
ENTRY_CHARACTERS: Final = 2000


class SessionUpdates:
    """Handler of session updates.

    Attributes:
        usage: Usage that the agent has reported so far.
    """

    def __init__(self, *, sink: Sink, paths: TaskPaths, calls: ToolCalls) -> None:
        self.usage = Usage()
        self._sink = sink
        self._paths = paths
        self._calls = calls

    async def handle(self, params: Any) -> None:
        """Log one update. Unknown ones are ignored: a newer agent may send more kinds."""
        try:
            update = SessionNotification.model_validate(params).update
        except ValidationError:
            return
        if isinstance(update, UsageUpdate):
            self.usage = interim_usage(self.usage, update)
            await self._sink.charge(self.usage)
            return
        for event in self._events(update):
            await self._sink.emit(event)

    def _events(self, update: object) -> Iterator[Event]:
        match update:
            case AgentMessageChunk():
                yield from self._content(update.content, "main")
            case AgentThoughtChunk():
                yield from self._content(update.content, "thinking")
            case ToolCallStart() | ToolCallProgress():
                yield from self._calls.events(update)
            case AgentPlanUpdate():
                yield MsgEventCustomUpdate(payload=_plan(update))
            case CurrentModeUpdate(current_mode_id=mode):
                message = f"The agent switched to mode {truncate(mode, NAME_CHARACTERS)!r}."
                yield MsgEventCustomUpdate(payload={"kind": "mode", "message": message})

    def _content(self, block: Block, source: str) -> Iterator[Event]:
        if not isinstance(block, TextContentBlock):
            yield MsgEventCustomUpdate(payload=attachment(block, self._paths), source=source)
            return
        for start in range(0, len(block.text), TEXT_CHARACTERS):
            piece = block.text[start : start + TEXT_CHARACTERS]
            yield MsgEventTextChunk(text=piece, source=source)


def _plan(update: AgentPlanUpdate) -> dict[str, Any]:
    entries = [
        {
            "content": truncate(entry.content, ENTRY_CHARACTERS),
            "status": entry.status,
            "priority": entry.priority,
        }
        for entry in update.entries[:PLAN_ENTRIES]
    ]
    done = sum(entry.status == "completed" for entry in update.entries)
    current = [entry.content for entry in update.entries if entry.status == "in_progress"]
    message = f"{done} of {len(update.entries)} done"
    if current:
        message += f": {truncate(current[0], NAME_CHARACTERS)}"
    return {"kind": "plan", "entries": entries, "message": message}


def interim_usage(usage: Usage, update: UsageUpdate) -> Usage:
    """Return the usage with an update that the agent sends while it works.

    The update has the number of tokens in the agent's context, not the total of all requests. It
    is a lower bound of the input tokens, so the result is marked as an estimate.
    """
    input_tokens = max(usage.input_tokens, update.used)
    cost = usage.cost_usd
    if update.cost is not None and update.cost.currency.upper() == "USD":
        amount = update.cost.amount
        cost = amount if math.isfinite(amount) and amount >= 0 else cost
    return replace(usage, input_tokens=input_tokens, cost_usd=cost, estimated=True)


def final_usage(usage: Usage, reported: AgentUsage | None) -> Usage:
    """Return the usage with the totals in the response to the prompt, if it has any."""
    if reported is None:
        return usage
    # Agents differ in whether input tokens include the cache, and output tokens the reasoning.
    # The total shows which of them are missing.
    missing = max(reported.total_tokens - reported.input_tokens - reported.output_tokens, 0)
    reasoning = min(reported.thought_tokens or 0, missing)
    return Usage(
        input_tokens=reported.input_tokens + missing - reasoning,
        output_tokens=reported.output_tokens + reasoning,
        cache_read_tokens=reported.cached_read_tokens or 0,
        cache_write_tokens=reported.cached_write_tokens or 0,
        cost_usd=usage.cost_usd,
    )
