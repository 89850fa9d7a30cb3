"""Task of a real server whose work_dir has a history, for tests of its requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from beray import BeRayClient
from beray.testing import RunningServer, authorization


@dataclass(frozen=True)
class RecordedTask:
    """Ended task with some checkpoints."""

    server: RunningServer
    client: BeRayClient
    id: int

    @classmethod
    def run(cls, server: RunningServer, client: BeRayClient, goal: str) -> RecordedTask:
        """Run a goal to its end, successful or not."""
        task_id = client.create_task(goal)["id"]
        list(client.stream_task_updates(task_id))
        return cls(server, client, task_id)

    @property
    def work_dir(self) -> Path:
        """Work_dir of the task on disk."""
        return self.server.data_dir / "workspaces" / str(self.id)

    def call(self, method: str, route: str, **options: Any) -> requests.Response:
        """Send a request below ``/tasks/{id}``."""
        url = f"{self.server.url}/api/v1/tasks/{self.id}/{route}"
        headers = {**authorization(self.client), **options.pop("headers", {})}
        return requests.request(method, url, headers=headers, timeout=60, **options)

    def get(self, route: str, /, **params: Any) -> requests.Response:
        """Send a GET request with a query."""
        return self.call("GET", route, params=params)

    def content(self, path: str, at: int | str, **headers: str) -> requests.Response:
        """Request the content of a file in a checkpoint."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("GET", "files/content", params={"path": path, "at": at}, headers=named)

    def restore(self, to: Any, **fields: Any) -> requests.Response:
        """Request a restore."""
        return self.call("POST", "restore", json={"to": to, **fields})

    def checkpoints(self) -> list[tuple[str, str]]:
        """Return the names and reasons of the checkpoints."""
        return [(one["checkpoint"], one["reason"]) for one in self.client.list_checkpoints(self.id)]

    def state(self) -> dict[str, bytes]:
        """Return the contents of all files on disk."""
        return {
            str(path.relative_to(self.work_dir)): path.read_bytes()
            for path in self.work_dir.rglob("*")
            if path.is_file()
        }


def history_events(client: BeRayClient, task_id: int, kind: str = "checkpoint") -> list[Any]:
    """Return the payloads of the events of the history."""
    return [
        event["payload"]
        for event in client.get_task(task_id)["events"]
        if event.get("source") == "history" and event["payload"]["kind"] == kind
    ]


def packs(server: RunningServer) -> list[Path]:
    """Return the files of the server's objects."""
    return [path for path in (server.data_dir / "objects").rglob("*") if path.is_file()]


def answered(client: BeRayClient, chat: str, message: str) -> int:
    """Send a message to a chat, wait for the answer, and return the id of the chat's task."""
    task = client.send_chat_message(chat, message)
    after = str(task["last_seq"])
    for event in client.stream_task_updates(task["id"], last_event_id=after):
        if event.get("status") == "INPUT_REQUIRED":
            break
    return int(task["id"])
