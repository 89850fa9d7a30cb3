"""A scripted agent in a thread of its own, for tests that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.agent.scripted_agent import ScriptedAgent


@contextmanager
def agent_in_a_thread(prepare: Callable[[ScriptedAgent], None]) -> Iterator[ScriptedAgent]:
    """A running agent; ``prepare`` is called in its thread, before it runs."""
    started = threading.Event()
    running: list[tuple[ScriptedAgent, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        agent, over = ScriptedAgent(), asyncio.Event()
        prepare(agent)
        await agent.start()
        running.append((agent, asyncio.get_running_loop(), over))
        started.set()
        await over.wait()
        await agent.stop()

    thread = threading.Thread(target=asyncio.run, args=[run()], name="scripted-agent")
    thread.start()
    assert started.wait(10)
    agent, loop, over = running[0]
    try:
        yield agent
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        assert not thread.is_alive()
