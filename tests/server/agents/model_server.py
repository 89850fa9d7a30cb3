"""Server with a scripted model, for tests of complete tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psutil

from beray import BeRayClient
from beray.testing import RunningServer, standby
from tests.server.agents.fake_openai import Failure, FakeOpenAI, Reply

KEY = "sk-of-the-owner-0123456789"


class Replies(Protocol):
    """Replies by the number of answers in the request, like a sequence."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Reply | Failure: ...


class ModelServer:
    """Running server whose model answers each goal with its own script."""

    def __init__(
        self, server: RunningServer, provider: FakeOpenAI, scripts: dict[str, Replies]
    ) -> None:
        self.server = server
        self.provider = provider
        self._scripts = scripts

    def script(self, goal: str, *replies: Reply | Failure) -> str:
        """Set the replies to ``goal`` and return it."""
        return self.script_from(goal, replies)

    def script_from(self, goal: str, replies: Replies) -> str:
        """Set a sequence of replies to ``goal`` and return the goal."""
        self._scripts[goal] = replies
        return goal

    def done(self, client: BeRayClient, goal: str, *replies: Reply, **options: Any) -> list[Any]:
        """Create a task and return all its events when it has ended."""
        task = client.create_task(self.script(goal, *replies), **options)
        return list(client.stream_task_updates(task["id"]))

    def server_has_bubblewrap(self) -> bool:
        return '"sandbox: bubblewrap"' in self.server.log.read_text()

    def processes(self) -> list[psutil.Process]:
        """Return the live descendants of the server, except for the fork server."""
        found = psutil.Process(self.server.pid).children(recursive=True)
        return [process for process in found if _is_alive(process) and not is_fork_server(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_fork_server(process: psutil.Process) -> bool:
    """Return True for the fork server, False for its forks and for ended processes."""
    try:
        parent = process.parent()
    except psutil.NoSuchProcess:
        return False
    return is_fork(process) and not (parent is not None and is_fork(parent))


def is_fork(process: psutil.Process) -> bool:
    """Return True for the fork server and its forks, which have the same name."""
    started_by_server = "beray.server.runners.subprocess.fork_server_process"
    try:
        return process.name() == standby.NAME or started_by_server in process.cmdline()
    except psutil.NoSuchProcess:
        return False


@contextmanager
def model_server(data_dir: Path, **environ: str) -> Iterator[ModelServer]:
    """Start a server with a scripted model and additional environment variables."""
    scripts: dict[str, Replies] = {}

    def answer(body: dict[str, Any]) -> Reply | Failure:
        goals = [message["content"] for message in body["messages"] if message["role"] == "user"]
        count = sum(message["role"] == "assistant" for message in body["messages"])
        replies = scripts.get(str(goals[0]), ())
        return replies[count] if count < len(replies) else Failure(400, "the script has ended")

    with FakeOpenAI(answer) as provider:
        settings = {
            "BERAY_MODEL": "openai:gpt-4o",
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": KEY,
        }
        with RunningServer.start(data_dir, settings | environ) as server:
            yield ModelServer(server, provider, scripts)
