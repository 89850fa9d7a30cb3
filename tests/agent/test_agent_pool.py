"""Tests of the connection pool: opening on demand, closing when idle, and the limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from beray.agent import AgentApi, AgentBusyException, AgentException, ConnectionPool
from tests.agent.scripted_agent import Peer, ScriptedAgent, until


def pool_of(
    agent: ScriptedAgent, opened: list[str] | None = None, **options: Any
) -> ConnectionPool:
    def open_chat(agent_id: str, chat_id: int | str) -> AgentApi:
        if opened is not None:
            opened.append(f"{agent_id}/{chat_id}")
        return AgentApi(agent_id, agent.url, lambda _: None, chat_id=chat_id)

    return ConnectionPool(open_chat, **options)


async def ask(pool: ConnectionPool, person: str, text: str = "hello") -> list[str]:
    async with pool.chat("main", person) as api:
        return [getattr(event, "text", "") async for event in api.send_message(text)]


async def test_a_chat_is_opened_on_demand_and_kept(agent: ScriptedAgent) -> None:
    opened: list[str] = []
    async with pool_of(agent, opened) as pool:
        assert len(pool) == 0
        for _ in range(3):
            assert await ask(pool, "alice") == ["hello", ""]
        await ask(pool, "bob")
        assert opened == ["main/alice", "main/bob"]
        assert [request.path for request in agent.requests] == [
            "/v1/agent_ws/alice/",
            "/v1/agent_ws/bob/",
        ]
    assert len(pool) == 0
    await until(lambda: not agent.peers)


async def test_fifty_users_share_ten_connections(agent: ScriptedAgent) -> None:
    async def echo(peer: Peer) -> None:
        await peer.send_status()
        while True:
            message = await peer.receive()
            await peer.send_text(f"{peer.chat_id}:{message['text']}")
            await asyncio.sleep(0.01)
            await peer.send_end()

    agent.default_script = echo
    people = [f"p{number}" for number in range(50)]
    async with pool_of(agent, limit=10) as pool:
        questions = [(person, str(turn)) for turn in range(2) for person in people]
        answers = await asyncio.gather(*(ask(pool, *question) for question in questions))
        assert [answer[0] for answer in answers] == [
            f"{person}:{turn}" for person, turn in questions
        ]
        assert len(pool) == 10
    assert agent.max_open == 10


async def test_requests_for_a_chat_wait_in_order(agent: ScriptedAgent) -> None:
    heard: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.send_status()
        while True:
            heard.append((await peer.receive())["text"])
            await peer.send_end()

    agent.default_script = script
    async with pool_of(agent) as pool:
        await asyncio.gather(*(ask(pool, "alice", str(number)) for number in range(10)))
    assert heard == [str(number) for number in range(10)]
    assert len(agent.requests) == 1


async def test_an_idle_connection_is_closed(agent: ScriptedAgent) -> None:
    async with pool_of(agent, idle_seconds=0.1) as pool:
        await ask(pool, "alice")
        assert len(pool) == 1
        await until(lambda: len(pool) == 0 and not agent.peers)
        assert await ask(pool, "alice") == ["hello", ""]


async def test_a_connection_in_use_is_not_idle(agent: ScriptedAgent) -> None:
    async with pool_of(agent, idle_seconds=0.05) as pool:
        await ask(pool, "alice")
        async with pool.chat("main", "alice") as api:
            await asyncio.sleep(0.2)
            assert api.connected


async def test_an_abandoned_answer_keeps_its_connection_open(agent: ScriptedAgent) -> None:
    go_on = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.send_text("one")
        await go_on.wait()
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(slow)
    async with pool_of(agent, idle_seconds=0.05) as pool:
        async with pool.chat("main", "alice") as api:
            async for _ in api.send_message("hello"):
                break
        await asyncio.sleep(0.2)
        assert api.connected
        go_on.set()
        await until(lambda: len(pool) == 0)


async def test_a_full_pool_closes_the_longest_idle_connection(agent: ScriptedAgent) -> None:
    opened: list[str] = []
    async with pool_of(agent, opened, limit=2) as pool:
        for person in ("alice", "bob", "alice", "carol", "alice", "bob"):
            await ask(pool, person)
    assert opened == [f"main/{person}" for person in ("alice", "bob", "carol", "bob")]
    assert agent.max_open == 2


async def test_a_full_pool_without_idle_connections_waits_and_then_raises(
    agent: ScriptedAgent,
) -> None:
    async with (
        pool_of(agent, limit=1, wait_seconds=0.2) as pool,
        pool.chat("main", "alice"),
    ):
        with pytest.raises(AgentException) as timed_out:
            await ask(pool, "bob")
        with pytest.raises(AgentBusyException):
            await ask(pool, "alice")
    assert timed_out.value.code == "TIMEOUT" and "all 1 connections" in timed_out.value.details


async def test_a_request_that_waits_gets_the_released_connection(agent: ScriptedAgent) -> None:
    async with pool_of(agent, limit=1) as pool:
        async with pool.chat("main", "alice"):
            waiting = asyncio.create_task(ask(pool, "carol"))
            await asyncio.sleep(0.02)
        assert await waiting == ["hello", ""]


async def test_a_cancelled_request_takes_no_connection(agent: ScriptedAgent) -> None:
    async with pool_of(agent, limit=1, wait_seconds=5) as pool:
        async with pool.chat("main", "alice"):
            waiting = [asyncio.create_task(ask(pool, str(number))) for number in range(4)]
            await asyncio.sleep(0.02)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
        assert await ask(pool, "bob") == ["hello", ""]


async def test_a_connection_assigned_to_a_cancelled_request_is_released(
    agent: ScriptedAgent,
) -> None:
    async with pool_of(agent, limit=1, wait_seconds=5) as pool:
        async with pool.chat("main", "alice"):
            waiting = asyncio.create_task(ask(pool, "alice"))
            await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await ask(pool, "bob") == ["hello", ""]
    assert waiting.cancelled()


async def test_a_lost_connection_is_reopened(agent: ScriptedAgent) -> None:
    async with pool_of(agent) as pool:
        await ask(pool, "alice")
        for peer in list(agent.peers):
            peer.reset()
        await until(lambda: not agent.peers)
        await asyncio.sleep(0.05)
        assert await ask(pool, "alice") == ["hello", ""]
    assert len(agent.requests) == 2


async def test_a_failed_opening_releases_its_place(agent: ScriptedAgent) -> None:
    async with pool_of(agent, limit=1, wait_seconds=2) as pool:
        for status in (403, 500):
            agent.add_handshake_response(status)
            with pytest.raises(AgentException) as caught:
                await ask(pool, "alice")
            assert caught.value.status_code == status
        assert await ask(pool, "bob") == ["hello", ""]


async def test_a_failed_factory_releases_its_place(agent: ScriptedAgent) -> None:
    def failing(agent_id: str, chat_id: int | str) -> AgentApi:
        raise KeyError(agent_id)

    async with ConnectionPool(failing, limit=1, wait_seconds=1) as pool:
        for _ in range(3):
            with pytest.raises(KeyError):
                await ask(pool, "alice")


async def test_aclose_ends_everything(agent: ScriptedAgent) -> None:
    async def mute(peer: Peer) -> None:
        await peer.send_status()
        await peer.wait_closed()

    agent.scripts.extend([mute, mute, Peer.wait_closed])
    pool = pool_of(agent, limit=3)
    requests = [asyncio.create_task(ask(pool, str(number))) for number in range(5)]
    await until(lambda: len(agent.peers) == 3)
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await pool.aclose()
        await pool.aclose()
    done = await asyncio.gather(*requests, return_exceptions=True)
    assert [getattr(result, "code", None) for result in done] == ["NOT_CONNECTED"] * 5
    assert len(pool) == 0
    with pytest.raises(AgentException):
        await ask(pool, "late")


async def test_aclose_immediately_after_a_request(agent: ScriptedAgent) -> None:
    for steps in range(8):
        pool = pool_of(agent)
        request = asyncio.create_task(ask(pool, "alice"))
        for _ in range(steps):
            await asyncio.sleep(0)
        await pool.aclose()
        await asyncio.wait([request])
        assert request.exception() is not None
        await until(lambda: not agent.peers)


def test_the_limit_must_be_positive() -> None:
    with pytest.raises(ValueError):
        ConnectionPool(lambda agent_id, chat_id: AgentApi(agent_id, "http://h"), limit=0)
