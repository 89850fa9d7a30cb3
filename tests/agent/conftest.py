"""Tests of the agents' client leave no task, no socket and no thread behind."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from tests.agent.scripted_agent import ScriptedAgent, until


def _connections() -> set[tuple[object, ...]]:
    found = psutil.Process().net_connections("tcp")
    return {(one.fd, one.laddr, one.raddr) for one in found if one.status != "LISTEN"}


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_is_looked_through() -> Iterator[None]:
    """What other tests have imported and made is no garbage of ours, and looking costs."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
async def agent() -> AsyncIterator[ScriptedAgent]:
    """A scripted agent; afterwards nothing of its clients may be left."""
    connections, threads = _connections(), threading.active_count()
    agent = ScriptedAgent()
    await agent.start()
    yield agent
    here = asyncio.current_task()
    servers = "websockets/asyncio/server.py"
    mine = [task for task in asyncio.all_tasks() if task is not here and servers not in repr(task)]
    assert not mine, "the client has left tasks"
    await agent.stop()
    gc.collect()
    await until(lambda: asyncio.all_tasks() == {here})
    await until(lambda: not (_connections() - connections))
    await until(lambda: threading.active_count() <= threads)
