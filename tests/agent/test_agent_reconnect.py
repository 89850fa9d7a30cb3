"""Tests of ``reconnect=True``: lost connections are reopened, interrupted answers are not."""

from __future__ import annotations

import asyncio
import time

import pytest

from beray.agent import AgentApi, AgentException, AnyServerMessage, MsgEventTextChunk, connection
from beray.http import retry
from tests.agent.scripted_agent import Peer, ScriptedAgent, until
from tests.support import PROMPT_SECONDS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make all pauses 10 ms long and record the numbers of the attempts."""
    attempts: list[int] = []

    def backoff(attempt: int, first: float = 0.25, maximum: float = 8.0) -> float:
        attempts.append(attempt)
        return 0.01

    monkeypatch.setattr(retry, "backoff", backoff)
    return attempts


async def closes_at_once(peer: Peer) -> None:
    await peer.send_status()
    await peer.socket.close(1012)


async def _all(api: AgentApi, text: str) -> list[AnyServerMessage]:
    return [event async for event in api.send_message(text)]


async def test_a_lost_connection_is_reopened(agent: ScriptedAgent, quick: list[int]) -> None:
    ended: list[int] = []
    agent.scripts.extend([closes_at_once] * 3)
    async with AgentApi("a", agent.url, None, lambda: ended.append(1), reconnect=True) as api:
        await until(lambda: len(agent.requests) == 4 and api.connected)
        assert len(await _all(api, "hello there")) == 3
        assert len(ended) == 3
    assert len(ended) == 4
    assert quick == [1, 2, 3], "pauses must grow while connections are lost again"


async def test_without_reconnect_a_lost_connection_stays_closed(
    agent: ScriptedAgent, quick: list[int]
) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url) as api:
        await until(lambda: not api.connected)
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
    assert caught.value.code == "NOT_CONNECTED" and "1012" in caught.value.details
    assert quick == [] and len(agent.requests) == 1


async def test_an_interrupted_answer_raises_and_is_not_requested_again(
    agent: ScriptedAgent,
) -> None:
    heard: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.send_status()
        heard.append((await peer.receive())["text"])
        await peer.send_text("half")
        await peer.socket.close(1011)

    async def rest(peer: Peer) -> None:
        await peer.send_status()
        while True:
            heard.append((await peer.receive())["text"])
            await peer.send_end()

    agent.scripts.extend([script, rest])
    async with AgentApi("a", agent.url, reconnect=True) as api:
        with pytest.raises(AgentException) as caught:
            await _all(api, "first")
        assert caught.value.code == "CONNECTION_ERROR"
        assert caught.value.events == [MsgEventTextChunk(text="half")]
        await _all(api, "second")
    assert heard == ["first", "second"]


async def test_a_message_waits_for_the_reconnection(agent: ScriptedAgent) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        for _ in range(20):
            agent.add_handshake_response(503)
        await until(lambda: not api.connected)
        assert len(await _all(api, "hello")) == 2
        assert len(agent.requests) == 22


async def test_connect_waits_for_the_reconnection(agent: ScriptedAgent) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        agent.add_handshake_response(503)
        await until(lambda: not api.connected)
        await api.connect()
        assert api.connected and len(agent.requests) == 3


async def test_a_restarted_server_is_found_again(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url, reconnect=True) as api:
        port = agent.port
        await agent.stop()
        await until(lambda: not api.connected)
        waiting = asyncio.create_task(_all(api, "hello"))
        await asyncio.sleep(0.1)
        await agent.start(port)
        assert len(await waiting) == 2


@pytest.mark.parametrize("status", [401, 404, 200])
async def test_permanent_error_responses_end_the_reconnection(
    agent: ScriptedAgent, status: int
) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        agent.add_handshake_response(status)
        await until(lambda: not api.connected)
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
        assert (caught.value.code, caught.value.status_code) == ("NOT_CONNECTED", status)
        assert len(agent.requests) == 2
        await api.connect()  # an explicit connect() still tries
        assert len(await _all(api, "hello")) == 2


async def test_a_wrong_first_frame_ends_the_reconnection(agent: ScriptedAgent) -> None:
    async def binary(peer: Peer) -> None:
        await peer.socket.send(b"?")
        await peer.wait_closed()

    agent.scripts.extend([closes_at_once, binary])
    async with AgentApi("a", agent.url, reconnect=True) as api:
        with pytest.raises(AgentException) as caught:
            while True:
                await _all(api, "hello")
        assert caught.value.code in ("CONNECTION_ERROR", "NOT_CONNECTED")
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
        assert caught.value.code == "NOT_CONNECTED" and "binary" in caught.value.details


@pytest.mark.parametrize("by_frame", [False, True])
async def test_a_busy_chat_is_retried(agent: ScriptedAgent, by_frame: bool) -> None:
    async def busy(peer: Peer) -> None:
        await peer.socket.close(1008)

    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        for _ in range(5):
            if by_frame:
                agent.scripts.append(busy)
            else:
                agent.add_handshake_response(403)
        await until(lambda: len(agent.requests) == 7 and api.connected)


@pytest.mark.parametrize(("status", "limit"), [(403, "BUSY_SECONDS"), (503, "RECONNECT_SECONDS")])
async def test_the_reconnection_ends_after_its_time_limit(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, status: int, limit: str
) -> None:
    monkeypatch.setattr(connection, limit, 0.2)
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        for _ in range(1000):
            agent.add_handshake_response(status)
        await until(lambda: not api.connected)
        began_at = time.monotonic()
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
        assert caught.value.status_code == status
        assert time.monotonic() - began_at < PROMPT_SECONDS


async def test_the_first_connect_is_not_retried(agent: ScriptedAgent) -> None:
    agent.add_handshake_response(503)
    with pytest.raises(AgentException):
        await AgentApi("a", agent.url, reconnect=True).connect()
    assert len(agent.requests) == 1


@pytest.mark.parametrize("steps", [0, 1, 3, 10, 30, 100])
async def test_close_during_the_reconnection(agent: ScriptedAgent, steps: int) -> None:
    ended: list[int] = []
    agent.scripts.append(closes_at_once)
    api = AgentApi("a", agent.url, None, lambda: ended.append(1), reconnect=True)
    await api.connect()
    for _ in range(1000):
        agent.add_handshake_response(503)
    waiting = asyncio.create_task(_all(api, "hello"))
    await until(lambda: not api.connected)
    for _ in range(steps):
        await asyncio.sleep(0)
    async with asyncio.timeout(PROMPT_SECONDS):
        await api.close()
    done = await asyncio.gather(waiting, return_exceptions=True)
    assert getattr(done[0], "code", None) in ("NOT_CONNECTED", "CONNECTION_ERROR")
    request_count = len(agent.requests)
    await asyncio.sleep(0.05)
    assert len(agent.requests) == request_count and ended == [1]


async def test_close_prevents_the_reconnection(agent: ScriptedAgent) -> None:
    api = AgentApi("a", agent.url, reconnect=True)
    await api.connect()
    await api.close()
    await asyncio.sleep(0.05)
    assert len(agent.requests) == 1 and not api.connected


async def test_close_from_on_disconnect_prevents_the_reconnection(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beray.agent.callbacks.DRAIN_SECONDS", 60.0)
    closed = asyncio.Event()

    async def on_disconnect() -> None:
        await api.close()
        closed.set()

    agent.scripts.append(closes_at_once)
    api = AgentApi("a", agent.url, on_disconnect=on_disconnect, reconnect=True)
    await api.connect()
    async with asyncio.timeout(PROMPT_SECONDS):
        await closed.wait()
    assert len(agent.requests) == 1
