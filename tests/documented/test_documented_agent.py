"""Every snippet of the documents of ``lambda_agent_api``, rewritten, against a BeRay server.

Version 1.0 passes the URL of the WebSocket and awaits ``send_message``; version 1.1 passes the
base URL and iterates directly. A BeRay server needs a token, which neither document has: it is an
argument here, or part of the URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.agent.agent_api import AgentApi, AgentBusyException, AgentException
from beray.agent.server import (
    AgentEventUnion,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
    ServerMessage,
)
from beray.testing import access_token, authorization
from tests.agent.scripted_agent import until
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer


@pytest.fixture
def account(models: ModelServer) -> Iterator[BeRayClient]:
    with models.server.sign_up() as account:
        yield account


@pytest.fixture
def make(models: ModelServer, account: BeRayClient) -> Callable[..., AgentApi]:
    """Make an ``AgentApi`` in the spelling of a version, with a token."""
    token = authorization(account)["Authorization"]
    base = models.server.url.replace("http", "ws", 1)
    in_url = base.replace("//", f"//x:{access_token(account)}@")

    def make(spelling: str = "1.1", *more: Any, **options: Any) -> AgentApi:
        match spelling:
            case "1.0":
                return AgentApi("agent-1", f"{base}/agent_ws/", *more, token=token, **options)
            case "1.0, token in the URL":
                return AgentApi("agent-1", f"{in_url}/agent_ws/", *more, **options)
            case "1.1, token in the URL":
                return AgentApi("agent-1", f"{in_url}/", *more, **options)
        return AgentApi("agent-1", f"{base}/", *more, token=token, **options)

    return make


@asynccontextmanager
async def connected(api: AgentApi) -> AsyncIterator[AgentApi]:
    """Connect and close, as the documents do without ``async with``."""
    await api.connect()
    try:
        yield api
    finally:
        await api.close()


SPELLINGS = pytest.mark.parametrize("spelling", ["1.0", "1.1"])
WITH_TOKENS = pytest.mark.parametrize(
    "spelling", ["1.0", "1.1", "1.0, token in the URL", "1.1, token in the URL"]
)


@WITH_TOKENS
async def test_quick_start(
    make: Callable[..., AgentApi], spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with connected(make(spelling)) as api:
        response = await api.send_message("!echo hello, agent")
        async for chunk in response:
            if isinstance(chunk, MsgEventTextChunk):
                print(chunk.text, end="", flush=True)
            elif isinstance(chunk, MsgEventEnd):
                print(f"Generation ended, tokens used: {chunk.tokens_used}")
        async for chunk in api.send_message("!echo directly"):
            if isinstance(chunk, MsgEventTextChunk):
                print(chunk.text, end="", flush=True)
    out = capsys.readouterr().out
    assert "hello, agent\n" in out and "tokens used: 0" in out and "directly\n" in out


@SPELLINGS
async def test_events_of_tools(
    models: ModelServer, make: Callable[..., AgentApi], account: BeRayClient, spelling: str
) -> None:
    models.script(
        f"look {spelling}",
        Reply(text=["I look."], calls=[Call("list_files", {"path": "."})]),
        Reply(text=["Nothing."]),
    )
    seen: list[str] = []
    async with connected(make(spelling)) as api:
        async for event in api.send_message(f"look {spelling}"):
            match event:
                case MsgEventTextChunk():
                    seen.append(event.text)
                case MsgEventToolCallChunk():
                    if event.tool_name:
                        seen.append(f"call {event.tool_name}")
                    assert isinstance(event.args_chunk, str)
                case MsgEventToolResult():
                    seen.append(f"result of {event.tool_name}")
                case MsgEventEnd():
                    assert event.tokens_used > 0
                    seen.append("end")
    assert "call list_files" in seen and "result of list_files" in seen
    assert "Nothing." in "".join(seen) and seen[-1] == "end"


async def test_chats_attachments_and_files(
    models: ModelServer, make: Callable[..., AgentApi], account: BeRayClient
) -> None:
    chat = account.open_chat("notes")
    account.upload_file(chat["id"], "reports/in.txt", "attached")
    models.script(
        "hello",
        Reply(text=["Hello."]),
        Reply(calls=[Call("send_file", {"path": "reports/in.txt"})]),
        Reply(text=["Sent."]),
    )
    async with connected(make("1.1", chat_id="notes")) as api:
        assert [event async for event in api.send_message("hello")]
        events = [event async for event in api.send_message("send it back", ["reports/in.txt"])]
    sent = [event.path for event in events if isinstance(event, MsgEventSendFile)]
    assert sent == ["reports/in.txt"]
    assert account.get_file_content(chat["id"], sent[0]).text == "attached"


@SPELLINGS
async def test_a_busy_chat(make: Callable[..., AgentApi], spelling: str) -> None:
    async with connected(make(spelling)):
        with pytest.raises(AgentBusyException):
            await make(spelling).connect()
    api = make(spelling)

    async def connect() -> None:
        while True:  # the server notices the end of the first connection a moment later
            with suppress(AgentBusyException):
                return await api.connect()
            await asyncio.sleep(0.02)

    async with asyncio.timeout(30):
        await connect()
    assert api.connected
    await api.close()


@SPELLINGS
async def test_one_request_at_a_time(
    make: Callable[..., AgentApi], account: BeRayClient, spelling: str
) -> None:
    async with connected(make(spelling)) as api:
        task = account.open_chat(0)
        answer = await api.send_message("!echo one; while [ ! -e go ]; do sleep 0.05; done")
        assert isinstance(await anext(answer), MsgEventTextChunk)
        with pytest.raises(AgentBusyException):
            await api.send_message("!echo two")
        account.upload_file(task["id"], "go", b"")
        events: list[AgentEventUnion] = [event async for event in answer]
        assert isinstance(events[-1], MsgEventEnd)


@SPELLINGS
async def test_the_pool_of_connections(
    models: ModelServer, make: Callable[..., AgentApi], spelling: str
) -> None:
    """A bot keeps one connection, reuses it, and forgets it when it ends."""
    pool: dict[str, AgentApi] = {}

    def on_disconnect(api: AgentApi) -> None:
        pool.pop(api.id, None)

    async def on_message(text: str) -> str:
        api = pool.get("agent-1")
        if api is None:
            api = make(spelling, None, on_disconnect)
            await api.connect()
            pool[api.id] = api
        chunks = [c.text async for c in api.send_message(text) if isinstance(c, MsgEventTextChunk)]
        return "".join(chunks)

    assert await on_message("!echo first") == "first\n"
    first = pool["agent-1"]
    assert await on_message("!echo second") == "second\n"
    assert pool["agent-1"] is first and first.url.endswith(
        "/agent_ws/0/" if spelling == "1.1" else "/agent_ws/"
    )
    models.server.restart()
    await until(lambda: not pool, 30)
    assert await on_message("!echo third") == "third\n"
    assert pool["agent-1"] is not first
    await pool["agent-1"].close()
    assert pool == {}


@SPELLINGS
async def test_the_rest_of_an_answer_goes_to_the_callback(
    make: Callable[..., AgentApi], spelling: str
) -> None:
    rest: list[Any] = []
    async with connected(make(spelling, rest.append)) as api:
        async for event in api.send_message("!echo one; sleep 0.1; echo two"):
            assert isinstance(event, MsgEventTextChunk)
            break
        del event
        answer = [event async for event in api.send_message("!echo three")]
    assert isinstance(rest[-1], MsgEventEnd)
    assert [e.text for e in answer if isinstance(e, MsgEventTextChunk)] == ["three\n"]


@SPELLINGS
async def test_codes_of_exceptions(make: Callable[..., AgentApi], spelling: str) -> None:
    api = make(spelling)
    with pytest.raises(AgentException) as early:
        await api.send_message("hello")
    assert early.value.code == "NOT_CONNECTED" and early.value.details
    with pytest.raises(AgentException) as nowhere:
        await AgentApi("agent-1", "ws://127.0.0.1:9/ws").connect()
    assert nowhere.value.code == "CONNECTION_ERROR"
    async with connected(api):
        with pytest.raises(AgentException) as refused:
            async for _ in api.send_message("!echo", ["no/such/file.txt"]):
                pass
        assert refused.value.code and refused.value.details


def test_messages_of_the_server() -> None:
    message = ServerMessage.validate_json('{"type": "AGENT_EVENT_TEXT_CHUNK", "text": "a"}')
    assert message == MsgEventTextChunk(text="a")
    assert isinstance(ServerMessage.validate_python({"type": "AGENT_EVENT_END"}), MsgEventEnd)


def test_the_program_of_the_document(
    models: ModelServer, account: BeRayClient, tmp_path: Path
) -> None:
    """The documents run their coroutine with ``asyncio.run``."""
    base = models.server.url.replace("http", "ws", 1)
    token = authorization(account)["Authorization"]

    async def main() -> str:
        api = AgentApi("agent-1", base, token=token)
        await api.connect()
        try:
            response = await api.send_message("!echo hello")
            return "".join([c.text async for c in response if isinstance(c, MsgEventTextChunk)])
        finally:
            await api.close()

    assert asyncio.run(main()) == "hello\n"
