"""Tests of messages of other servers: null, unknown types and malformed frames."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from beray.agent import (
    AgentApi,
    AgentException,
    AnyServerMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
)
from beray.events import EVENT, ClientMessage, ServerMessage
from tests.agent.scripted_agent import Peer, ScriptedAgent, until


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            {"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": None, "args_chunk": None,
             "source": None},
            MsgEventToolCallChunk(tool_name=None, args_chunk="", source="main"),
        ),
        (
            {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "a", "source": None},
            MsgEventTextChunk(text="a"),
        ),
        (
            {"type": "AGENT_EVENT_TOOL_RESULT", "tool_name": None, "result": None, "source": None},
            MsgEventToolResult(tool_name="", result=None),
        ),
        (
            {"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": None, "source": None},
            MsgEventCustomUpdate(payload={}),
        ),
        ({"type": "AGENT_EVENT_END", "tokens_used": None}, MsgEventEnd(tokens_used=0)),
        ({"type": "ERROR", "code": "C", "details": None}, MsgError(code="C", details="")),
    ],
)  # fmt: skip
def test_null_is_the_default(frame: dict[str, Any], message: AnyServerMessage) -> None:
    assert ServerMessage.validate_json(json.dumps(frame)) == message
    assert EVENT.validate_python(frame) == message


def test_null_in_a_message_of_a_client() -> None:
    frame = '{"type": "USER_MESSAGE", "text": "a", "attachments": null, "more": null}'
    message = ClientMessage.validate_json(frame)
    assert message.model_dump() == {
        "type": "USER_MESSAGE", "text": "a", "attachments": [], "more": None,
    }  # fmt: skip


async def test_an_answer_of_the_published_server(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        for arguments in ("{", None, "}"):
            await peer.send(
                "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name=None, args_chunk=arguments, source="main"
            )
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    async with AgentApi("a", agent.url) as api:
        events = [event async for event in api.send_message("go")]
        assert api.connected
    arguments = [e.args_chunk for e in events if isinstance(e, MsgEventToolCallChunk)]
    assert arguments == ["{", "", "}"]
    assert len(events) == 4


MALFORMED: list[str | bytes] = [
    "{", "[1]", "", "null", '{"no": "type"}', '{"type": null}', '{"type": ["STATUS"]}',
    '{"type": "AGENT_EVENT_TEXT_CHUNK"}', '{"type": "AGENT_EVENT_TEXT_CHUNK", "text": null}',
    "[" * 100_000, b"\x00\x01",
]  # fmt: skip


@pytest.mark.parametrize("frame", MALFORMED, ids=lambda frame: repr(frame[:20]))
async def test_a_malformed_frame_raises_and_the_connection_stays(
    agent: ScriptedAgent, frame: str | bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.send_text("one")
        await peer.socket.send(frame)
        await peer.send_text("two")
        await peer.send_end()
        await peer.receive()
        await peer.send_text("three")
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    rest: list[Any] = []
    async with AgentApi("a", agent.url, rest.append) as api:
        with pytest.raises(AgentException) as caught:
            async for _ in api.send_message("first"):
                pass
        binary = isinstance(frame, bytes)
        assert caught.value.code == ("UNEXPECTED_MSG_TYPE" if binary else "PARSE_ERROR")
        assert caught.value.events == [MsgEventTextChunk(text="one")]
        assert api.connected
        events = [event async for event in api.send_message("second")]
        assert events == [MsgEventTextChunk(text="three"), MsgEventEnd(tokens_used=7)]
    assert rest == [MsgEventTextChunk(text="two"), MsgEventEnd(tokens_used=7)]
    assert len(agent.requests) == 1


@pytest.mark.parametrize(
    "end", ['{"type": "AGENT_EVENT_END", "tokens_used": "many"}', '{"type": "ERROR", "code": 5}']
)
async def test_a_malformed_end_ends_the_answer(agent: ScriptedAgent, end: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        for _ in range(2):
            await peer.receive()
            await peer.socket.send(end)
        await peer.wait_closed()

    agent.scripts.append(script)
    async with AgentApi("a", agent.url) as api:
        for _ in range(2):
            with pytest.raises(AgentException, match="PARSE_ERROR"):
                await anext(api.send_message("go"))
            assert not api.busy


async def test_an_end_that_cannot_be_recognised_does_not_block_the_next_message(
    agent: ScriptedAgent,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.receive()
        await peer.socket.send("{")
        await peer.receive()
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    async with AgentApi("a", agent.url, heartbeat_seconds=0.5) as api:
        with pytest.raises(AgentException, match="PARSE_ERROR"):
            await anext(api.send_message("first"))
        async with asyncio.timeout(10):
            assert [event async for event in api.send_message("second")] == [
                MsgEventEnd(tokens_used=7)
            ]


async def test_a_malformed_frame_without_a_request_is_logged(
    agent: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.send_status()
        await peer.socket.send("{")
        await peer.receive()
        await peer.send_end()
        await peer.wait_closed()

    agent.scripts.append(script)
    with caplog.at_level(logging.WARNING, "beray.agent"):
        async with AgentApi("a", agent.url) as api:
            await until(lambda: "skipped a frame: PARSE_ERROR" in caplog.text)
            assert [event async for event in api.send_message("go")] == [MsgEventEnd(tokens_used=7)]
