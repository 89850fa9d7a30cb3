"""Tests of connections that end during an answer, which raises with the events before the end."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest

from beray.agent import AgentApi, AgentException, MsgEventTextChunk, MsgGracefulDisconnect
from tests.agent.scripted_agent import Peer, Script, ScriptedAgent, until
from tests.support import PROMPT_SECONDS


async def interrupted_answer(
    agent: ScriptedAgent, script: Script, **options: object
) -> AgentException:
    """Return the exception of an answer that ``script`` ends after one chunk."""

    async def begin_answer(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.send_text("half")
        await script(peer)

    agent.scripts.append(begin_answer)
    ended: list[int] = []
    api = AgentApi("a", agent.url, on_disconnect=lambda: ended.append(1), **options)  # type: ignore[arg-type]
    await api.connect()
    received: list[object] = []
    started_at = time.monotonic()
    with pytest.raises(AgentException) as caught:
        async for event in api.send_message("hello"):
            received.append(event)  # noqa: PERF401
    assert time.monotonic() - started_at < PROMPT_SECONDS
    assert caught.value.events == received == [MsgEventTextChunk(text="half")]
    await until(lambda: ended)
    assert not api.connected and not api.busy
    with pytest.raises(AgentException) as later:
        await anext(api.send_message("hello?"))
    assert later.value.code == "NOT_CONNECTED"
    await api.close()
    assert ended == [1]
    return caught.value


@pytest.mark.parametrize("code", [*range(1000, 1016), 999, 2999, 3000, 4000, 4999, 5000])
async def test_every_close_code(agent: ScriptedAgent, code: int) -> None:
    async def script(peer: Peer) -> None:
        peer.close_frame(code)
        await peer.wait_closed()

    error = await interrupted_answer(agent, script)
    assert error.code == "CONNECTION_ERROR"


async def test_the_code_and_reason_of_a_close_frame_are_reported(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(4000, "no more credit")

    error = await interrupted_answer(agent, script)
    assert error.details == "the agent closed the connection (4000, no more credit)"


async def test_a_close_frame_without_a_code(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        peer.raw(b"\x88\x00")
        await peer.wait_closed()

    assert (await interrupted_answer(agent, script)).code == "CONNECTION_ERROR"


async def test_a_close_frame_and_then_tcp_stays_open(agent: ScriptedAgent) -> None:
    stay = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.stop_reading()
        peer.close_frame(1000)
        await stay.wait()

    assert (await interrupted_answer(agent, script)).code == "CONNECTION_ERROR"
    stay.set()


async def test_a_reset(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await asyncio.sleep(0.05)  # a reset discards data that the client has not read yet
        peer.reset()

    assert (await interrupted_answer(agent, script)).code == "CONNECTION_ERROR"


async def test_tcp_ends_without_a_close_frame(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        peer.socket.transport.close()

    assert (await interrupted_answer(agent, script)).details == "the connection was lost"


async def test_a_frame_that_violates_the_protocol(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        peer.raw(b"\xff\x00")
        await peer.wait_closed()

    error = await interrupted_answer(agent, script)
    assert error.code == "CONNECTION_ERROR" and "protocol" in error.details


async def test_a_frame_of_100_mib_is_rejected(agent: ScriptedAgent) -> None:
    size = 100 * 1024 * 1024
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        peer.raw(b"\x81\x7f" + struct.pack("!Q", size))
        block = b" " * 65536
        while sent < size and not peer.socket.transport.is_closing():
            peer.raw(block)
            sent += len(block)
            await asyncio.sleep(0)
        await peer.wait_closed()

    error = await interrupted_answer(agent, script)
    assert error.code == "CONNECTION_ERROR" and "larger than max_frame_bytes" in error.details


async def test_the_limit_of_a_frame_can_be_set(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_text("x" * 2000)
        await peer.wait_closed()

    error = await interrupted_answer(agent, script, max_frame_bytes=1000)
    assert "larger than max_frame_bytes" in error.details


async def test_a_half_open_connection_is_found_by_the_heartbeat(agent: ScriptedAgent) -> None:
    stay = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.stop_reading()
        await stay.wait()

    error = await interrupted_answer(agent, script, heartbeat_seconds=0.2)
    assert error.code == "CONNECTION_ERROR" and "no data was received" in error.details
    stay.set()


async def test_a_half_open_connection_is_found_while_a_long_message_is_sent(
    agent: ScriptedAgent,
) -> None:
    stay = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.send_status()
        peer.stop_reading()
        await stay.wait()

    agent.scripts.append(script)
    api = AgentApi("a", agent.url, heartbeat_seconds=0.2)
    await api.connect()
    with pytest.raises(AgentException) as caught:
        async with asyncio.timeout(PROMPT_SECONDS):
            await anext(api.send_message("x" * 30_000_000))
    assert caught.value.code == "CONNECTION_ERROR"
    stay.set()


async def test_close_is_quick_if_the_agent_does_not_read(agent: ScriptedAgent) -> None:
    stay = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.send_status()
        peer.stop_reading()
        await stay.wait()

    agent.scripts.append(script)
    api = AgentApi("a", agent.url)
    await api.connect()
    waiting = asyncio.ensure_future(anext(api.send_message("x" * 30_000_000)))
    await until(lambda: api.busy)
    async with asyncio.timeout(PROMPT_SECONDS):
        await api.close()
    with pytest.raises(AgentException) as caught:
        await waiting
    assert caught.value.code == "NOT_CONNECTED"
    stay.set()


async def test_a_silent_agent_that_answers_pings_is_waited_for(agent: ScriptedAgent) -> None:
    thinking = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await thinking.wait()
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    async with AgentApi("a", agent.url, heartbeat_seconds=0.4) as api:
        answer = asyncio.ensure_future(anext(api.send_message("hard question")))
        done, _ = await asyncio.wait([answer], timeout=1.5)
        assert not done, "answered pings must keep the connection open"
        thinking.set()
        assert (await answer).type == "AGENT_EVENT_END"


async def test_a_graceful_disconnect_goes_to_the_callback(
    agent: ScriptedAgent,
) -> None:
    called: list[object] = []

    async def script(peer: Peer) -> None:
        await peer.send("GRACEFUL_DISCONNECT")
        await peer.socket.close(1001)

    error = await interrupted_answer(agent, script, callback=called.append)
    assert error.code == "CONNECTION_ERROR" and "1001" in error.details
    assert called == [MsgGracefulDisconnect()]


async def test_an_error_of_the_agent_keeps_the_connection_open(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.send_text("half")
        await peer.send("ERROR", code="MODEL_DOWN", details="try later")
        await peer.receive()
        await peer.send_text("whole")
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    async with AgentApi("a", agent.url) as api:
        with pytest.raises(AgentException) as caught:
            [event async for event in api.send_message("hello")]
        assert (caught.value.code, caught.value.details) == ("MODEL_DOWN", "try later")
        assert caught.value.events == [MsgEventTextChunk(text="half")]
        again = [event async for event in api.send_message("hello")]
        assert [event.type for event in again] == ["AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_END"]


async def test_received_messages_are_read_before_the_end_is_reported(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        for number in range(100):
            await peer.send_text(str(number))
        await peer.send_end()
        await peer.socket.close(1011)

    agent.scripts.append(script)
    api = AgentApi("a", agent.url)
    await api.connect()
    answer = api.send_message("count")
    first = await anext(answer)
    await until(lambda: not api.connected)
    rest = [event async for event in answer]
    assert [first.type, len(rest), rest[-1].type] == [
        "AGENT_EVENT_TEXT_CHUNK",
        100,
        "AGENT_EVENT_END",
    ]
    await api.close()
