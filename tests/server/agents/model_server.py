"""A server whose model is a script, for tests of whole tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from beray import BeRayClient
from beray.testing import RunningServer
from tests.server.agents.fake_openai import Failure, FakeOpenAI, Reply

NURSERY = "beray.server.runners.subprocess.fork_server_process"
KEY = "sk-of-the-owner-0123456789"


class ModelServer:
    """``script`` says what the model answers to a goal, reply by reply."""

    def __init__(
        self, server: RunningServer, provider: FakeOpenAI, scripts: dict[str, Any]
    ) -> None:
        self.server = server
        self.provider = provider
        self._scripts = scripts

    def script(self, goal: str, *replies: Reply | Failure) -> str:
        self._scripts[goal] = replies
        return goal

    def done(self, client: BeRayClient, goal: str, *replies: Reply, **asked: Any) -> list[Any]:
        """All events of a new task, once it has ended."""
        task = client.create_task(self.script(goal, *replies), **asked)
        return list(client.stream_task_updates(task["id"]))

    def server_has_bubblewrap(self) -> bool:
        return '"sandbox: bubblewrap"' in self.server.log.read_text()

    def processes(self) -> list[psutil.Process]:
        """What the server has started and is alive; the one that runs are forked from not."""
        found = psutil.Process(self.server.pid).children(recursive=True)
        return [
            process
            for process in found
            if process.status() != psutil.STATUS_ZOMBIE and not is_nursery(process)
        ]


def is_nursery(process: psutil.Process) -> bool:
    parent = process.parent()
    return NURSERY in " ".join(process.cmdline()) and not (
        parent is not None and NURSERY in " ".join(parent.cmdline())
    )


@contextmanager
def model_server(data_dir: Path, **environ: str) -> Iterator[ModelServer]:
    scripts: dict[str, Sequence[Reply | Failure]] = {}

    def answer(body: dict[str, Any]) -> Reply | Failure:
        goals = [message["content"] for message in body["messages"] if message["role"] == "user"]
        said = sum(message["role"] == "assistant" for message in body["messages"])
        replies = scripts.get(str(goals[0]), ())
        return replies[said] if said < len(replies) else Failure(400, "the script is at its end")

    with FakeOpenAI(answer) as provider:
        settings = {
            "BERAY_MODEL": "openai:gpt-4o",
            "OPENAI_BASE_URL": provider.url,
            "OPENAI_API_KEY": KEY,
        }
        with RunningServer.start(data_dir, **settings | environ) as server:
            yield ModelServer(server, provider, scripts)
