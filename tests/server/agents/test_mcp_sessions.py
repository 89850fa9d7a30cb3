"""Sessions with MCP servers that restart, end sessions, or lose connections."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from beray.server.runners.base import Outcome
from beray.server.runners.model import mcp_servers
from beray.testing import FaultServer, ScriptedResponse
from tests.server.agents import tiny_mcp_server
from tests.server.agents.mcp_server import HttpServer, Proxy
from tests.server.agents.model_bench import Bench, Step, other_tasks, processes, stop, until
from tests.support import PROMPT_SECONDS

PAUSE: Step = [("run_command", {"command": "echo on; until [ -e go ]; do sleep 0.02; done"})]
ECHO: Step = [("web_echo", {"text": "hi"})]


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with HttpServer(sessions=True) as server:
        yield server


@asynccontextmanager
async def paused(bench: Bench, url: str, **server: Any) -> AsyncIterator[None]:
    """Run a task that waits at ``PAUSE`` during the block and is completed afterwards."""
    run = bench.start(tools=[{"web": {"url": url, **server}}])
    try:
        await bench.sink.until(lambda sink: sink.text("tools:run_command") == "on\n")
        yield
        (bench.work_dir / "go").touch()
        assert await run == Outcome("COMPLETED")
    finally:
        run.cancel()
        await asyncio.wait([run])
    assert not other_tasks() - {str(task) for task in asyncio.all_tasks() if _is_proxy(task)}


def _is_proxy(task: asyncio.Task[Any]) -> bool:
    return "Proxy." in str(task.get_coro())


def states(bench: Bench) -> list[tuple[str, str]]:
    return [(payload["status"], payload["message"]) for payload in bench.sink.payloads("mcp")]


@pytest.mark.parametrize("status", [404, 400])
async def test_a_lost_session_is_replaced_and_the_call_is_executed(
    tmp_path: Path, status: int
) -> None:
    bench = await Bench.make(tmp_path, ECHO, PAUSE, ECHO, ECHO, "done")
    with (
        HttpServer(sessions=True) as first,
        HttpServer(sessions=True, unknown_session=status) as second,
    ):
        async with Proxy(first.port) as proxy, paused(bench, proxy.url("/mcp")):
            proxy.target = second.port
            proxy.cut()
    assert [bench.answers()[n] for n in (0, 2, 3)] == ["echo: hi"] * 3
    assert [state for state, _ in states(bench)] == ["connected", "connected"]
    assert "reconnected" in states(bench)[1][1]
    first_ids = {head.get("mcp-session-id") for head in first.headers} - {None}
    second_ids = {head.get("mcp-session-id") for head in second.headers} - {None}
    # The second server received the old id until it rejected that, and then its own.
    assert len(first_ids) == 1
    assert len(second_ids - first_ids) == 1


@pytest.mark.parametrize("sessions", [True, False])
async def test_a_call_whose_connection_is_lost_is_not_repeated(
    tmp_path: Path, sessions: bool
) -> None:
    started, finished = tmp_path / "started", tmp_path / "finished"
    work: Step = [("web_work", {"started": str(started), "finished": str(finished)})]
    bench = await Bench.make(tmp_path, work, work, ECHO, "done")
    with HttpServer(sessions=sessions) as server:
        async with Proxy(server.port) as proxy:
            run = bench.start(tools=[{"web": {"url": proxy.url("/mcp")}}])
            await until(started.exists)
            proxy.cut()
            await bench.sink.until(lambda sink: len(sink.results("web_work")) == 1)
            finished.touch()
            assert await run == Outcome("COMPLETED")
    broken, again, echo = bench.answers()
    assert (
        "it closed the connection. The call may have been executed and was not repeated" in broken
    )
    # The first call was executed once; the model made the second one itself.
    assert again == "calls: 2"
    assert echo == "echo: hi"
    [error, *_] = bench.sink.results("web_work")
    assert "may have been executed" in error["error"]


async def test_a_lost_connection_does_not_affect_parallel_calls(
    tmp_path: Path, http: HttpServer
) -> None:
    started, finished = tmp_path / "started", tmp_path / "finished"
    work = ("web_work", {"started": str(started), "finished": str(finished)})
    bench = await Bench.make(tmp_path, [work, ("web_echo", {"text": "poison"})], ECHO, "done")
    async with Proxy(http.port) as proxy:
        proxy.poison = b"poison"
        run = bench.start(tools=[{"web": {"url": proxy.url("/mcp")}}])
        await bench.sink.until(lambda sink: len(sink.results("web_echo")) == 1)
        finished.touch()
        assert await run == Outcome("COMPLETED")
    assert bench.sink.results("web_work") == ["calls: 1"]
    assert "it closed the connection" in bench.sink.results("web_echo")[0]["error"]
    assert bench.answers()[-1] == "echo: hi"


async def test_a_server_is_used_again_after_downtime(tmp_path: Path, http: HttpServer) -> None:
    wait = "until [ -e {} ]; do sleep 0.02; done"
    bench = await Bench.make(
        tmp_path,
        ECHO,
        PAUSE,
        ECHO,
        [("run_command", {"command": wait.format("up")})],
        ECHO,
        "done",
    )
    async with Proxy(http.port) as proxy, paused(bench, proxy.url("/mcp")):
        proxy.target = None
        proxy.cut()
        (bench.work_dir / "go").touch()
        await bench.sink.until(lambda sink: len(sink.results("web_echo")) == 2)
        proxy.target = http.port
        (bench.work_dir / "up").touch()
    assert "the MCP server web failed: it" in bench.answers()[2]
    assert bench.answers()[4] == "echo: hi"


async def test_a_refused_connection_is_reported_as_not_executed(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path, ECHO, PAUSE, ECHO, ECHO, "done")
    with HttpServer(sessions=True) as server:
        async with paused(bench, server.url):
            await asyncio.to_thread(server.close)
    for answer in bench.answers()[2:]:
        assert "it cannot be reached" in answer
        assert answer.endswith("The call was not executed.")
    # There is one event per change of the state, not per call.
    assert [state for state, _ in states(bench)] == ["connected", "failed"]


async def test_http_with_sse_is_reconnected_for_the_next_call(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path, ECHO, PAUSE, ECHO, "done")
    with HttpServer(sse=True) as first, HttpServer(sse=True) as second:
        async with Proxy(first.port) as proxy, paused(bench, proxy.url("/sse"), type="sse"):
            proxy.target = second.port
            proxy.cut()
            await bench.sink.until(lambda sink: len(sink.payloads("mcp")) == 2)
    assert bench.answers()[2] == "echo: hi"
    assert [state for state, _ in states(bench)] == ["connected", "failed", "connected"]


async def test_a_lost_call_over_sse_fails_before_its_timeout(tmp_path: Path) -> None:
    started, finished = tmp_path / "started", tmp_path / "finished"
    work: Step = [("web_work", {"started": str(started), "finished": str(finished)})]
    bench = await Bench.make(tmp_path, work, ECHO, "done")
    with HttpServer(sse=True) as server:
        async with Proxy(server.port) as proxy:
            url = proxy.url("/sse")
            run = bench.start(tools=[{"web": {"url": url, "type": "sse"}}])
            await until(started.exists)
            proxy.cut()
            assert await run == Outcome("COMPLETED")
            finished.touch()
    assert "may have been executed" in bench.answers()[0]
    assert bench.answers()[1] == "echo: hi"


async def test_a_stop_while_a_session_is_replaced_is_quick(
    tmp_path: Path, http: HttpServer
) -> None:
    bench = await Bench.make(tmp_path, ECHO, PAUSE, ECHO, "done")
    deaf = await asyncio.start_server(_say_nothing, "127.0.0.1", 0)
    async with deaf, Proxy(http.port) as proxy:
        url = proxy.url("/mcp")
        run = bench.start(tools=[{"web": {"url": url}}])
        await bench.sink.until(lambda sink: sink.text("tools:run_command") == "on\n")
        proxy.target = deaf.sockets[0].getsockname()[1]
        proxy.cut()
        (bench.work_dir / "go").touch()
        await bench.sink.until(
            lambda sink: [name for name, _ in sink.calls()].count("web_echo") == 2
        )
        assert await stop(run) < PROMPT_SECONDS
    assert not processes()


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (401, {}, ["requires authorization (HTTP status 401)", '"Authorization": "Bearer …"']),
        (403, {}, ["requires authorization (HTTP status 403)"]),
        (401, {"X-Key": "hidden-key"}, ["rejected the credentials", "set X-Key"]),
        (403, {"Authorization": "Bearer hidden"}, ["lack permission", "set Authorization"]),
    ],
)
async def test_missing_authorization_is_reported_with_the_next_step(
    tmp_path: Path, status: int, headers: dict[str, str], words: list[str]
) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32001, "message": "hidden"}})
    refused = ScriptedResponse(
        body.encode(),
        status,
        {"Content-Type": "application/json", "WWW-Authenticate": 'Bearer realm="hidden"'},
    )
    with FaultServer([refused] * 20) as server:
        bench = await Bench.make(tmp_path, "done")
        url = f"{server.url}/hidden-path/mcp?token=hidden"
        await bench.run(tools=[{"web": {"url": url, "headers": headers}}])
    [(state, message)] = states(bench)
    assert state == "failed"
    assert message.startswith(server.url)
    for part in words:
        assert part in message
    assert bench.model is not None
    assert message in bench.model.instructions
    assert "hidden" not in str(bench.sink.events) + bench.model.instructions


async def test_an_endless_json_response_is_aborted(tmp_path: Path) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
        try:
            while True:
                writer.write(b"1," * 500_000)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server:
        bench = await Bench.make(tmp_path, "done")
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        assert await bench.run(tools=[{"web": {"url": url}}]) == Outcome("COMPLETED")
    [(_, message)] = states(bench)
    assert "larger than 16,777,216 bytes" in message


async def test_waiting_for_a_server_is_logged(
    tmp_path: Path, http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_servers, "NOTICE_SECONDS", 0.2)
    monkeypatch.setattr(mcp_servers, "REPEAT_SECONDS", 0.2)
    script = "echo fetching packages of $KEY >&2; until [ -e go ]; do sleep 0.02; done; exit 3"
    slow = {"command": "sh", "args": ["-c", script], "env": {"KEY": "hidden-key"}}
    bench = await Bench.make(tmp_path, ECHO, "done", mcp_stdio=True)
    run = bench.start(tools=[{"slow": slow}, {"web": {"url": http.url}}])
    await bench.sink.until(
        lambda sink: any(
            "fetching packages" in payload["message"] for payload in sink.payloads("mcp")
        )
    )
    waiting = bench.sink.payloads("mcp")[-1]
    assert waiting["status"] == "connecting"
    assert "waiting for the MCP server slow" in waiting["message"]
    assert "of at most 120 s" in waiting["message"]
    (bench.work_dir / "go").touch()
    assert await run == Outcome("COMPLETED")
    last = {payload["server"]: payload["status"] for payload in bench.sink.payloads("mcp")}
    assert last == {"slow": "failed", "web": "connected"}
    assert "hidden" not in str(bench.sink.events)
    assert bench.answers() == ["echo: hi"]


async def test_programs_have_a_longer_connect_timeout_than_urls(tmp_path: Path) -> None:
    script = 'sleep 1; exec "$0" -c "$1"'
    arguments = ["-c", script, sys.executable, tiny_mcp_server.SOURCE]
    servers = tmp_path / "mcp.json"
    servers.write_text(json.dumps({"slow": {"command": "sh", "args": arguments}}))
    call: Step = [("x_sh", {"command": "echo hi"})]
    bench = await Bench.make(tmp_path, call, "done", mcp_servers=servers, mcp_connect_seconds=0.5)
    assert await bench.run(tools=[{"x": {"server": "slow"}}]) == Outcome("COMPLETED")
    assert bench.answers() == ["hi"]
