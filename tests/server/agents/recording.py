"""A sink that keeps what a runner says, for tests to look at and to wait on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from beray.events import (
    Event,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
)
from beray.server.runners.base import Usage
from beray.streaming.retraction import without_retracted

Budget = Callable[[Usage], None]
Kind = TypeVar("Kind", bound=BaseModel)


class Recorder:
    """A ``Sink``. ``budget`` may raise ``OverBudget`` when it is shown a usage.

    Attributes:
        events: what was emitted, in order.
        usages: what was charged, in order.
        records: what was said to be taken in all; one, if the run said it once.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.events: list[Event] = []
        self.usages: list[Usage] = []
        self.records: list[Usage] = []
        self._budget = budget
        self._changed = asyncio.Event()

    async def emit(self, event: Event, count: int = 1) -> None:
        json.loads(event.model_dump_json())  # whatever is logged must be JSON
        self.events.append(event)
        self._changed.set()

    async def charge(self, usage: Usage) -> None:
        self.usages.append(usage)
        self._changed.set()
        if self._budget is not None:
            self._budget(usage)

    async def record(self, usage: Usage) -> None:
        self.records.append(usage)
        self._changed.set()

    async def until(self, condition: Callable[[Recorder], bool], *, seconds: float = 15.0) -> None:
        """Wait until ``condition`` holds of what was recorded.

        Raises:
            TimeoutError: it did not, within ``seconds``.
        """
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def text(self, source: str = "main") -> str:
        """All text that came from ``source`` and was not retracted."""
        chunks = [one for one in self.kept() if isinstance(one, MsgEventTextChunk)]
        return "".join(chunk.text for chunk in chunks if chunk.source == source)

    def kept(self) -> list[Event]:
        """The events that were not retracted."""
        return list(without_retracted(self.events))

    def of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """The payloads of custom updates whose ``kind`` is this, in order."""
        updates = [update.payload for update in self.of(MsgEventCustomUpdate)]
        return [payload for payload in updates if payload.get("kind") == kind]

    def results(self, tool_name: str) -> list[Any]:
        """What a tool answered, call by call."""
        results = self.of(MsgEventToolResult)
        return [result.result for result in results if result.tool_name == tool_name]

    def calls(self) -> list[tuple[str, str]]:
        """Name and whole arguments of each tool call, in the order in which they began."""
        calls: dict[str, tuple[str, str]] = {}
        for chunk in self.kept():
            if not isinstance(chunk, MsgEventToolCallChunk):
                continue
            call_id = str((chunk.model_extra or {}).get("call_id"))
            name, arguments = calls.get(call_id, ("", ""))
            calls[call_id] = (chunk.tool_name or name, arguments + chunk.args_chunk)
        return list(calls.values())

    def errors(self) -> list[tuple[str, str]]:
        """Code and details of each error, in order."""
        return [(error.code, error.details) for error in self.of(MsgError)]
