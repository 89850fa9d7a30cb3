"""A client without a server: fixed answers, for pictures that must not change.

It has the methods of ``BeRayClient`` that the dashboard calls. Whatever a test puts
into it is answered; an exception put there is raised.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests

from beray.config import Profiles, Target
from beray.exceptions import NotFoundError
from beray.schema import FilePage
from beray.streaming.streams import StreamState
from tui.app import BeRayApp
from tui.state.user_state import UserState

NOW = datetime(2026, 3, 14, 9, 30, 0, tzinfo=UTC)
Answer = Any


def answered(value: Answer) -> Any:
    if isinstance(value, BaseException):
        raise value
    return value


class StubStream(Iterator[Any]):
    """Gives its events, then stays open until it is closed, or until it has ended."""

    retry_in = 0.0
    last_event_id: str | None = None

    def __init__(
        self, events: Answer, on_state: Callable[[StreamState], None], state: StreamState
    ) -> None:
        self._events = events
        self._given = 0
        self._on_state = on_state
        self._state = state
        self._closed = threading.Event()

    def __next__(self) -> Any:
        events = answered(self._events)
        if self._given == 0:
            self._on_state(StreamState.LIVE)
        if self._given < len(events):
            self._given += 1
            return events[self._given - 1]
        self._on_state(self._state)
        if self._state is not StreamState.ENDED:
            self._closed.wait()
        raise StopIteration

    def close(self) -> None:
        self._closed.set()


class NoUpdates(Iterator[Any]):
    """Of a server that has no stream over all tasks: it is asked for them instead."""

    last_event_id: str | None = None

    def __next__(self) -> Any:
        raise NotFoundError("no such stream", status_code=404)

    def close(self) -> None:
        pass


class StubClient:
    def __init__(self) -> None:
        self.tasks: Answer = []
        self.events: dict[int, Answer] = {}
        self.stream_state = StreamState.ENDED
        self.files: Answer = []
        self.content: Answer = b""
        self.session: Answer = None
        self.message: Answer = {"message": "done"}
        self.created: Answer = None
        self.checkpoints: Answer = []
        self.changes: Answer = None
        self.restored: Answer = None
        self.blocked: threading.Event | None = None
        """While this is there and not set, ``list_tasks`` does not return."""

    def close(self) -> None:
        pass

    def set_token(self, token: str | None) -> None:
        pass

    def get_current_user(self) -> Any:
        if isinstance(self.tasks, Exception):
            raise self.tasks
        return {"id": 1, "email": "ada@example.org", "created_at": "2026-03-14T07:00:00Z"}

    def logout(self) -> Any:
        return answered(self.message)

    def login(self, email: str, password: str) -> Any:
        return answered(self.session)

    def register(self, email: str, code: str, password: str) -> Any:
        return answered(self.session)

    def request_verification_code(self, email: str) -> Any:
        return answered(self.message)

    request_password_reset = request_verification_code

    def list_tasks(self) -> Any:
        if self.blocked is not None:
            self.blocked.wait()
        return answered(self.tasks)

    def stream_all_updates(self, **options: Any) -> NoUpdates:
        return NoUpdates()

    def create_task(
        self, goal: str, tools: Any = None, *, start: bool = True, from_task: Any = None
    ) -> Any:
        return answered(self.created)

    def stop_task(self, task_id: int) -> Any:
        return answered(self.message)

    def delete_task(self, task_id: int) -> Any:
        return answered(self.message)

    def stream_task_updates(self, task_id: int, **options: Any) -> StubStream:
        return StubStream(self.events.get(task_id, []), options["on_state"], self.stream_state)

    def list_checkpoints(self, task_id: int) -> Any:
        return answered(self.checkpoints)

    def diff(self, task_id: int, *, from_: Any = None, to: Any = None) -> Any:
        return answered(self.changes)

    def restore(self, task_id: int, to: Any, *, paths: Any = (), dry_run: bool = False) -> Any:
        return answered(self.restored)

    def list_files_page(self, task_id: int, path: str = ".", **options: Any) -> FilePage:
        return FilePage(answered(self.files), None)

    def get_file_content(
        self, task_id: int, path: str, *, stream: bool, at: Any = None
    ) -> requests.Response:
        response = requests.Response()
        response.raw = io.BytesIO(answered(self.content))
        response.status_code = 200
        return response

    def download_zip(self, task_id: int, target: Path, **options: Any) -> Any:
        return answered(self.message)

    download_file = download_zip


def stub_app(
    client: StubClient, folder: Path, *, token: str | None = "token", email: str | None = None
) -> BeRayApp:
    target = Target("https://beray.example", "work", token, email)
    profiles = Profiles(folder / "profiles.json")
    return BeRayApp(
        target,
        profiles,
        connect=lambda _: client,  # type: ignore[arg-type,return-value]
        clock=lambda: NOW,
        user_state=UserState(folder / "dashboard"),
    )


def task(number: int, goal: str, status: str, **more: Any) -> dict[str, Any]:
    return {"id": number, "goal": goal, "status": status, **more}


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def text(words: str, source: str = "main") -> dict[str, Any]:
    return event("AGENT_EVENT_TEXT_CHUNK", text=words, source=source)


TASKS = [
    task(
        12,
        "Read the three reports in data/ and write a summary of one page to summary.md",
        "INPUT_REQUIRED",
        last_seq=16,
        last_line="TOOL_FAILED: wc: sum.md: No such file or directory",
        started_at="2026-03-14T09:28:48Z",
    ),
    task(11, "!pytest -q", "QUEUED"),
    task(
        10,
        "!make release",
        "FAILED",
        reason="exit status 2",
        started_at="2026-03-14T09:10:00Z",
        ended_at="2026-03-14T09:13:20Z",
    ),
    task(
        9,
        "Which of the two plans is cheaper over five years?",
        "RUNNING",
        last_seq=37,
        last_line="The second plan has no fee in its first year.",
        started_at="2026-03-14T08:05:00Z",
    ),
    task(
        8,
        "!tar xf upstream.tar.gz && ./configure",
        "STOPPED",
        reason="user",
        started_at="2026-03-14T08:00:00Z",
        ended_at="2026-03-14T08:00:42Z",
    ),
    task(
        7,
        "把 README 翻译成中文",
        "COMPLETED",
        started_at="2026-03-14T07:00:00Z",
        ended_at="2026-03-14T07:06:10Z",
    ),
]
EVENTS = [
    event("TASK_STATUS", status="QUEUED"),
    event("TASK_STATUS", status="RUNNING"),
    text("I look at what there is first.\n"),
    event("AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="shell", args_chunk='{"command": "ls -l data"}'),
    text("total 24\n-rw-r--r-- 1 beray beray 8214 q1.csv\n", "tools:shell"),
    text("-rw-r--r-- 1 beray beray 7730 q2.csv\n-rw-r--r-- 1 beray beray", "tools:shell"),
    text(" 7912 q3.csv\n", "tools:shell"),
    event("AGENT_EVENT_TOOL_RESULT", tool_name="shell", result={"exit_code": 0}),
    text("All three have the same columns. "),
    text("The second quarter lacks the figures of two shops, so its totals are not comparable; "),
    text("the summary says so where it uses them.\n"),
    event("AGENT_EVENT_CUSTOM_UPDATE", payload={"message": "2 of 3 reports read"}),
    event(
        "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="shell", args_chunk='{"command": "wc -w sum.md"}'
    ),
    event("AGENT_EVENT_TOOL_RESULT", tool_name="shell", result={"exit_code": 1}),
    event("AGENT_EVENT_SEND_FILE", path="summary.md"),
    event("ERROR", code="TOOL_FAILED", details="wc: sum.md: No such file or directory"),
]
FILES = [
    {"name": "data", "path": "data", "type": "directory"},
    {"name": "q1.csv", "path": "data/q1.csv", "type": "file", "size": 8214},
    {"name": "q2.csv", "path": "data/q2.csv", "type": "file", "size": 7730},
    {"name": "q3.csv", "path": "data/q3.csv", "type": "file", "size": 7912},
    {"name": "summary.md", "path": "summary.md", "type": "file", "size": 1312},
]
CHAT = task(
    13,
    "holidays",
    "INPUT_REQUIRED",
    chat="holidays",
    last_seq=11,
    last_line="The ferry leaves at 9:40, so the first bus is early enough.",
    started_at="2026-03-14T09:28:48Z",
)
SAID = [
    event("TASK_STATUS", status="INPUT_REQUIRED"),
    event("USER_MESSAGE", text="Which bus reaches the ferry?", attachments=[]),
    event("TASK_STATUS", status="RUNNING"),
    text("Where from, and on which day?\n"),
    event("AGENT_EVENT_END", tokens_used=312),
    event("TASK_STATUS", status="INPUT_REQUIRED"),
    event(
        "USER_MESSAGE",
        text="From the old town, on Sunday.\nThe timetable is in the file.",
        attachments=["timetable.csv", "/workspace/data/stops.csv"],
    ),
    event("TASK_STATUS", status="RUNNING"),
    text("The ferry leaves at **9:40**, so the first bus is early enough.\n"),
    event("AGENT_EVENT_SEND_FILE", path="route.md"),
    event("TASK_STATUS", status="INPUT_REQUIRED"),
]
CHECKPOINTS = [
    {"checkpoint": "c1", "seq": 2},
    {"checkpoint": "c2", "seq": 8},
    {"checkpoint": "c3", "seq": 16},
]
CHANGES = {
    "from": CHECKPOINTS[0],
    "to": CHECKPOINTS[2],
    "lines_added": 5,
    "lines_deleted": 3,
    "files": [
        {
            "path": "report/summary.md",
            "change": "modified",
            "lines_added": 4,
            "lines_deleted": 3,
            "hunks": [
                {
                    "old_start": 1,
                    "old_lines": 6,
                    "new_start": 1,
                    "new_lines": 7,
                    "lines": [
                        " # Three quarters",
                        " ",
                        "-Sales rose by 3 % from the first to the second quarter.",
                        "+Sales rose by 4 % from the first to the third quarter.",
                        "+The totals of the second quarter lack two shops.",
                        " ",
                        "-| quarter | sales |",
                        "-| ------- | ----- |",
                        "+| quarter | sales of all shops |",
                        "+| ------- | ------------------ |",
                        " | 1       | 1 204 |",
                    ],
                }
            ],
        },
        {
            "path": "report/图表.txt",
            "change": "added",
            "lines_added": 1,
            "hunks": [
                {
                    "old_start": 0,
                    "old_lines": 0,
                    "new_start": 1,
                    "new_lines": 1,
                    "lines": ["+日本語\tx"],
                }
            ],
        },
        {
            "path": "run.sh",
            "change": "modified",
            "old": {"type": "file", "mode": "644", "size": 12},
            "new": {"type": "file", "mode": "755", "size": 12},
        },
    ],
}
CONTENT = b"""# Three quarters

Sales rose by 4 % from the first to the third quarter.

| quarter | sales |
| ------- | ----- |
| 1       | 1 204 |
| 2       | 1 187 |
| 3       | 1 253 |
"""


def full_client() -> StubClient:
    client = StubClient()
    client.tasks, client.files, client.content = TASKS, FILES, CONTENT
    client.events = {12: EVENTS}
    client.checkpoints, client.changes = CHECKPOINTS, CHANGES
    client.stream_state = StreamState.LIVE
    return client


def chat_client(*, empty: bool = False) -> StubClient:
    client = full_client()
    chat = {**CHAT, "last_seq": 1, "last_line": None, "started_at": None} if empty else CHAT
    client.tasks = [chat, *TASKS[3:]]
    client.events = {13: SAID[:1] if empty else SAID}
    return client
