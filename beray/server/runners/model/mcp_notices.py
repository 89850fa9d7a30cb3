"""Conversion of an MCP server's progress and log notifications to events.

A server may send any number of them. At most once per second, a batch is emitted as events: the
latest progress of each call, and a limited number of log messages.
"""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import suppress
from typing import Any, Final

from mcp.shared.dispatcher import ProgressFnT
from mcp_types import LoggingMessageNotificationParams

from beray.events import MsgEventCustomUpdate
from beray.sanitize import one_line
from beray.server.runners.base import Sink
from beray.server.runners.mcp.config import McpServer
from beray.server.runners.model.sinks import SinkFailed

INTERVAL_SECONDS: Final = 1.0
LOG_MESSAGES: Final = 10
"""Maximum number of log messages in one batch; further ones are counted."""
CHARACTERS: Final = 500
"""Maximum length of one message."""
_EXAMINED: Final = 8 * CHARACTERS
"""Length of the part of a message that is redacted and put on one line."""


class NotificationBatcher:
    """Notifications of one server, emitted in batches. Receiving a notification never blocks."""

    def __init__(self, server: McpServer, *, sink: Sink) -> None:
        self._server = server
        self._sink = sink
        self._progress: dict[str, dict[str, Any]] = {}
        self._messages: list[dict[str, Any]] = []
        self._omitted = 0
        self._waiting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_progress(self, tool: str, call_id: str) -> ProgressFnT:
        """Return the callback for progress notifications of one call."""

        async def receive(progress: float, total: float | None, message: str | None) -> None:
            share = _share(progress, total)
            text = " ".join(filter(None, (self._clean(message or ""), share and f"({share})")))
            self._progress[call_id] = {
                "kind": "progress",
                "message": f"{self._server.name} {tool}: {text or _number(progress)}",
                "server": self._server.name,
                "tool": tool,
                "call_id": call_id,
                **({"progress": progress} if math.isfinite(progress) else {}),
                **({"total": total} if total is not None and math.isfinite(total) else {}),
            }
            self._wake()

        return receive

    async def on_log(self, params: LoggingMessageNotificationParams) -> None:
        """Add a log message to the batch. Debug messages are ignored."""
        if params.level == "debug":
            return
        if len(self._messages) >= LOG_MESSAGES:
            self._omitted += 1
            return
        data = params.data
        text = self._clean(data if isinstance(data, str) else _json(data))
        self._messages.append(
            {
                "kind": "log",
                "message": f"{self._server.name} ({params.level}): {text}",
                "server": self._server.name,
                "level": params.level,
            }
        )
        self._wake()

    async def flush(self) -> None:
        """Emit the batch. To be called before the result of a call is emitted."""
        messages, self._messages = self._messages, []
        omitted, self._omitted = self._omitted, 0
        progress, self._progress = self._progress, {}
        if omitted:
            count = f"{omitted:,} more log {'message' if omitted == 1 else 'messages'}"
            messages.append(
                {
                    "kind": "log",
                    "message": f"{self._server.name}: {count} omitted",
                    "server": self._server.name,
                    "left_out": omitted,
                }
            )
        for payload in (*messages, *progress.values()):
            await self._sink.emit(MsgEventCustomUpdate(payload=payload))

    async def close(self) -> None:
        """Stop emitting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _wake(self) -> None:
        self._waiting.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        # If the sink fails, the run notices that at its own next event.
        with suppress(SinkFailed):
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                await self.flush()
                await asyncio.sleep(INTERVAL_SECONDS)

    def _clean(self, text: str) -> str:
        return one_line(self._server.redacted(text[:_EXAMINED]), CHARACTERS)


def _share(progress: float, total: float | None) -> str:
    if total is None or not (math.isfinite(progress) and math.isfinite(total)):
        return ""
    return f"{_number(progress)} of {_number(total)}"


def _number(value: float) -> str:
    return f"{value:,.10g}"


def _json(data: object) -> str:
    try:
        return json.dumps(data, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "(not representable as JSON)"
