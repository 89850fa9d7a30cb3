"""MCP servers at URLs: permitted destinations, and messages about failures."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from beray.server.outbound.policy import OutboundPolicy
from beray.server.runners.base import Outcome
from beray.server.runners.mcp import config
from beray.server.runners.model import ModelRunner
from beray.server.setting_types.allow_list import AllowList
from beray.testing import FaultServer, ScriptedResponse
from tests.server.agents import mcp_server
from tests.server.agents.fake_openai import Reply
from tests.server.agents.mcp_server import HttpServer
from tests.server.agents.model_bench import Bench, other_tasks
from tests.server.agents.model_server import ModelServer, model_server


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


async def shared_bench(tmp_path: Path, *steps: Any, **settings: Any) -> Bench:
    bench = await Bench.make(tmp_path, *steps, **settings)
    bench.settings.set_listener("192.0.2.1", embedded=False)
    return bench


async def problem(bench: Bench, url: str) -> str:
    """Run a task with one MCP server at ``url``; return why that is not available."""
    assert await bench.run(tools=[{"web": {"url": url}}]) == Outcome("COMPLETED")
    [payload] = bench.sink.payloads("mcp")
    assert payload["status"] == "failed"
    assert not other_tasks()
    return str(payload["message"])


async def test_a_shared_server_rejects_loopback_for_open_and_closed_ports(
    tmp_path: Path, http: HttpServer
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/mcp"
    messages: set[str] = set()
    for number, url in enumerate((http.url, closed)):
        (tmp_path / str(number)).mkdir()
        bench = await shared_bench(tmp_path / str(number), "done")
        messages.add((await problem(bench, url)).replace(urlsplit(url).netloc, "HOST"))
    [message] = messages
    assert message.startswith("HOST is not reachable")
    assert http.headers == []


async def test_a_shared_server_connects_where_its_operator_allows(
    tmp_path: Path, http: HttpServer
) -> None:
    host = urlsplit(http.url).netloc
    bench = await shared_bench(tmp_path, [("web_echo", {"text": "hi"})], "done", mcp_allow=host)
    await bench.run(tools=[{"web": {"url": http.url}}])
    assert bench.answers() == ["echo: hi"]


async def test_without_network_a_personal_server_connects_to_allowed_hosts_only(
    tmp_path: Path, http: HttpServer
) -> None:
    bench = await Bench.make(tmp_path, "done", sandbox_network="never")
    assert "BERAY_SANDBOX_NETWORK=never" in await problem(bench, http.url)
    assert http.headers == []


async def test_a_name_that_is_rebound_during_a_session_is_not_connected_to(
    tmp_path: Path, http: HttpServer
) -> None:
    port = urlsplit(http.url).port
    answers = [["127.0.0.1"], ["127.0.0.2"]]

    async def names(_host: str, _port: int) -> list[str]:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with socket.create_server(("127.0.0.2", port or 0)) as internal:
        internal.setblocking(False)
        bench = await Bench.make(tmp_path, [("web_echo", {"text": "hi"})], "done")
        policy = OutboundPolicy(allow=AllowList.parse("127.0.0.1"), resolver=names)
        assert bench.model is not None
        runner = ModelRunner(
            settings=bench.settings, sandbox=bench.sandbox, model=bench.model.model, outbound=policy
        )
        url = f"http://mcp.example:{port}/mcp"
        await runner.run(bench.job(tools=[{"web": {"url": url}}]), bench.sink)
        # The session was connected to the addresses in the DNS answers.
        assert len(answers) == 1
        with pytest.raises(BlockingIOError):
            internal.accept()


BODY = "hidden in the response"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ScriptedResponse(BODY.encode(), 500), "HTTP status 500"),
        (ScriptedResponse(BODY.encode(), 401), "HTTP status 401"),
        (ScriptedResponse(BODY.encode(), 404), "HTTP status 404"),
        (ScriptedResponse(b"", 302, {"Location": f"http://127.0.0.1/?{BODY.replace(' ', '+')}"}), "HTTP status 302"),
        (ScriptedResponse(json.dumps({"secret": BODY}).encode(), 200, {"Content-Type": "application/json"}), "not an MCP message"),
        (
            ScriptedResponse(
                json.dumps({"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": BODY}}).encode(),
                500,
                {"Content-Type": "application/json"},
            ),
            "HTTP status 500",
        ),
        (ScriptedResponse(BODY.encode(), 200, {"Content-Type": "text/plain"}), "not an MCP message"),
        (ScriptedResponse(f"<title>{BODY}".encode(), 200, {"Content-Type": "text/html"}), "not an MCP message"),
        (ScriptedResponse(f"data: {BODY}\n\n".encode(), 200, {"Content-Type": "text/event-stream"}), "not an MCP message"),
    ],
)  # fmt: skip
async def test_failures_do_not_quote_responses(
    tmp_path: Path, answer: ScriptedResponse, reason: str
) -> None:
    with FaultServer([answer] * 20) as server:
        bench = await Bench.make(tmp_path, "done")
        message = await problem(bench, f"{server.url}/mcp")
    assert reason in message
    assert bench.model is not None
    everything = str(bench.sink.events) + bench.model.instructions
    assert "hidden" not in everything


async def test_servers_with_http_and_sse_are_supported(tmp_path: Path) -> None:
    app = mcp_server.server().sse_app()
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=0, lifespan="off")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/sse"
            bench = await Bench.make(tmp_path, [("web_echo", {"text": "hi"})], "done")
            await bench.run(tools=[{"web": {"url": url, "type": "sse"}}])
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
    assert bench.answers() == ["echo: hi"]


async def test_sse_is_rejected_like_any_other_connection(tmp_path: Path, http: HttpServer) -> None:
    bench = await shared_bench(tmp_path, "done")
    await bench.run(tools=[{"web": {"url": http.url, "type": "sse"}}])
    [payload] = bench.sink.payloads("mcp")
    assert "is not reachable" in payload["message"]
    assert http.headers == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@1.1.1.1/",
        "http://１２７.0.0.1/",
        "http://a b/",
        "http://a\t/",
        "http://é/",
    ],
)
def test_ambiguous_urls_are_invalid(url: str) -> None:
    [server] = config.parse([{"x": {"url": url}}])
    assert "ASCII" in server.problem


def test_the_processes_of_runs_know_whether_their_server_is_shared(tmp_path: Path) -> None:
    with HttpServer() as mcp:
        shared = {"BERAY_PUBLIC_URL": "http://beray.example"}
        with model_server(tmp_path / "data", **shared) as models, models.server.sign_up() as client:
            events = models.done(
                client, "hello", Reply(text=["done"]), tools=[{"web": {"url": mcp.url}}]
            )
        [payload] = [
            event["payload"]
            for event in events
            if event["type"] == "AGENT_EVENT_CUSTOM_UPDATE" and event["payload"]["kind"] == "mcp"
        ]
        assert payload["status"] == "failed"
        assert "is not reachable" in payload["message"]
        assert mcp.headers == []


def test_the_servers_log_contains_neither_urls_nor_responses_of_users_servers(
    models: ModelServer,
) -> None:
    garbage = ScriptedResponse(
        json.dumps({"secret": BODY}).encode(), 200, {"Content-Type": "application/json"}
    )
    redirect = ScriptedResponse(b"", 302, {"Location": "http://127.0.0.1/hidden-location"})
    with (
        FaultServer([garbage] * 20) as first,
        FaultServer([redirect] * 20) as second,
        models.server.sign_up() as client,
    ):
        before = len(models.server.log.read_text())
        tools = [
            {"first": {"url": f"{first.url}/mcp?access=hidden-in-url"}},
            {"second": {"url": f"{second.url}/mcp?access=hidden-in-url"}},
            {"third": {"url": f"{first.url}/sse?access=hidden-in-url", "type": "sse"}},
        ]
        events = models.done(client, "hello", Reply(text=["done"]), tools=tools)
        log = models.server.log.read_text()[before:]
    payloads = [event["payload"] for event in events if "payload" in event]
    assert [payload["status"] for payload in payloads if payload["kind"] == "mcp"] == ["failed"] * 3
    assert "hidden" not in log
