"""Scripted agent that runs in a thread, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.agent.scripted_agent import ScriptedAgent
from tests.support import WAIT_SECONDS


@contextmanager
def threaded_agent(prepare: Callable[[ScriptedAgent], None]) -> Iterator[ScriptedAgent]:
    """Run an agent; ``prepare`` is called in its thread before it starts."""
    started = threading.Event()
    running: list[tuple[ScriptedAgent, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        agent, stopped = ScriptedAgent(), asyncio.Event()
        prepare(agent)
        await agent.start()
        running.append((agent, asyncio.get_running_loop(), stopped))
        started.set()
        await stopped.wait()
        await agent.stop()

    thread = threading.Thread(target=asyncio.run, args=[run()], name="scripted-agent")
    thread.start()
    assert started.wait(WAIT_SECONDS)
    agent, loop, stopped = running[0]
    try:
        yield agent
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()
