"""A thousand chats open at once on one server: what they cost it, and who talks in one."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from benchmarks.tables import Row
from beray.agent import AgentApi
from beray.testing import RunningServer

CHATS = 1000
AT_ONCE = 20
"""That are opened side by side."""
ASKED = 20
"""Questions in a round."""


def measure(rounds: int) -> list[Row]:
    """Ratios of the delay with a thousand chats to that with one, and the memory of each."""
    with (
        tempfile.TemporaryDirectory() as folder,
        RunningServer.start(Path(folder) / "data", BERAY_SLOTS="2") as server,
    ):
        client = server.sign_up()
        token = str(client._session.headers["Authorization"]).removeprefix("Bearer ")
        return asyncio.run(_measured(server, token, rounds))


async def _measured(server: RunningServer, token: str, rounds: int) -> list[Row]:
    def chat(number: int) -> AgentApi:
        return AgentApi("bench", server.url, chat_id=f"chat {number}", token=token)

    process = psutil.Process(server.pid)
    alone, crowded, held = [], [], []
    async with chat(0) as asked:
        await _delay(asked)
        for _ in range(rounds):
            before = process.memory_info().rss
            alone.append(await _delay(asked))
            async with AsyncExitStack() as others:
                gate = asyncio.Semaphore(AT_ONCE)

                async def open_one(
                    number: int, others: AsyncExitStack = others, gate: asyncio.Semaphore = gate
                ) -> None:
                    async with gate:
                        await others.enter_async_context(chat(number))

                await asyncio.gather(*map(open_one, range(1, CHATS)))
                crowded.append(await _delay(asked))
                held.append((process.memory_info().rss - before) / CHATS)
    ratio = statistics.median(many / one for many, one in zip(crowded, alone, strict=True))
    return [
        Row(f"an answer with {CHATS:,} chats open", "with one open", ratio, ""),
        Row("memory of the server for each of them, KiB", "1 KiB", max(held) / 1024, ""),
    ]


async def _delay(agent: AgentApi) -> float:
    """The median of the seconds to the first event of an answer."""
    seconds = []
    for _ in range(ASKED):
        started = time.perf_counter()
        async with agent.send_message("!echo hello") as answer:
            async for _ in answer:
                if len(seconds) < ASKED and started:
                    seconds.append(time.perf_counter() - started)
                    started = 0.0
    return statistics.median(seconds)
