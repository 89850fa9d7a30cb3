"""Memory and latency of a server with 1,000 open chats."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from benchmarks.tables import BenchmarkRow
from beray.agent import AgentApi
from beray.testing import RunningServer, access_token

CHATS = 1000
MAX_OPENING = 20
"""Maximum number of chats that are being opened at the same time."""
QUESTIONS = 20
"""Number of messages per round."""


def measure(rounds: int) -> list[BenchmarkRow]:
    """Return the latency with 1,000 chats relative to one chat, and the memory per chat."""
    with (
        tempfile.TemporaryDirectory() as directory,
        RunningServer.start(Path(directory) / "data", BERAY_SLOTS="2") as server,
    ):
        client = server.sign_up()
        token = access_token(client)
        return asyncio.run(_measure_server(server, token, rounds))


async def _measure_server(server: RunningServer, token: str, rounds: int) -> list[BenchmarkRow]:
    def chat(number: int) -> AgentApi:
        return AgentApi("bench", server.url, chat_id=f"chat {number}", token=token)

    process = psutil.Process(server.pid)
    single, crowded, memory = [], [], []
    async with chat(0) as measured:
        await _median_latency(measured)
        for _ in range(rounds):
            before = process.memory_info().rss
            single.append(await _median_latency(measured))
            async with AsyncExitStack() as others:
                semaphore = asyncio.Semaphore(MAX_OPENING)

                async def open_chat(
                    number: int,
                    others: AsyncExitStack = others,
                    semaphore: asyncio.Semaphore = semaphore,
                ) -> None:
                    async with semaphore:
                        await others.enter_async_context(chat(number))

                await asyncio.gather(*map(open_chat, range(1, CHATS)))
                crowded.append(await _median_latency(measured))
                memory.append((process.memory_info().rss - before) / CHATS)
    ratio = statistics.median(many / one for many, one in zip(crowded, single, strict=True))
    return [
        BenchmarkRow(f"time to first event with {CHATS:,} open chats", "one open chat", ratio, ""),
        BenchmarkRow("memory of the server per chat, KiB", "1 KiB", max(memory) / 1024, ""),
    ]


async def _median_latency(agent: AgentApi) -> float:
    """Return the median time from a message to the first event of its answer, in seconds."""
    seconds = []
    for _ in range(QUESTIONS):
        started = time.perf_counter()
        async with agent.send_message("!echo hello") as answer:
            async for _ in answer:
                if len(seconds) < QUESTIONS and started:
                    seconds.append(time.perf_counter() - started)
                    started = 0.0
    return statistics.median(seconds)
