"""Byte limit of the messages that wait for the reader of a function's stream."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from beray.server.prefabs.stream_buffer import MAX_BUFFERED_BYTES, StreamBuffer


async def read(pieces: StreamBuffer) -> list[Any]:
    stream = b"".join([message async for message in pieces.read(60.0)]).decode()
    return [json.loads(line.removeprefix("data: ")) for line in stream.split("\n\n") if line]


async def test_messages_come_in_order_whatever_their_size(tmp_path: Path) -> None:
    pieces = StreamBuffer(tmp_path)
    data: list[Any] = ["a", {"b": "x" * MAX_BUFFERED_BYTES}, ["ü" * 5_000_000], "d", None]

    async def put() -> None:
        for one in data:
            await pieces.put("content", one)
            assert pieces.size <= MAX_BUFFERED_BYTES
        await pieces.end()

    putting = asyncio.create_task(put())
    assert [message["data"] for message in await read(pieces)] == data
    await putting
    assert pieces.size == 0


async def test_a_function_waits_for_a_reader_that_takes_nothing(tmp_path: Path) -> None:
    pieces = StreamBuffer(tmp_path)
    text = "x" * 9_990
    for _ in range(26):
        await pieces.put("content", text)
    waiting = asyncio.create_task(pieces.put("content", text))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert MAX_BUFFERED_BYTES - 10_100 < pieces.size <= MAX_BUFFERED_BYTES
    messages: Any = pieces.read(60.0)
    assert b"content" in await anext(messages)
    await waiting
    await messages.aclose()


async def test_a_silent_function_gives_heartbeats(tmp_path: Path) -> None:
    pieces = StreamBuffer(tmp_path)
    messages: Any = pieces.read(0.01)
    assert await anext(messages) == b""
    await pieces.put("progress", {"fraction": 0.5, "message": ""})
    found = await anext(messages)
    while not found:
        found = await anext(messages)
    assert b"0.5" in found
    await messages.aclose()


async def test_unread_messages_are_discarded(tmp_path: Path) -> None:
    pieces = StreamBuffer(tmp_path)
    await pieces.put("content", ["x" * 1_000_000])
    assert pieces.size == 0  # it waits in a file
    pieces.close()
    await pieces.end()
    assert await read(pieces) == []
