"""The order of a run's events, whatever is encoded in a thread."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from beray.events import MsgEventCustomUpdate, MsgEventTextChunk, MsgEventToolResult
from beray.server.settings import Settings
from beray.server.storage.tasks import TaskSpec
from beray.server.tasks import event_sink
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.event_sink import INLINE_CHARACTERS, TaskSink
from beray.server.tasks.redaction import StreamRedactor
from beray.server.tasks.usage_limits import Budget
from tests.repositories import opened


@asynccontextmanager
async def new_sink(tmp_path: Path) -> AsyncIterator[tuple[TaskSink, EventLog, int]]:
    """A sink for a new task, with the event log and the task's id."""
    limit = 100 * INLINE_CHARACTERS
    secrets = StreamRedactor([])
    with opened(tmp_path / "db.sqlite3") as repositories:
        user_id = repositories.user_id()
        task = repositories.tasks.create(user_id, TaskSpec("goal"), held=False)
        log = repositories.new_event_log()
        log.start()
        budget = Budget(
            repository=repositories.usage, settings=Settings(data_dir=tmp_path), task=task
        )
        sink = TaskSink(
            event_log=log,
            task_id=task.id,
            output_bytes=limit,
            secrets=secrets,
            budget=budget,
        )
        yield sink, log, task.id
        await log.close()


async def logged(log: EventLog, task_id: int) -> list[Any]:
    page = await log.pages.page(task_id, 0)
    bodies = [json.loads(event.body) for event in page.events]
    while page.is_full:
        page = await log.pages.page(task_id, len(bodies))
        bodies += [json.loads(event.body) for event in page.events]
    return bodies


async def test_events_are_logged_in_the_order_in_which_they_are_emitted(tmp_path: Path) -> None:
    sizes = [10, 3 * INLINE_CHARACTERS, 0, 2 * INLINE_CHARACTERS, 5, 1]
    results: list[Any] = [["x" * size, number] for number, size in enumerate(sizes)]
    events = [MsgEventToolResult(tool_name="t", result=result) for result in results]
    async with new_sink(tmp_path) as (sink, log, task_id):
        await asyncio.gather(*(sink.emit(event) for event in events))
        bodies = await logged(log, task_id)
    assert [body["result"] for body in bodies] == results


async def test_an_event_aside_waits_for_the_lines_of_all_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def output(call_id: str, text: str) -> MsgEventTextChunk:
        return MsgEventTextChunk.model_validate({"text": text, "call_id": call_id})

    def result(call_id: str) -> MsgEventToolResult:
        return MsgEventToolResult.model_validate({"tool_name": "t", "call_id": call_id})

    monkeypatch.setattr(event_sink, "LINE_WAIT_SECONDS", 60.0)
    aside = MsgEventCustomUpdate(payload={}, source="files")
    async with new_sink(tmp_path) as (sink, log, task_id):
        await sink.emit(output("1", "begun"))
        await sink.emit(output("2", "begun, "))
        waiting = asyncio.create_task(sink.emit_between_lines(aside))
        await sink.emit(output("2", "ended\n"))
        await sink.emit(result("2"))
        assert not waiting.done()
        await sink.emit(result("1"))
        await waiting
        bodies = await logged(log, task_id)
    assert [body["type"] for body in bodies][-2:] == [
        "AGENT_EVENT_TOOL_RESULT",
        "AGENT_EVENT_CUSTOM_UPDATE",
    ]
