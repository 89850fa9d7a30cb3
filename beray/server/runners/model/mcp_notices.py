"""Progress and log notifications of an MCP server, as events.

A server may send any number of them. At most one batch a second becomes events: the newest
progress of each call, and a bounded number of log messages.
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
"""Log messages in one batch; the number of further ones is stated."""
CHARACTERS: Final = 500
"""Characters of one message."""
_EXAMINED: Final = 8 * CHARACTERS
"""Characters of a message that are looked at."""


class Notices:
    """The notifications of one server. Taking one never waits."""

    def __init__(self, server: McpServer, sink: Sink) -> None:
        self._server = server
        self._sink = sink
        self._progress: dict[str, dict[str, Any]] = {}
        self._messages: list[dict[str, Any]] = []
        self._left_out = 0
        self._waiting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def on_progress(self, tool: str, call_id: str) -> ProgressFnT:
        """Return the callback for the progress of one call."""

        async def take(progress: float, total: float | None, message: str | None) -> None:
            share = _share(progress, total)
            said = " ".join(filter(None, (self._clean(message or ""), share and f"({share})")))
            self._progress[call_id] = {
                "kind": "progress",
                "message": f"{self._server.name} {tool}: {said or _number(progress)}",
                "server": self._server.name,
                "tool": tool,
                "call_id": call_id,
                **({"progress": progress} if math.isfinite(progress) else {}),
                **({"total": total} if total is not None and math.isfinite(total) else {}),
            }
            self._wake()

        return take

    async def on_log(self, params: LoggingMessageNotificationParams) -> None:
        if params.level == "debug":
            return
        if len(self._messages) >= LOG_MESSAGES:
            self._left_out += 1
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
        """Emit what waits. To be called before the result of a call is."""
        messages, self._messages = self._messages, []
        left_out, self._left_out = self._left_out, 0
        progress, self._progress = self._progress, {}
        if left_out:
            count = f"{left_out:,} more log {'message' if left_out == 1 else 'messages'}"
            messages.append(
                {
                    "kind": "log",
                    "message": f"{self._server.name}: {count} left out",
                    "server": self._server.name,
                    "left_out": left_out,
                }
            )
        for payload in (*messages, *progress.values()):
            await self._sink.emit(MsgEventCustomUpdate(payload=payload))

    async def close(self) -> None:
        """Emit nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _wake(self) -> None:
        self._waiting.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        # If the log takes no more, the run learns it from its own next event.
        with suppress(SinkFailed):
            while True:
                await self._waiting.wait()
                self._waiting.clear()
                await self.flush()
                await asyncio.sleep(INTERVAL_SECONDS)

    def _clean(self, text: str) -> str:
        return one_line(self._server.without_secrets(text[:_EXAMINED]), CHARACTERS)


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
