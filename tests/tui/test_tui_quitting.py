"""Leaving the dashboard never waits for a server."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray.config import Profiles, Target
from tests.support import PROMPT_SECONDS, WAIT_SECONDS
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import fill, until, until_shown
from tui.app import BeRayApp

SCRIPT = """
import asyncio, sys, threading, time
from beray.config import Profiles, Target
from tui.app import BeRayApp

async def main():
    app = BeRayApp(Target(sys.argv[1], "work", "token"), Profiles())
    async with app.run_test() as pilot:
        deadline = time.monotonic() + 60
        while not any(thread.name == "beray-board" for thread in threading.enumerate()):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        print("leaving", flush=True)
        await pilot.press("q")

asyncio.run(main())
print("left", flush=True)
"""


@pytest.fixture
def stalled_url() -> Iterator[str]:
    """A server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_program_ends_while_a_call_is_waiting(stalled_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, stalled_url], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "leaving\n"
        began = time.monotonic()
        assert program.stdout.read() == "left\n"
        assert program.wait() == 0
        # Far below the deadlines of the waiting calls.
        assert time.monotonic() - began < 2 * PROMPT_SECONDS


async def test_leaving_in_the_middle_of_signing_in(stalled_url: str, tmp_path: Path) -> None:
    app = BeRayApp(Target(stalled_url, "work"), Profiles(tmp_path / "profiles.json"))
    async with app.run_test() as pilot:
        await fill(pilot, "#email", "ada@example.test")
        await fill(pilot, "#password", "a password")
        await until_shown(pilot, "Signing in …")
        began = time.monotonic()
        await pilot.press("ctrl+q")
        await until(pilot, lambda: not app.is_running, PROMPT_SECONDS)
        assert time.monotonic() - began < PROMPT_SECONDS
    assert not (tmp_path / "profiles.json").exists()


def board_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "beray-board"]


async def test_what_arrives_after_the_end_does_no_harm(tmp_path: Path) -> None:
    client = stub.StubClient()
    client.blocked = threading.Event()
    app = stub.stub_app(client, tmp_path)
    failures: list[threading.ExceptHookArgs] = []
    before, threading.excepthook = threading.excepthook, failures.append
    try:
        async with app.run_test() as pilot:
            await until_shown(pilot, "Loading tasks")
            await until(pilot, board_threads)
            (poll,) = board_threads()
            await pilot.press("q")
        client.blocked.set()
        poll.join(WAIT_SECONDS)
        assert not poll.is_alive()
    finally:
        threading.excepthook = before
    assert failures == []
