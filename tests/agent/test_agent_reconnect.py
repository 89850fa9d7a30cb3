"""With ``reconnect=True`` a lost connection comes back; an answer that broke off never does."""

from __future__ import annotations

import asyncio
import time

import pytest

from beray.agent import AgentApi, AgentException, AnyServerMessage, MsgEventTextChunk, connection
from beray.http import retry
from tests.agent.scripted_agent import Peer, ScriptedAgent, until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pauses of 10 ms; the numbers of the attempts they were asked for."""
    attempts: list[int] = []

    def backoff(attempt: int, first: float = 0.25, longest: float = 8.0) -> float:
        attempts.append(attempt)
        return 0.01

    monkeypatch.setattr(retry, "backoff", backoff)
    return attempts


async def closes_at_once(peer: Peer) -> None:
    await peer.status()
    await peer.socket.close(1012)


async def _all(api: AgentApi, text: str) -> list[AnyServerMessage]:
    return [event async for event in api.send_message(text)]


async def test_a_lost_connection_is_opened_again(agent: ScriptedAgent, quick: list[int]) -> None:
    ended: list[int] = []
    agent.scripts.extend([closes_at_once] * 3)
    async with AgentApi("a", agent.url, None, lambda: ended.append(1), reconnect=True) as api:
        await until(lambda: len(agent.requests) == 4 and api.connected)
        assert len(await _all(api, "hello there")) == 3
        assert len(ended) == 3
    assert len(ended) == 4
    assert quick == [1, 2, 3], "what is lost again at once is waited for longer"


async def test_without_reconnect_it_is_not(agent: ScriptedAgent, quick: list[int]) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url) as api:
        await until(lambda: not api.connected)
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
    assert caught.value.code == "NOT_CONNECTED" and "1012" in caught.value.details
    assert quick == [] and len(agent.requests) == 1


async def test_an_answer_that_breaks_off_raises_and_is_not_asked_for_again(
    agent: ScriptedAgent,
) -> None:
    heard: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.status()
        heard.append((await peer.heard())["text"])
        await peer.chunk("half")
        await peer.socket.close(1011)

    async def rest(peer: Peer) -> None:
        await peer.status()
        while True:
            heard.append((await peer.heard())["text"])
            await peer.end()

    agent.scripts.extend([script, rest])
    async with AgentApi("a", agent.url, reconnect=True) as api:
        with pytest.raises(AgentException) as caught:
            await _all(api, "first")
        assert caught.value.code == "CONNECTION_ERROR"
        assert caught.value.events == [MsgEventTextChunk(text="half")]
        await _all(api, "second")
    assert heard == ["first", "second"]


async def test_a_message_waits_while_the_connection_comes_back(agent: ScriptedAgent) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        for _ in range(20):
            agent.answer(503)
        await until(lambda: not api.connected)
        assert len(await _all(api, "hello")) == 2
        assert len(agent.requests) == 22


async def test_connect_waits_while_the_connection_comes_back(agent: ScriptedAgent) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        agent.answer(503)
        await until(lambda: not api.connected)
        await api.connect()
        assert api.connected and len(agent.requests) == 3


async def test_a_server_that_was_away_comes_back(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url, reconnect=True) as api:
        port = agent.port
        await agent.stop()
        await until(lambda: not api.connected)
        waiting = asyncio.create_task(_all(api, "hello"))
        await asyncio.sleep(0.1)
        await agent.start(port)
        assert len(await waiting) == 2


@pytest.mark.parametrize("status", [401, 404, 200])
async def test_a_refusal_that_does_not_pass_is_the_end(agent: ScriptedAgent, status: int) -> None:
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        agent.answer(status)
        await until(lambda: not api.connected)
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
        assert (caught.value.code, caught.value.status_code) == ("NOT_CONNECTED", status)
        assert len(agent.requests) == 2
        await api.connect()  # who knows better may try
        assert len(await _all(api, "hello")) == 2


async def test_a_first_frame_that_is_wrong_is_the_end(agent: ScriptedAgent) -> None:
    async def binary(peer: Peer) -> None:
        await peer.socket.send(b"?")
        await peer.gone()

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
async def test_a_busy_chat_is_tried_again(agent: ScriptedAgent, by_frame: bool) -> None:
    async def busy(peer: Peer) -> None:
        await peer.socket.close(1008)

    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        for _ in range(5):
            if by_frame:
                agent.scripts.append(busy)
            else:
                agent.answer(403)
        await until(lambda: len(agent.requests) == 7 and api.connected)


@pytest.mark.parametrize(("status", "limit"), [(403, "BUSY_SECONDS"), (503, "RECONNECT_SECONDS")])
async def test_it_is_given_up_after_a_while(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, status: int, limit: str
) -> None:
    monkeypatch.setattr(connection, limit, 0.2)
    agent.scripts.append(closes_at_once)
    async with AgentApi("a", agent.url, reconnect=True) as api:
        for _ in range(1000):
            agent.answer(status)
        await until(lambda: not api.connected)
        began_at = time.monotonic()
        with pytest.raises(AgentException) as caught:
            await _all(api, "hello")
        assert caught.value.status_code == status
        assert time.monotonic() - began_at < 2


async def test_the_first_connect_does_not_try_twice(agent: ScriptedAgent) -> None:
    agent.answer(503)
    with pytest.raises(AgentException):
        await AgentApi("a", agent.url, reconnect=True).connect()
    assert len(agent.requests) == 1


@pytest.mark.parametrize("steps", [0, 1, 3, 10, 30, 100])
async def test_close_while_the_connection_comes_back(agent: ScriptedAgent, steps: int) -> None:
    ended: list[int] = []
    agent.scripts.append(closes_at_once)
    api = AgentApi("a", agent.url, None, lambda: ended.append(1), reconnect=True)
    await api.connect()
    for _ in range(1000):
        agent.answer(503)
    waiting = asyncio.create_task(_all(api, "hello"))
    await until(lambda: not api.connected)
    for _ in range(steps):
        await asyncio.sleep(0)
    async with asyncio.timeout(3):
        await api.close()
    done = await asyncio.gather(waiting, return_exceptions=True)
    assert getattr(done[0], "code", None) in ("NOT_CONNECTED", "CONNECTION_ERROR")
    asked = len(agent.requests)
    await asyncio.sleep(0.05)
    assert len(agent.requests) == asked and ended == [1]


async def test_close_ends_it_for_good(agent: ScriptedAgent) -> None:
    api = AgentApi("a", agent.url, reconnect=True)
    await api.connect()
    await api.close()
    await asyncio.sleep(0.05)
    assert len(agent.requests) == 1 and not api.connected


async def test_close_from_on_disconnect_keeps_it_closed(agent: ScriptedAgent) -> None:
    closed = asyncio.Event()

    async def on_disconnect() -> None:
        await api.close()
        closed.set()

    agent.scripts.append(closes_at_once)
    api = AgentApi("a", agent.url, on_disconnect=on_disconnect, reconnect=True)
    await api.connect()
    async with asyncio.timeout(3):
        await closed.wait()
    assert len(agent.requests) == 1
