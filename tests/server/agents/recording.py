"""Sink that records the events and the usage of a run."""

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
from tests.support import WAIT_SECONDS

Budget = Callable[[Usage], None]
Kind = TypeVar("Kind", bound=BaseModel)


class Recorder:
    """Recording sink.

    Args:
        budget: Called with each charged usage; it may raise ``BudgetExceeded``.

    Attributes:
        events: Emitted events, in order.
        usages: Charged usages, in order.
        records: Recorded total usages.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.events: list[Event] = []
        self.usages: list[Usage] = []
        self.records: list[Usage] = []
        self._budget = budget
        self._changed = asyncio.Event()

    async def emit(self, event: Event, count: int = 1) -> None:
        json.loads(event.model_dump_json())  # events must be valid JSON
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

    async def until(
        self, condition: Callable[[Recorder], bool], *, seconds: float = WAIT_SECONDS
    ) -> None:
        """Wait until ``condition`` is true for this recorder.

        Raises:
            TimeoutError: The condition was not true within ``seconds``.
        """
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    def text(self, source: str = "main") -> str:
        """Return the text from ``source`` that was not retracted."""
        chunks = [event for event in self.kept() if isinstance(event, MsgEventTextChunk)]
        return "".join(chunk.text for chunk in chunks if chunk.source == source)

    def kept(self) -> list[Event]:
        """Return the events that were not retracted."""
        return list(without_retracted(self.events))

    def of(self, kind: type[Kind]) -> list[Kind]:
        """Return the events of one type, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """Return the payloads of custom updates with this ``kind``, in order."""
        updates = [update.payload for update in self.of(MsgEventCustomUpdate)]
        return [payload for payload in updates if payload.get("kind") == kind]

    def results(self, tool_name: str) -> list[Any]:
        """Return the results of a tool, in order."""
        results = self.of(MsgEventToolResult)
        return [result.result for result in results if result.tool_name == tool_name]

    def calls(self) -> list[tuple[str, str]]:
        """Return name and complete arguments of each tool call, in the order of their starts."""
        calls: dict[str, tuple[str, str]] = {}
        for chunk in self.kept():
            if not isinstance(chunk, MsgEventToolCallChunk):
                continue
            call_id = str((chunk.model_extra or {}).get("call_id"))
            name, arguments = calls.get(call_id, ("", ""))
            calls[call_id] = (chunk.tool_name or name, arguments + chunk.args_chunk)
        return list(calls.values())

    def errors(self) -> list[tuple[str, str]]:
        """Return code and details of each error, in order."""
        return [(error.code, error.details) for error in self.of(MsgError)]
