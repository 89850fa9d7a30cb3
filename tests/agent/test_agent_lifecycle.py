"""Tests of opening and closing connections, and of ``on_disconnect``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from beray.agent import AgentApi, AgentException, MsgEventTextChunk
from tests.agent.scripted_agent import Peer, ScriptedAgent, scripted_agent, until
from tests.support import PROMPT_SECONDS


async def _reset(peer: Peer, api: AgentApi) -> None:
    peer.reset()


async def _server_close(peer: Peer, api: AgentApi) -> None:
    await peer.socket.close()


async def _own_close(peer: Peer, api: AgentApi) -> None:
    await api.close()


async def _own_close_thrice(peer: Peer, api: AgentApi) -> None:
    await asyncio.gather(api.close(), api.close(), api.close())


async def _reader_error(peer: Peer, api: AgentApi) -> None:
    peer.raw(b"\x81\x01\xff")  # a text frame that is not UTF-8


async def _both_close(peer: Peer, api: AgentApi) -> None:
    await asyncio.gather(api.close(), peer.socket.close())


@pytest.mark.parametrize(
    "ending", [_reset, _server_close, _own_close, _own_close_thrice, _reader_error, _both_close]
)
@pytest.mark.parametrize("answering", [False, True])
async def test_on_disconnect_is_called_once_for_any_reason(
    agent: ScriptedAgent, ending: Callable[[Peer, AgentApi], Awaitable[None]], answering: bool
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.send_text("half")
        await peer.wait_closed()

    agent.scripts.append(script)
    ended: list[int] = []

    async def on_disconnect() -> None:
        ended.append(1)

    api = AgentApi("a", agent.url, on_disconnect=on_disconnect)
    await api.connect()
    answer = api.send_message("hello")
    waiting: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    if answering:
        await anext(answer)
        waiting = asyncio.ensure_future(anext(answer))
        await asyncio.sleep(0)
    (peer,) = agent.peers
    await ending(peer, api)
    if answering:
        with pytest.raises(AgentException) as caught:
            async with asyncio.timeout(PROMPT_SECONDS):
                await waiting
        assert caught.value.events == [MsgEventTextChunk(text="half")]
    await until(lambda: ended)
    await api.close()
    await api.close()
    assert ended == [1]


async def test_connect_twice_is_one_connection(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url) as api:
        await api.connect()
        await asyncio.gather(*(api.connect() for _ in range(5)))
        assert len(agent.requests) == 1


async def test_concurrent_connects_share_one_connection(agent: ScriptedAgent) -> None:
    api = AgentApi("a", agent.url)
    await asyncio.gather(*(api.connect() for _ in range(10)))
    assert len(agent.requests) == 1
    await api.close()


async def test_concurrent_connects_fail_together(agent: ScriptedAgent) -> None:
    for _ in range(5):
        agent.add_handshake_response(500)
    api = AgentApi("a", agent.url)
    done = await asyncio.gather(*(api.connect() for _ in range(5)), return_exceptions=True)
    assert [getattr(result, "status_code", None) for result in done] == [500] * 5


async def test_a_closed_connection_can_be_reopened(agent: ScriptedAgent) -> None:
    ended: list[int] = []
    api = AgentApi("a", agent.url, on_disconnect=lambda: ended.append(1))
    for count in range(1, 4):
        await api.connect()
        assert [event.type async for event in api.send_message("")] == ["AGENT_EVENT_END"]
        await api.close()
        assert len(ended) == count
        with pytest.raises(AgentException) as caught:
            await anext(api.send_message("hello"))
        assert caught.value.code == "NOT_CONNECTED"


async def test_before_connect_there_is_no_connection(agent: ScriptedAgent) -> None:
    api = AgentApi("a", agent.url)
    with pytest.raises(AgentException) as caught:
        await anext(api.send_message("hello"))
    assert caught.value.code == "NOT_CONNECTED"
    await api.close()


async def test_close_while_it_is_being_opened(agent: ScriptedAgent) -> None:
    agent.scripts.extend([Peer.wait_closed, Peer.wait_closed])
    api = AgentApi("a", agent.url)
    opening = [asyncio.create_task(api.connect()) for _ in range(3)]
    await until(lambda: agent.peers)
    began_at = time.monotonic()
    await api.close()
    done = await asyncio.gather(*opening, return_exceptions=True)
    assert time.monotonic() - began_at < PROMPT_SECONDS
    assert [getattr(result, "code", None) for result in done] == ["NOT_CONNECTED"] * 3
    await until(lambda: not agent.peers)
    assert len(agent.requests) == 1


@pytest.mark.parametrize("steps", [*range(12), 50, 200])
async def test_a_cancelled_connect_leaks_nothing(agent: ScriptedAgent, steps: int) -> None:
    ended: list[int] = []
    api = AgentApi("a", agent.url, on_disconnect=lambda: ended.append(1))
    opening = asyncio.create_task(api.connect())
    for _ in range(steps):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    if opening.cancelled():
        assert not api.connected
    await api.close()
    await until(lambda: not agent.peers)
    await api.connect()
    await api.close()


@pytest.mark.parametrize("steps", [*range(12), 50, 200])
async def test_close_at_any_moment_of_a_connect(agent: ScriptedAgent, steps: int) -> None:
    api = AgentApi("a", agent.url)
    opening = [asyncio.create_task(api.connect()) for _ in range(2)]
    for _ in range(steps):
        await asyncio.sleep(0)
    await api.close()
    if steps:
        assert not api.connected
    await asyncio.wait(opening)
    await api.close()
    await until(lambda: not agent.peers)
    async with asyncio.timeout(PROMPT_SECONDS):
        await api.connect()
    await api.close()


async def test_a_connect_succeeds_although_a_concurrent_one_is_cancelled(
    agent: ScriptedAgent,
) -> None:
    agent.scripts.append(Peer.wait_closed)
    api = AgentApi("a", agent.url)
    first, second = asyncio.create_task(api.connect()), asyncio.create_task(api.connect())
    await until(lambda: agent.peers)
    first.cancel()
    await second
    assert api.connected and first.cancelled()
    await api.close()


@pytest.mark.parametrize("wrapped", [False, True])
async def test_close_from_a_callback(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch, wrapped: bool
) -> None:
    monkeypatch.setattr("beray.agent.callbacks.DRAIN_SECONDS", 60.0)
    order: list[str] = []

    async def close(where: str) -> None:
        async with asyncio.timeout(PROMPT_SECONDS):
            await (asyncio.create_task(api.close()) if wrapped else api.close())
        order.append(where)

    api = AgentApi(
        "a",
        agent.url,
        callback=lambda _: close("callback"),
        on_disconnect=lambda: close("on_disconnect"),
    )
    await api.connect()
    (peer,) = agent.peers
    await peer.send_text("go away")
    await until(lambda: len(order) == 2)
    assert order == ["callback", "on_disconnect"]
    await api.close()


async def test_on_disconnect_may_connect_again(agent: ScriptedAgent) -> None:
    ended: list[int] = []

    async def on_disconnect() -> None:
        ended.append(1)
        if len(ended) < 4:
            await api.connect()

    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.socket.close()

    agent.scripts.extend([script, script, script])
    api = AgentApi("a", agent.url, on_disconnect=on_disconnect)
    await api.connect()
    await until(lambda: len(ended) == 3 and api.connected)
    await api.close()
    assert len(ended) == 4 and len(agent.requests) == 4


async def test_close_does_not_wait_for_a_callback_without_end(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beray.agent.callbacks.DRAIN_SECONDS", 0.2)
    never = asyncio.Event()

    async def on_disconnect() -> None:
        await never.wait()

    api = AgentApi("a", agent.url, on_disconnect=on_disconnect)
    await api.connect()
    async with asyncio.timeout(PROMPT_SECONDS):
        await api.close()
    never.set()
    await asyncio.sleep(0.01)


def test_closing_the_event_loop_ends_the_connection() -> None:
    ended: list[str] = []

    async def main() -> None:
        async with scripted_agent() as agent:
            api = AgentApi("a", agent.url, on_disconnect=lambda: ended.append("called"))
            await api.connect()
            raise KeyError("a script that fails and closes nothing")

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert ended == ["called"]
