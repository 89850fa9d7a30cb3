"""The order of a run's events, whatever is encoded in a thread."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from beray.events import MsgEventToolResult
from beray.server.budget import Budget
from beray.server.event_log import EventLog
from beray.server.secrets import SecretFilter
from beray.server.settings import Settings
from beray.server.store import Order, Store
from beray.server.task_feed import TaskFeed
from beray.server.task_sink import INLINE_CHARACTERS, TaskSink


async def test_events_are_logged_in_the_order_in_which_they_are_emitted(tmp_path: Path) -> None:
    store = Store(tmp_path / "db.sqlite3")
    task = store.add_task(store.add_user("a@b.example", None).id, Order("goal"), held=False)
    log = EventLog(store, TaskFeed(store))
    log.start()
    sink = TaskSink(
        log,
        task.id,
        output_bytes=100 * INLINE_CHARACTERS,
        secrets=SecretFilter([]),
        budget=Budget(store, Settings(data_dir=tmp_path), task),
    )
    sizes = [10, 3 * INLINE_CHARACTERS, 0, 2 * INLINE_CHARACTERS, 5, 1]
    results = [["x" * size, number] for number, size in enumerate(sizes)]
    events = [MsgEventToolResult(tool_name="t", result=result) for result in results]
    await asyncio.gather(*(sink.emit(event) for event in events))
    page = await log.pages.page(task.id, 0)
    bodies = [json.loads(event.body) for event in page.events]
    while page.is_full:
        page = await log.pages.page(task.id, len(bodies))
        bodies += [json.loads(event.body) for event in page.events]
    await log.close()
    store.close()
    assert [body["result"] for body in bodies] == results
