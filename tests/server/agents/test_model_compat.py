"""Private interfaces of pydantic-ai and the MCP SDK: an update that moves them fails here."""

from __future__ import annotations

from typing import get_args, get_origin

import httpx2
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from beray.server.runners.model._mcp_compat import TransportStreams
from beray.server.runners.model._pydantic_ai_compat import HEAD_BYTES, ResponseHead
from beray.testing import FaultServer, ScriptedResponse


async def test_the_beginning_of_a_response_is_recorded() -> None:
    body = b"x" * (HEAD_BYTES + 1)
    with FaultServer([ScriptedResponse(body), ScriptedResponse(b"second")]) as server:
        provider = OpenAICompatibleProvider("openai", base_url=server.url, api_key="key")
        client = provider._own_http_client
        assert isinstance(client, httpx2.AsyncClient)
        async with client:
            head = ResponseHead(OpenAIChatModel("model", provider=provider))
            assert (await client.get(server.url)).content == body
            assert head.text() == "x" * HEAD_BYTES
            await client.get(server.url)
            assert head.text() == "second"
            head.clear()
            assert head.text() == ""


def test_a_transport_has_two_streams() -> None:
    assert get_origin(TransportStreams) is tuple
    assert len(get_args(TransportStreams)) == 2
