"""Tests of URLs: of a server, of a WebSocket, and with credentials."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from beray.agent import AgentApi, SyncAgentApi
from beray.exceptions import ConfigurationError, InvalidArgument
from tests.agent.scripted_agent import ScriptedAgent


@pytest.mark.parametrize(
    ("arguments", "options", "url"),
    [
        (["http://host"], {}, "ws://host/v1/agent_ws/0/"),
        (["https://host:8443/agents/"], {}, "wss://host:8443/agents/v1/agent_ws/0/"),
        (["ws://[::1]:9"], {}, "ws://[::1]:9/v1/agent_ws/0/"),
        (["ws://host/"], {"chat_id": "notes"}, "ws://host/v1/agent_ws/notes/"),
        (["ws://host", None, None, 7], {}, "ws://host/v1/agent_ws/7/"),
        # Version 1.0 of the published client takes the URL of the WebSocket.
        (["ws://host/ws"], {}, "ws://host/ws"),
        (["ws://host/api/ws/"], {}, "ws://host/api/ws/"),
        (["ws://host/agent_ws/"], {}, "ws://host/agent_ws/"),
        (["ws://host/agent_ws"], {}, "ws://host/agent_ws/v1/agent_ws/0/"),
        (["wss://host/ws?room=1"], {}, "wss://host/ws?room=1"),
        (["http://host/news"], {}, "ws://host/news/v1/agent_ws/0/"),
        ([], {"base_url": "ws://host/ws"}, "ws://host/ws/v1/agent_ws/0/"),
        ([], {"url": "ws://host/any/path?a=b"}, "ws://host/any/path?a=b"),
        ([], {"url": "ws://host"}, "ws://host"),
    ],
)
def test_addresses(arguments: list[Any], options: dict[str, Any], url: str) -> None:
    for api in (AgentApi("a", *arguments, **options), SyncAgentApi("a", *arguments, **options)):
        assert api.url == url
        assert api.id == api.agent_id == "a"


def test_a_chat_id_cannot_change_the_path() -> None:
    assert AgentApi("a", "http://h", chat_id="a/../b?c").url == "ws://h/v1/agent_ws/a%2F..%2Fb%3Fc/"
    for bad in ("", ".", "..", "\ud800"):
        with pytest.raises(InvalidArgument):
            AgentApi("a", "http://h", chat_id=bad)


@pytest.mark.parametrize(
    "url", ["", "host", "ftp://h/ws", "http://", "http://h?x", "http://h:99999", "ws://h/ws#x"]
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(ConfigurationError):
        AgentApi("a", url)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["ws://h"], {"url": "ws://h/ws"}),
        (["ws://h"], {"base_url": "ws://h"}),
        (["ws://h/ws"], {"chat_id": 3}),
        ([], {"url": "ws://h/x", "chat_id": 3}),
        (["ws://x:secret@h"], {"token": "t"}),
        (["ws://h"], {"token": ""}),
    ],
)
def test_arguments_that_contradict_each_other(
    arguments: list[Any], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        AgentApi("a", *arguments, **options)
    assert "secret" not in str(caught.value)


async def test_credentials_of_a_url_are_sent_as_a_header_only(agent: ScriptedAgent) -> None:
    address = agent.url.replace("http://", "ws://me:s%2Fcret@")
    async with AgentApi("a", address) as api:
        assert "cret" not in f"{api!r} {api.url} {vars(api)}"
    (request,) = agent.requests
    basic = base64.b64encode(b"me:s/cret").decode()
    assert request.headers["Authorization"] == f"Basic {basic}"
    assert request.path == "/v1/agent_ws/0/"
    async with AgentApi("a", agent.url, token="Bearer tok"):
        assert agent.requests[1].headers["Authorization"] == "Bearer tok"
