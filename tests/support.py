"""Helpers of all tests: running tasks, waiting for conditions, finding processes."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

import psutil
import requests

from beray import BeRayClient
from beray.exceptions import BeRayException

WITHOUT_BUBBLEWRAP: Final = {} if shutil.which("bwrap") else {"BERAY_SANDBOX": "none"}
"""Settings of a shared server in tests; it does not start without a sandbox by itself."""

WAIT_SECONDS: Final = 60.0
"""Limit of waits for a condition. Only failures reach it, however loaded the machine is."""

PROMPT_SECONDS: Final = 5.0
"""Limit of operations that must not wait for any time limit; long enough for a loaded machine."""


def done(client: BeRayClient, goal: str, **options: Any) -> list[Any]:
    """Run a task and return all its events.

    Args:
        client: Client of the server.
        goal: Goal of the task.
        options: Keyword arguments of ``create_task``.
    """
    return list(client.stream_task_updates(client.create_task(goal, **options)["id"]))


def text(events: list[Any]) -> str:
    """Return the joined text of the text chunks among ``events``."""
    return "".join(event.get("text", "") for event in events)


def until(condition: Callable[[], Any], seconds: float = WAIT_SECONDS) -> None:
    """Wait until ``condition`` is true; fail if it does not become true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.03)


def new_address() -> str:
    """Return a random e-mail address for an account."""
    return f"user-{secrets.token_hex(6)}@example.test"


def descendants() -> list[psutil.Process]:
    """Return the descendants of this process, except the servers of ``beray.testing``."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        if "beray.testing.fork_server_process" not in " ".join(command_line(child)):
            with suppress(psutil.NoSuchProcess):  # the child has ended since then
                found += [child, *child.children(recursive=True)]
    return found


def command_line(process: psutil.Process) -> list[str]:
    """Return the arguments of a process, or an empty list if it has ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:  # also of zombies
        return []


def sleepers(mark: str) -> list[psutil.Process]:
    """Return all processes of the system that run ``sleep MARK``."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["sleep", mark]
    ]


class FollowingThread(threading.Thread):
    """Thread that iterates.

    Attributes:
        seen: Items so far.
        error: Exception that ended the iteration.
    """

    def __init__(self, iterate: Callable[[], Iterator[Any]]) -> None:
        super().__init__(daemon=True)
        self._iterate = iterate
        self.seen: list[Any] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for item in self._iterate():
                self.seen.append(item)
        except (BeRayException, requests.RequestException) as error:
            self.error = error
