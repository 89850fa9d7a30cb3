"""Tests of compatibility with the published package: names, callbacks and iteration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import beray.agent.agent_api
import beray.agent.client
import beray.agent.server
from beray.agent import AgentBusyException, AgentException
from beray.agent.agent_api import AgentApi
from beray.agent.client import EClientMessage, MsgUserMessage
from beray.agent.server import EServerMessage, MsgEventEnd, MsgEventTextChunk, ServerMessage
from tests.agent.scripted_agent import Peer, ScriptedAgent, until

SERVER = {
    "AgentEventUnion", "EServerMessage", "MsgError", "MsgEventCustomUpdate", "MsgEventEnd",
    "MsgEventSendFile", "MsgEventTextChunk", "MsgEventToolCallChunk", "MsgEventToolResult",
    "MsgGracefulDisconnect", "MsgStatus", "ServerMessage",
}  # fmt: skip
CLIENT = {"ClientMessage", "EClientMessage", "MsgUserMessage"}


def test_the_published_names() -> None:
    assert set(beray.agent.server.__all__) == SERVER
    assert set(beray.agent.client.__all__) == CLIENT
    own = {"AgentApi", "AgentBusyException", "AgentException"}
    assert set(beray.agent.agent_api.__all__) == SERVER | CLIENT | own


def test_exceptions_of_mocks() -> None:
    error = AgentException("CODE", "details")
    assert (error.code, error.details) == ("CODE", "details")
    assert AgentException(code="CODE", details="details").args == error.args
    assert "taken" in str(AgentBusyException("taken")) and str(AgentBusyException())


def test_types_are_members_of_the_enumerations() -> None:
    for message_type in EServerMessage:
        fields = {"text": "a", "code": "c", "path": "p"}
        message: Any = ServerMessage.validate_python({"type": message_type.value} | fields)
        assert message.type is message_type and message.type == message_type.value
    message = MsgUserMessage(type=EClientMessage.USER_MESSAGE, text="hello")
    message.text += "!"
    assert message.model_dump_json() == '{"type":"USER_MESSAGE","text":"hello!","attachments":[]}'


def with_object(pool: dict[str, Any]) -> Callable[..., object]:
    return lambda api: pool.pop(api.id)


def with_default(pool: dict[str, Any]) -> Callable[..., object]:
    def remove(api: Any = None) -> None:
        del pool[api.id]

    return remove


def without(pool: dict[str, Any]) -> Callable[..., object]:
    return lambda: pool.clear()


def of_coroutine(pool: dict[str, Any]) -> Callable[..., object]:
    async def remove(api: AgentApi) -> None:
        await asyncio.sleep(0)
        del pool[api.id]

    return remove


def of_object(pool: dict[str, Any]) -> Callable[..., object]:
    class Pool:
        def forget(self, api: AgentApi) -> None:
            del pool[api.id]

    return Pool().forget


WAYS = [with_object, with_default, without, of_coroutine, of_object]


@pytest.mark.parametrize("callback", WAYS)
async def test_a_pool_forgets_connections_that_have_ended(
    agent: ScriptedAgent, callback: Callable[[dict[str, Any]], Callable[..., object]]
) -> None:
    pool: dict[str, AgentApi] = {}
    api = AgentApi("agent-1", agent.url, None, callback(pool))
    await api.connect()
    pool[api.id] = api
    (peer,) = agent.peers
    peer.reset()
    await until(lambda: not pool)
    assert not api.connected
    await api.close()


async def test_await_sends_the_message(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url) as api:
        response = await api.send_message("one two")
        assert api.busy
        assert [event async for event in await response] == [
            MsgEventTextChunk(text="one"), MsgEventTextChunk(text="two"), MsgEventEnd(tokens_used=7)
        ]  # fmt: skip
        events = [event async for event in api.send_message("three")]
        assert events == [MsgEventTextChunk(text="three"), MsgEventEnd(tokens_used=7)]


async def test_await_raises_what_the_loop_would(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.wait_closed()

    agent.scripts.append(script)
    api = AgentApi("a", agent.url)
    with pytest.raises(AgentException, match="NOT_CONNECTED"):
        await api.send_message("hello")
    await api.connect()
    first = await api.send_message("hello")
    with pytest.raises(AgentBusyException):
        await api.send_message("hello")
    await first.aclose()
    with pytest.raises(AgentException, match="NOT_CONNECTED"):
        await first
    await api.close()


async def test_an_answer_that_is_awaited_and_dropped_goes_to_the_callback(
    agent: ScriptedAgent,
) -> None:
    rest: list[Any] = []
    async with AgentApi("a", agent.url, rest.append) as api:
        await api.send_message("one")
        await until(lambda: len(rest) == 2)
    assert rest == [MsgEventTextChunk(text="one"), MsgEventEnd(tokens_used=7)]


async def test_callbacks_may_be_replaced(agent: ScriptedAgent) -> None:
    first, second, ended = list[Any](), list[Any](), list[Any]()
    async with AgentApi("a", agent.url, callback=first.append) as api:
        assert api.chat_id == 0 and api.on_disconnect is None
        api.callback, api.on_disconnect = second.append, ended.append
        (peer,) = agent.peers
        await peer.send_text("unasked")
        await until(lambda: second)
    assert (first, ended) == ([], [api])
