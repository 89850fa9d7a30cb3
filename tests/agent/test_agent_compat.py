"""Undocumented interfaces of ``websockets``: an update that moves them fails here."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from beray.agent._websockets_compat import SameOriginConnect


def redirect(location: str) -> InvalidStatus:
    return InvalidStatus(Response(302, "Found", Headers({"Location": location})))


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/other", "ws://a.example:80/other"),
        ("ws://a.example:80/other", "ws://a.example:80/other"),
        ("ws://b.example:80/other", None),
        ("ws://a.example:81/other", None),
        ("wss://a.example:80/other", None),
        ("https://a.example/other", None),
    ],
)
async def test_redirects_are_followed_on_the_same_server(location: str, target: str | None) -> None:
    attempt = SameOriginConnect("ws://a.example:80/chat")
    rejected = redirect(location)
    assert attempt.process_redirect(rejected) == (rejected if target is None else target)
