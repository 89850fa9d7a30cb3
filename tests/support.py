"""What tests look for, and how they wait for it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import psutil
import requests

from beray import BeRayClient
from beray.exceptions import BeRayException

WITHOUT_BUBBLEWRAP: Final = {} if shutil.which("bwrap") else {"BERAY_SANDBOX": "none"}
"""Settings of a shared server in tests; it does not start without a sandbox by itself."""


def done(client: BeRayClient, goal: str, **options: Any) -> list[Any]:
    """Return all events of a new task, once it has ended.

    Args:
        options: as ``create_task`` takes them.
    """
    return list(client.stream_task_updates(client.create_task(goal, **options)["id"]))


def text(events: list[Any]) -> str:
    """What the text chunks among ``events`` say together."""
    return "".join(event.get("text", "") for event in events)


def until(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Return once ``condition`` is true; fail where it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.03)


def descendants() -> list[psutil.Process]:
    """What this process has started, apart from the servers of ``beray.testing``."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        if "beray.testing.fork_server_process" not in " ".join(child.cmdline()):
            found += [child, *child.children(recursive=True)]
    return found


def sleepers(mark: str) -> list[psutil.Process]:
    """The processes that run ``sleep MARK``, wherever they were started from."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["sleep", mark]
    ]


class Following(threading.Thread):
    """Iterates in a thread. ``error`` is what ended it."""

    def __init__(self, iterate: Callable[[], Iterator[Any]]) -> None:
        super().__init__(daemon=True)
        self._iterate = iterate
        self.seen: list[Any] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for one in self._iterate():
                self.seen.append(one)
        except (BeRayException, requests.RequestException) as error:
            self.error = error
