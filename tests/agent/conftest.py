"""Fixtures of the agent client's tests, which check for leaked tasks, sockets and threads."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from tests.agent.scripted_agent import ScriptedAgent, until


def _connections() -> set[tuple[object, ...]]:
    connections = psutil.Process().net_connections("tcp")
    return {
        (connection.fd, connection.laddr, connection.raddr)
        for connection in connections
        if connection.status != "LISTEN"
    }


@pytest.fixture(scope="module", autouse=True)
def _freeze_existing_objects() -> Iterator[None]:
    """Exclude objects of other tests from garbage collection, to make it faster."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def agent() -> AsyncIterator[ScriptedAgent]:
    """Run a scripted agent; afterwards, check that its clients leaked nothing."""
    connections, threads = _connections(), threading.active_count()
    agent = ScriptedAgent()
    await agent.start()
    yield agent
    test_task = asyncio.current_task()
    servers = "websockets/asyncio/server.py"
    leaked = [
        task for task in asyncio.all_tasks() if task is not test_task and servers not in repr(task)
    ]
    assert not leaked, "the client leaked tasks"
    await agent.stop()
    gc.collect()
    await until(lambda: asyncio.all_tasks() == {test_task})
    await until(lambda: not (_connections() - connections))
    await until(lambda: threading.active_count() <= threads)
