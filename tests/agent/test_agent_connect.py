"""Tests of failures between the handshake and STATUS; each raises its exception in time."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import ssl
import subprocess
import sys
import time

import pytest
import trustme

from beray.agent import AgentApi, AgentBusyException, AgentException, websocket
from beray.exceptions import ConfigurationError, InvalidArgument
from tests.agent.scripted_agent import Peer, ScriptedAgent, scripted_agent
from tests.support import PROMPT_SECONDS

PUBLISHED = (websocket.STATUS_SECONDS, websocket.HEARTBEAT_SECONDS)


@pytest.fixture(autouse=True)
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "STATUS_SECONDS", 0.4)
    monkeypatch.setattr(websocket, "OPEN_SECONDS", 0.6)


async def connect_error(agent: ScriptedAgent, **options: object) -> AgentException:
    """Return the exception of ``connect()``, which must raise in time and leak nothing."""
    ended = []
    api = AgentApi("a", agent.url, on_disconnect=lambda: ended.append(1), **options)  # type: ignore[arg-type]
    began_at = time.monotonic()
    with pytest.raises(AgentException) as caught:
        await api.connect()
    assert time.monotonic() - began_at < PROMPT_SECONDS
    assert not api.connected
    with pytest.raises(AgentException) as later:
        await anext(api.send_message("hello"))
    assert later.value.code == "NOT_CONNECTED"
    await api.close()
    assert not ended, "on_disconnect was called without a connection"
    return caught.value


async def test_connect_waits_for_status(agent: ScriptedAgent) -> None:
    async with AgentApi("a", agent.url, chat_id=7) as api:
        assert api.connected
        assert agent.requests[0].path == "/v1/agent_ws/7/"
    assert not api.connected


async def test_a_missing_status_is_a_timeout(agent: ScriptedAgent) -> None:
    agent.scripts.append(Peer.wait_closed)
    error = await connect_error(agent)
    assert error.code == "TIMEOUT" and not error.lasting


def test_the_published_deadlines() -> None:
    assert PUBLISHED == (5.0, 30.0)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type": "AGENT_EVENT_TEXT_CHUNK", "text": "hi"}', "INVALID_STATUS"),
        ('{"type": "GRACEFUL_DISCONNECT"}', "INVALID_STATUS"),
        ('{"type": "SOMETHING_NEW"}', "INVALID_STATUS"),
        ('{"type": "ERROR", "code": "MAINTENANCE", "details": "later"}', "MAINTENANCE"),
        (b"\x00\x01", "UNEXPECTED_MSG_TYPE"),
        ("{not json", "PARSE_ERROR"),
        ("[" * 100_000, "PARSE_ERROR"),
        ('{"no": "type"}', "PARSE_ERROR"),
        ('{"type": ["STATUS"]}', "PARSE_ERROR"),
        ("null", "PARSE_ERROR"),
    ],
)
async def test_a_wrong_first_frame(agent: ScriptedAgent, frame: str | bytes, code: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.send(frame)
        await peer.wait_closed()

    agent.scripts.append(script)
    assert (await connect_error(agent)).code == code


async def test_text_that_is_not_utf8_is_a_parse_error(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        peer.raw(b"\x81\x02\xff\xfe")
        await peer.wait_closed()

    agent.scripts.append(script)
    assert (await connect_error(agent)).code == "PARSE_ERROR"


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1011, 1013, 4000])
async def test_closed_before_status(agent: ScriptedAgent, code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(code)

    agent.scripts.append(script)
    error = await connect_error(agent)
    assert error.code == "CONNECTION_ERROR" and str(code) in error.details


async def test_a_policy_violation_before_status_is_a_busy_chat(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        await peer.socket.close(1008, "one client per chat")

    agent.scripts.append(script)
    error = await connect_error(agent)
    assert isinstance(error, AgentBusyException) and error.details == "one client per chat"


async def test_a_reset_before_status(agent: ScriptedAgent) -> None:
    async def script(peer: Peer) -> None:
        peer.reset()

    agent.scripts.append(script)
    assert (await connect_error(agent)).code == "CONNECTION_ERROR"


async def test_403_is_a_busy_chat(agent: ScriptedAgent) -> None:
    agent.add_handshake_response(403)
    error = await connect_error(agent)
    assert isinstance(error, AgentBusyException) and error.status_code == 403
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, again.details) == (
        AgentBusyException,
        error.code,
        error.details,
    )


@pytest.mark.parametrize(
    ("status", "lasting"), [(200, True), (401, True), (404, True), (429, False), (500, False)]
)
async def test_other_responses_to_the_handshake(
    agent: ScriptedAgent, status: int, lasting: bool
) -> None:
    agent.add_handshake_response(status, b"because")
    error = await connect_error(agent)
    assert (error.code, error.status_code, error.lasting) == ("CONNECTION_ERROR", status, lasting)
    assert error.details == f"the server responded with {status}: because"


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(401, ": the token is missing or invalid"), (404, ": no agent at this URL"),
     (422, ": the chat ID is invalid"), (418, "")],
)  # fmt: skip
async def test_a_rejection_without_a_body_is_explained(
    agent: ScriptedAgent, status: int, meaning: str
) -> None:
    agent.add_handshake_response(status, b"")
    error = await connect_error(agent)
    assert not isinstance(error, AgentBusyException)
    assert error.details == f"the server responded with {status}{meaning}"


async def test_a_redirect_to_another_host_is_not_followed(agent: ScriptedAgent) -> None:
    async with scripted_agent() as stranger:
        for scheme in ("ws", "http"):
            location = f"{scheme}://127.0.0.1:{stranger.port}/v1/agent_ws/0/"
            agent.add_handshake_response(302, Location=location)
            error = await connect_error(agent, token="secret")
            assert (error.code, error.status_code) == ("CONNECTION_ERROR", 302)
        assert stranger.requests == []


async def test_a_redirect_on_the_same_server_keeps_the_credentials(agent: ScriptedAgent) -> None:
    agent.add_handshake_response(307, Location="/elsewhere/")
    async with AgentApi("a", agent.url, token="secret"):
        paths = [(request.path, request.headers["Authorization"]) for request in agent.requests]
    assert paths == [("/v1/agent_ws/0/", "Bearer secret"), ("/elsewhere/", "Bearer secret")]


async def test_the_token_is_in_a_header_only(
    agent: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    api = AgentApi("a", agent.url, token="s3cret")
    async with api:
        [event async for event in api.send_message("hello")]
        (request,) = agent.requests
        assert request.headers["Authorization"] == "Bearer s3cret"
        assert "s3cret" not in request.path + repr(api)
    client_side = [
        record.getMessage() for record in caplog.records if record.name != "websockets.server"
    ]
    assert "s3cret" not in "\n".join(client_side)


async def test_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        api = AgentApi("a", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(AgentException) as caught:
            await api.connect()
    assert caught.value.code == "CONNECTION_ERROR"


async def test_a_server_that_does_not_respond_to_the_handshake() -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        began_at = time.monotonic()
        with pytest.raises(AgentException) as caught:
            await AgentApi("a", f"ws://127.0.0.1:{mute.getsockname()[1]}").connect()
    assert caught.value.code == "TIMEOUT"
    assert time.monotonic() - began_at < PROMPT_SECONDS


async def test_a_response_that_is_not_http() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.9\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        api = AgentApi("a", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(AgentException) as caught:
            await api.connect()
    assert caught.value.code == "CONNECTION_ERROR"


async def test_custom_certificates() -> None:
    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(served)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    agent = ScriptedAgent()
    await agent.start(tls=served)
    with pytest.raises(AgentException) as caught:
        await AgentApi("a", agent.url).connect()
    assert caught.value.code == "CONNECTION_ERROR" and caught.value.lasting
    async with AgentApi("a", agent.url, tls=trusting) as api:
        assert len([event async for event in api.send_message("hello")]) == 2
    await agent.stop()
    with pytest.raises(ConfigurationError):
        AgentApi("a", "http://127.0.0.1", tls=trusting)


async def test_proxies_are_not_used_for_loopback(
    agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    async with AgentApi("a", agent.url) as api:
        assert api.connected


def test_the_agent_client_is_imported_lazily() -> None:
    looks = "import sys; print([name for name in {} if name in sys.modules])"
    for imports, modules in (
        ("import beray", ["websockets", "asyncio", "beray.agent"]),
        ("from beray.agent import AgentApi", ["requests", "rich", "fastapi", "platformdirs"]),
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"{imports}; {looks.format(modules)}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == "[]\n"


def test_invalid_arguments() -> None:
    for options in ({"token": "a\nb"}, {"heartbeat_seconds": 0}, {"max_frame_bytes": 0}):
        with pytest.raises(InvalidArgument):
            AgentApi("a", "http://h", **options)
