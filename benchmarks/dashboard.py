"""Start-up time of the dashboard, and its responsiveness with many events."""

from __future__ import annotations

import json
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psutil

from benchmarks.streams import event, serve
from benchmarks.tables import BenchmarkRow, interleaved, ratio
from benchmarks.terminal import TerminalProgram
from beray import BeRayClient
from beray.testing import RunningServer, access_token

_EMPTY = """
from textual.app import App
from textual.widgets import DataTable, Footer, Header

class Empty(App):
    BINDINGS = [("q", "quit", "Quit")]
    def compose(self):
        yield Header()
        yield DataTable()
        yield Footer()
    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns("id", "status", "goal")
        for number in range(20):
            table.add_row(str(number), "COMPLETED", f"goal {number} of the table")

Empty().run()
"""
_BERAY = [sys.executable, "-m", "beray.cli"]
_EVENTS_PER_SECOND = 5000
_FLOOD_SECONDS = 20
_KEYS = "абвгдежзийклмнопрстуфхцчшщыэюя"
"""Letters typed into the filter while events arrive. They appear nowhere else on the screen."""


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return results for the first frame, a stream of events, and finished tasks."""
    return [*_first_frame(rounds), *_flood(), *_finished(rounds)]


# The first frame


def _seconds_until(argv: list[str], environ: dict[str, str], text: str) -> float:
    with TerminalProgram(argv, environ) as program:
        return program.seconds_until(text)


@contextmanager
def _account(directory: Path) -> Iterator[tuple[RunningServer, BeRayClient, dict[str, str]]]:
    server = RunningServer.start(directory / "data")
    try:
        with server.sign_up() as client:
            environ = {
                "BERAY_URL": server.url,
                "BERAY_TOKEN": access_token(client),
                "HOME": str(directory),
                "BERAY_HOME": str(directory / "home"),
            }
            yield server, client, environ
    finally:
        server.stop()


def _first_frame(rounds: int) -> list[BenchmarkRow]:
    with (
        tempfile.TemporaryDirectory() as directory,
        _account(Path(directory)) as (_, client, environ),
    ):
        for number in range(20):
            client.create_task(f"!echo {number}")
        empty = [sys.executable, "-c", _EMPTY]
        figures = interleaved(
            {
                "frame": partial(_seconds_until, _BERAY, environ, "Quit"),
                "tasks": partial(_seconds_until, _BERAY, environ, "!echo 7"),
                "empty": partial(_seconds_until, empty, environ, "goal 7 of"),
            },
            rounds,
        )
    against = "an empty Textual app"
    return [
        BenchmarkRow("dashboard, first frame", against, ratio(figures, "frame", "empty"), "≤ 1.3"),
        BenchmarkRow("dashboard, list of tasks", against, ratio(figures, "tasks", "empty"), ""),
    ]  # fmt: skip


# Many events into the open task


def _serve_flood(listener: socket.socket) -> None:
    """Serve one task with an endless stream of ``_EVENTS_PER_SECOND``."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_respond, args=(connection,), daemon=True).start()


def _respond(connection: socket.socket) -> None:
    task = {"id": 1, "goal": "flood", "status": "RUNNING", "created_at": "2026-01-01T00:00:00Z"}
    responses: dict[str, Any] = {
        "/api/v1/tasks/": [task],
        "/api/v1/users/me": {"id": 1, "email": "a@b.example"},
    }
    with connection:
        while request := connection.recv(65536):
            path = request.split(b" ", 2)[1].decode()
            if path.startswith("/api/v1/tasks/1/stream"):
                _send_flood(connection)
                return
            found = responses.get(path)
            body = json.dumps(found if found is not None else {"detail": "not found"}).encode()
            status = b"200 OK" if found is not None else b"404 Not Found"
            head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % (status, len(body)) + body)


def _send_flood(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
    start, sent = time.perf_counter(), 0
    while True:
        due = int((time.perf_counter() - start) * _EVENTS_PER_SECOND)
        try:
            connection.sendall(b"".join(event(seq, 200) for seq in range(sent + 1, due + 1)))
        except OSError:
            return
        sent = due
        time.sleep(0.01)


def _flood() -> list[BenchmarkRow]:
    with tempfile.TemporaryDirectory() as directory, serve(_serve_flood) as url:
        environ = {"BERAY_URL": url, "BERAY_TOKEN": "t", "HOME": directory, "BERAY_HOME": directory}
        with TerminalProgram(_BERAY, environ) as program:
            program.seconds_until("xxxxxxxxxx")
            program.read_for(2)
            program.type("/")
            delays = []
            deadline = time.perf_counter() + _FLOOD_SECONDS
            while time.perf_counter() < deadline:
                for letter in _KEYS:
                    program.type(letter)
                    delays.append(program.seconds_until(letter))
                    program.read_for(0.1)
                program.type("\x15")  # clears the filter
                program.read_for(0.3)
            process = psutil.Process(program.pid)
            early = process.memory_info().rss
            program.read_for(_FLOOD_SECONDS)
            late = process.memory_info().rss
    p95 = quantiles(delays, n=20)[-1]
    print(
        f"{_EVENTS_PER_SECOND} events/s: key to repaint {median(delays) * 1000:.0f} ms (p50), "
        f"{p95 * 1000:.0f} ms (p95)"
    )
    return [
        BenchmarkRow(
            f"key to repaint at {_EVENTS_PER_SECOND} events/s, p95", "50 ms", p95 / 0.05, "≤ 1.0"
        ),
        BenchmarkRow("memory after 200,000 events", "after 100,000", late / early, "≤ 1.02"),
    ]


# A finished task with a million events


def _event_json(task_id: int, seq: int) -> str:
    event = {"seq": seq, "task_id": task_id, "created_at": "2026-01-01T00:00:00.000000Z"}
    fields = {"type": "AGENT_EVENT_TEXT_CHUNK", "source": "tools:shell", "text": f"line {seq}\n"}
    return json.dumps(event | fields)


def _fill(database: Path, task_id: int, count: int) -> None:
    """Replace the events of a finished task by ``count`` events."""
    with sqlite3.connect(database) as connection:
        connection.execute("DELETE FROM events WHERE task_id = ?", (task_id,))
        bodies = ((task_id, seq, _event_json(task_id, seq)) for seq in range(1, count))
        insert = "INSERT INTO events (task_id, seq, body) VALUES (?, ?, ?)"
        connection.executemany(insert, bodies)
        end = {"seq": count, "task_id": task_id, "type": "TASK_STATUS", "status": "COMPLETED"}
        connection.execute(
            "INSERT INTO events (task_id, seq, body) VALUES (?, ?, ?)",
            (task_id, count, json.dumps(end)),
        )
        connection.execute("UPDATE tasks SET last_seq = ? WHERE id = ?", (count, task_id))


def _seconds_to_open(environ: dict[str, str], goal: str, last: str) -> float:
    """Return the time from the selection of a task until its last event is shown."""
    with TerminalProgram(_BERAY, environ) as program:
        program.seconds_until("the third")
        program.read_for(1.0)
        program.type(f"/{goal}\r")
        return program.seconds_until(last)


def _seconds_to_end(environ: dict[str, str], last: str) -> float:
    """Return the time from the End key until the last event is shown."""
    with TerminalProgram(_BERAY, environ) as program:
        program.seconds_until("the third")
        program.read_for(1.0)
        program.type("/million\r")
        program.seconds_until(last)
        program.type("\r")
        program.read_for(0.5)
        program.type("g")
        program.seconds_until("line 3")
        program.read_for(0.5)
        program.type("G")
        return program.seconds_until(last)


def _finished(rounds: int) -> list[BenchmarkRow]:
    with (
        tempfile.TemporaryDirectory() as directory,
        _account(Path(directory)) as (server, client, environ),
    ):
        ids = {
            goal: client.create_task(f"!true # {goal}")["id"]
            for goal in ("the million", "the thousand", "the third")
        }
        for task_id in ids.values():
            list(client.stream_task_updates(task_id))
        server.stop()
        _fill(server.data_dir / "beray.sqlite3", ids["the million"], 1_000_000)
        _fill(server.data_dir / "beray.sqlite3", ids["the thousand"], 1000)
        server.restart()
        environ["BERAY_URL"] = server.url
        figures = interleaved(
            {
                "million": partial(_seconds_to_open, environ, "million", "line 999999"),
                "thousand": partial(_seconds_to_open, environ, "thousand", "line 999"),
                "end": partial(_seconds_to_end, environ, "line 999999"),
            },
            rounds,
        )
    opened = ratio(figures, "million", "thousand")
    end_key = median(figures["end"]) / 0.2
    return [
        BenchmarkRow("open 1,000,000 events", "1,000", opened, "≤ 1.5"),
        BenchmarkRow("End key in 1,000,000 events", "200 ms", end_key, "≤ 1.0"),
    ]
