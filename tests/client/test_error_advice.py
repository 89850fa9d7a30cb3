"""Error messages that tell the user what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beray import AuthenticationError, BeRayClient, ConnectionFailed, GatewayClient
from beray.gateway.exceptions import Unreachable
from beray.testing import FaultServer, ScriptedResponse
from beray.testing.server import free_port

Call = Callable[[BeRayClient], Any]
CALLS: list[Call] = [
    lambda c: c.list_tasks(),
    lambda c: c.create_task("g"),
    lambda c: c.upload_file(1, "a", "b"),
    lambda c: next(c.stream_task_updates(1, reconnect=0)),
    lambda c: c.wait(1),
]
REFUSED = ScriptedResponse(b'{"detail": "Not signed in."}', 401)


@pytest.mark.parametrize("call", CALLS)
def test_an_unreachable_server_is_named(call: Call) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        BeRayClient(url, "secret-token", max_retries=0) as client,
        pytest.raises(ConnectionFailed, match=url) as caught,
    ):
        call(client)
    assert "secret-token" not in str(caught.value)


@pytest.mark.parametrize(
    "answer", [ScriptedResponse(b"[]", drop_at=1), ScriptedResponse(b"[]", stall_at=1)]
)
def test_a_server_that_closes_the_connection_is_named(answer: ScriptedResponse) -> None:
    with (
        FaultServer([answer]) as server,
        BeRayClient(server.url, max_retries=0, timeout=(5, 0.3)) as client,
        pytest.raises(ConnectionFailed, match=server.url),
    ):
        client.list_tasks()


def test_the_gateway_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable, match=url):
        GatewayClient("token", url, max_retries=0).list_prefabs()


@pytest.mark.parametrize("call", [*CALLS, lambda c: c.logout(), lambda c: c.get_current_user()])
def test_a_request_without_a_token_explains_how_to_sign_in(call: Call) -> None:
    with (
        FaultServer([REFUSED]) as server,
        BeRayClient(server.url) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        call(client)
    for words in ("Not signed in. ", "login()", "register()", "token=", "BERAY_TOKEN"):
        assert words in str(caught.value)
    assert caught.value.error_detail == "Not signed in."


@pytest.mark.parametrize(
    ("token", "call"),
    [
        ("expired", lambda c: c.list_tasks()),
        (None, lambda c: c.login("e@x", "wrong")),
        (None, lambda c: c.login_with_form("e@x", "wrong")),
    ],
)
def test_other_error_responses_do_not(token: str | None, call: Call) -> None:
    with (
        FaultServer([REFUSED]) as server,
        BeRayClient(server.url, token) as client,
        pytest.raises(AuthenticationError) as caught,
    ):
        call(client)
    assert "login()" not in str(caught.value)
