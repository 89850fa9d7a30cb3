"""Insertion of rows into the database of a running server, which is faster than running tasks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import Any

from beray.testing import RunningServer


def _database(server: RunningServer) -> sqlite3.Connection:
    return sqlite3.connect(server.data_dir / "beray.sqlite3", timeout=30.0)


def body(task_id: int, seq: int, text: str) -> str:
    """Return the JSON of a text event in the form in which the log stores it."""
    envelope = f'"seq":{seq},"task_id":{task_id},"created_at":"2026-01-01T00:00:00.000000Z"'
    fields = f'"type":"AGENT_EVENT_TEXT_CHUNK","text":{json.dumps(text, ensure_ascii=False)}'
    return f'{{{envelope},{fields},"source":"main"}}'


def add_events(server: RunningServer, task_id: int, texts: Iterable[str]) -> list[Any]:
    """Insert text events after the last one of an ended task; return all its events."""
    with closing(_database(server)) as database, database:
        last = database.execute("SELECT last_seq FROM tasks WHERE id = ?", [task_id]).fetchone()[0]
        rows = [
            (task_id, seq, body(task_id, seq, text)) for seq, text in enumerate(texts, last + 1)
        ]
        database.executemany("INSERT INTO events (task_id, seq, body) VALUES (?, ?, ?)", rows)
        database.execute("UPDATE tasks SET last_seq = ? WHERE id = ?", [rows[-1][1], task_id])
        stored = database.execute(
            "SELECT body FROM events WHERE task_id = ? ORDER BY seq", [task_id]
        ).fetchall()
    return [json.loads(text) for (text,) in stored]


def add_tasks(server: RunningServer, user_id: int, goals: Iterable[str]) -> None:
    """Insert completed tasks without files after the existing ones."""
    columns = "user_id, goal, held, status, created_at, last_seq"
    with closing(_database(server)) as database, database:
        database.executemany(
            f"INSERT INTO tasks ({columns}) VALUES (?, ?, 0, 'COMPLETED', '2026-01-01', 0)",
            [(user_id, goal) for goal in goals],
        )
