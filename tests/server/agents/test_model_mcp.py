"""MCP servers over HTTP and stdio as tools of a model."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from beray.server.runners.base import Outcome
from beray.server.runners.mcp import config
from beray.server.runners.model import mcp_session
from tests.server.agents import mcp_server
from tests.server.agents.mcp_server import HttpServer
from tests.server.agents.model_bench import Bench, other_tasks, processes, stop, until
from tests.support import PROMPT_SECONDS, command_line, descendants

Server = dict[str, Any]
STDIO: Server = {"server": "tests"}
TOOLS = [
    "echo", "fail", "hang", "picture", "environment", "breed", "large", "work", "report", "media",
    "die",
]  # fmt: skip


@pytest.fixture
def http() -> Iterator[HttpServer]:
    with HttpServer() as server:
        yield server


def operators(tmp_path: Path, **programs: Server) -> Path:
    """Write a file of the operator's programs; ``tests`` is the server of these tests."""
    own = {"command": sys.executable, "args": [mcp_server.__file__]}
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"tests": own, **programs}))
    return path


def server_states(bench: Bench) -> list[tuple[str, str]]:
    """Return servers and their states, without the events about waiting."""
    payloads = [
        payload for payload in bench.sink.payloads("mcp") if payload["status"] != "connecting"
    ]
    return [(payload["server"], payload["status"]) for payload in payloads]


async def test_tools_of_a_server_over_http_are_called(tmp_path: Path, http: HttpServer) -> None:
    bench = await Bench.make(tmp_path, [("web_echo", {"text": "hi"})], "done")
    tools = [{"web": {"url": http.url, "headers": {"Authorization": "Bearer secret-1234"}}}]
    assert await bench.run(tools=tools) == Outcome("COMPLETED")
    assert bench.answers() == ["echo: hi"]
    assert bench.sink.results("web_echo") == ["echo: hi"]
    assert bench.sink.payloads("mcp") == [
        {
            "kind": "mcp",
            "server": "web",
            "status": "connected",
            "message": f"{len(TOOLS)} tools",
            "tools": TOOLS,
        }
    ]
    assert {headers["authorization"] for headers in http.headers} == {"Bearer secret-1234"}
    assert "secret-1234" not in str(bench.sink.events)
    assert not other_tasks()


async def test_tools_of_a_program_are_called_and_it_ends_with_the_run(tmp_path: Path) -> None:
    bench = await Bench.make(
        tmp_path, [("local_echo", {"text": "hi"})], "done", mcp_servers=operators(tmp_path)
    )
    assert await bench.run(tools=[{"local": STDIO}]) == Outcome("COMPLETED")
    assert bench.answers() == ["echo: hi"]
    assert server_states(bench) == [("local", "connected")]
    assert not processes()
    assert not other_tasks()


async def test_a_program_has_only_its_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-server")
    monkeypatch.setenv("BERAY_SMTP_PASSWORD", "also")
    own = {"command": sys.executable, "args": [mcp_server.__file__], "env": {"MINE": "yes"}}
    servers = operators(tmp_path, own=own)
    bench = await Bench.make(tmp_path, [("local_environment", {})], "done", mcp_servers=servers)
    await bench.run(tools=[{"local": {"server": "own"}}])
    [answer] = bench.answers()
    assert "'MINE': 'yes'" in answer or '"MINE": "yes"' in answer
    assert "sk-of-the-server" not in answer
    assert "BERAY" not in answer
    assert str(Path(os.environ["HOME"])) not in answer


async def test_programs_are_rejected_unless_the_operator_allows_them(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path, "done")
    before = processes()
    local = {"command": "sh", "args": ["-c", "cat"]}
    assert await bench.run(tools=[{"local": local}]) == Outcome("COMPLETED")
    [payload] = bench.sink.payloads("mcp")
    assert payload["status"] == "failed"
    assert "BERAY_MCP_STDIO" in payload["message"]
    assert bench.model is not None
    assert "local" in bench.model.instructions
    assert processes() == before


async def test_a_failed_tool_is_reported_and_the_run_continues(
    tmp_path: Path, http: HttpServer
) -> None:
    bench = await Bench.make(
        tmp_path,
        [("web_fail", {})],
        [("web_echo", {"wrong": 1})],
        [("web_echo", {"text": "x"})],
        "done",
    )
    assert await bench.run(tools=[{"web": {"url": http.url}}]) == Outcome("COMPLETED")
    assert "the tool is broken" in bench.sink.results("web_fail")[0]["error"]
    assert "text" in bench.sink.results("web_echo")[0]["error"]
    assert bench.answers()[-1] == "echo: x"


async def test_an_image_is_given_to_the_model_and_described_in_the_log(
    tmp_path: Path, http: HttpServer
) -> None:
    bench = await Bench.make(tmp_path, [("web_picture", {})], "done")
    assert await bench.run(tools=[{"web": {"url": http.url}}]) == Outcome("COMPLETED")
    size = len(mcp_server.PIXEL)
    path = "outputs/web_picture.png"
    logged = {"media_type": "image/png", "bytes": size, "path": path}
    assert bench.sink.results("web_picture") == [[logged]]
    assert (bench.work_dir / path).read_bytes() == mcp_server.PIXEL
    assert bench.model is not None
    assert "BinaryImage" in str(bench.model.requests[-1]) or "BinaryContent" in str(
        bench.model.requests[-1]
    )


async def test_servers_with_the_same_tools_do_not_clash(tmp_path: Path, http: HttpServer) -> None:
    name = "Ein langer Name: " + "x" * 80
    bench = await Bench.make(tmp_path, "done", mcp_servers=operators(tmp_path))
    web = {"url": http.url}
    await bench.run(tools=[{"a": web, "b": STDIO}, {"a": web}, {name: web}])
    assert bench.model is not None
    names = bench.model.tools
    assert {"a_echo", "b_echo", "a_echo_2"} <= set(names)
    assert len(names) == len(set(names)) == 8 + 4 * len(TOOLS)
    assert all(
        len(name) <= 64 and name.replace("_", "").replace("-", "").isalnum() for name in names
    )


async def test_unreachable_servers_are_reported_and_the_run_continues(
    tmp_path: Path, http: HttpServer
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unreachable = f"http://127.0.0.1:{free.getsockname()[1]}/mcp?token=hidden-token"
    tools: list[Server] = [
        {"unreachable": {"url": unreachable, "headers": {"X-Key": "hidden-key"}}},
        {"missing": {"command": "no-such-program-here"}},
        {
            "dying": {
                "command": "sh",
                "args": ["-c", "echo cannot start with $KEY >&2; exit 3"],
                "env": {"KEY": "hidden-env"},
            }
        },
        {"wrong": {"url": http.url + "/nowhere"}},
        {"ftp": {"url": "ftp://127.0.0.1/"}},
        {"both": {"url": http.url, "command": "x"}},
        {"web": {"url": http.url}},
    ]
    bench = await Bench.make(tmp_path, [("web_echo", {"text": "hi"})], "done", mcp_stdio=True)
    assert await bench.run(tools=tools) == Outcome("COMPLETED")
    assert server_states(bench) == [
        ("unreachable", "failed"), ("missing", "failed"), ("dying", "failed"), ("wrong", "failed"),
        ("ftp", "failed"), ("both", "failed"), ("web", "connected"),
    ]  # fmt: skip
    messages = {payload["server"]: payload["message"] for payload in bench.sink.payloads("mcp")}
    assert "cannot be reached" in messages["unreachable"]
    assert "no-such-program-here" in messages["missing"]
    assert "cannot start with" in messages["dying"]
    assert bench.model is not None
    for name in ("unreachable", "missing", "dying", "wrong"):
        assert f"{name} is not available" in bench.model.instructions
    output = str(bench.sink.events) + bench.model.instructions
    assert "hidden" not in output
    assert bench.answers() == ["echo: hi"]
    assert not processes()
    assert not other_tasks()


async def test_connect_timeouts_of_several_servers_run_in_parallel(
    tmp_path: Path,
) -> None:
    silent = {"command": "sh", "args": ["-c", "trap '' TERM; while :; do sleep 981; done"]}
    bench = await Bench.make(
        tmp_path, "done", mcp_stdio=True, mcp_connect_seconds=0.5, mcp_start_seconds=0.5
    )
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/mcp"
        began = time.monotonic()
        tools: list[Server] = [{"a": silent}, {"b": silent}, {"c": {"url": url}}]
        assert await bench.run(tools=tools) == Outcome("COMPLETED")
    assert time.monotonic() - began < PROMPT_SECONDS
    assert server_states(bench) == [("a", "failed"), ("b", "failed"), ("c", "failed")]
    assert "no response within 0.5 s" in bench.sink.payloads("mcp")[0]["message"]
    assert not processes()
    assert not other_tasks()


async def test_a_program_that_exits_is_reported_and_the_run_continues(tmp_path: Path) -> None:
    bench = await Bench.make(
        tmp_path,
        [("local_die", {})],
        [("local_echo", {"text": "x"})],
        "done",
        mcp_servers=operators(tmp_path),
    )
    assert await bench.run(tools=[{"local": STDIO}]) == Outcome("COMPLETED")
    assert server_states(bench) == [
        ("local", "connected"),
        ("local", "failed"),
        ("local", "connected"),
    ]
    [message] = [
        payload["message"]
        for payload in bench.sink.payloads("mcp")
        if payload["status"] == "failed"
    ]
    assert message == "its program exited; the server's log has its last output"
    assert "its program exited" in bench.answers()[0]
    assert "was not repeated" in bench.answers()[0]
    assert bench.answers()[1] == "echo: x"
    assert not processes()


async def test_a_server_over_http_that_stops_is_reported(tmp_path: Path, http: HttpServer) -> None:
    bench = await Bench.make(
        tmp_path,
        [("web_echo", {"text": "hi"})],
        [("run_command", {"command": "echo on; until [ -e go ]; do sleep 0.02; done"})],
        [("web_echo", {"text": "again"})],
        "done",
    )
    run = bench.start(tools=[{"web": {"url": http.url}}])
    await bench.sink.until(lambda sink: sink.text("tools:run_command") == "on\n")
    await asyncio.to_thread(http.close)
    (bench.work_dir / "go").touch()
    assert await run == Outcome("COMPLETED")
    assert bench.answers()[0] == "echo: hi"
    assert "the MCP server web failed" in bench.answers()[2]
    assert server_states(bench) == [("web", "connected"), ("web", "failed")]
    assert not other_tasks()


@pytest.mark.parametrize("kind", ["http", "stdio"])
async def test_a_stop_in_the_middle_of_a_call_that_hangs_is_quick(
    tmp_path: Path, http: HttpServer, kind: str
) -> None:
    tools = [{"x": {"url": http.url} if kind == "http" else STDIO}]
    bench = await Bench.make(
        tmp_path,
        [("x_breed", {})] if kind == "stdio" else "",
        [("x_hang", {})],
        mcp_servers=operators(tmp_path),
    )
    assert bench.model is not None
    if kind == "http":
        del bench.model.steps[0]
    run = bench.start(tools=tools)
    await bench.sink.until(lambda sink: any(name == "x_hang" for name, _ in sink.calls()))
    await asyncio.sleep(0.2)  # it is not observable when the server has received the call
    assert await stop(run) < PROMPT_SECONDS
    assert not processes()
    assert not other_tasks()
    assert bench.sink.records[0].requests == len(bench.model.requests)


async def test_calls_have_a_timeout(
    tmp_path: Path, http: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_session, "CALL_SECONDS", 0.3)
    bench = await Bench.make(tmp_path, [("web_hang", {})], "done")
    assert await bench.run(tools=[{"web": {"url": http.url}}]) == Outcome("COMPLETED")
    assert "did not respond within 0.3 s" in bench.answers()[0]


async def test_a_stop_while_connecting_leaves_no_processes(tmp_path: Path) -> None:
    silent = {"command": "sh", "args": ["-c", "trap '' TERM; while :; do sleep 980; done"]}
    bench = await Bench.make(tmp_path, "done", mcp_stdio=True)
    run = bench.start(tools=[{"a": silent}])
    await until(lambda: any("980" in command_line(each) for each in descendants()))
    assert await stop(run) < PROMPT_SECONDS
    assert not processes()
    assert not other_tasks()


async def test_output_of_a_program_that_is_not_a_message_is_ignored(tmp_path: Path) -> None:
    script = f"echo Welcome; echo '[1'; exec {sys.executable} {mcp_server.__file__}"
    servers = operators(tmp_path, noisy={"command": "sh", "args": ["-c", script]})
    bench = await Bench.make(tmp_path, [("x_echo", {"text": "hi"})], "done", mcp_servers=servers)
    await bench.run(tools=[{"x": {"server": "noisy"}}])
    assert bench.answers() == ["echo: hi"]


async def test_a_large_result_is_truncated_for_the_model(tmp_path: Path, http: HttpServer) -> None:
    calls: list[tuple[str, Server]] = [(f"{name}_large", {}) for name in ("web", "local")]
    bench = await Bench.make(
        tmp_path, *([step] for step in calls), "done", mcp_servers=operators(tmp_path)
    )
    await bench.run(tools=[{"web": {"url": http.url}}, {"local": STDIO}])
    for answer in bench.answers():
        assert answer.endswith("[cut off here: 3,000,000 characters in all]")
        assert len(answer) < 101_000


class _Elsewhere(BaseHTTPRequestHandler):
    """Handler that redirects to another server, or records the requests of that server."""

    to = ""
    seen: ClassVar[list[str | None]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Host"].startswith("127.0.0.1:"):
            self.send_response(307)
            self.send_header("Location", _Elsewhere.to)
        else:
            _Elsewhere.seen.append(self.headers["Authorization"])
            self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


async def test_headers_are_not_sent_after_a_redirect_to_another_host(tmp_path: Path) -> None:
    here = ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere)
    there = ThreadingHTTPServer(("127.0.0.2", 0), _Elsewhere)
    _Elsewhere.to = f"http://127.0.0.2:{there.server_address[1]}/mcp"
    threads = [Thread(target=server.serve_forever, args=(0.02,)) for server in (here, there)]
    for thread in threads:
        thread.start()
    try:
        url = f"http://127.0.0.1:{here.server_address[1]}/mcp"
        bench = await Bench.make(tmp_path, "done")
        await bench.run(
            tools=[{"web": {"url": url, "headers": {"Authorization": "Bearer s3cr3t"}}}]
        )
    finally:
        for server in (here, there):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
    assert server_states(bench) == [("web", "failed")]
    assert "s3cr3t" not in str(bench.sink.events)
    assert _Elsewhere.seen == []


@pytest.mark.parametrize(
    "tools",
    [
        [{"a": {"url": 5}}], [{"a": {}}], [{"a": None}], [{"a": {"command": ""}}], [{}], ["a"],
        [{"a": {"command": "x", "args": "y"}}], [{"a": {"command": "x", "args": [1]}}],
        [{"a": {"command": "x", "env": {"A": 1}}}], [{"a": {"command": "x", "env": {"A=B": "1"}}}],
        [{"a": {"url": "http://x", "headers": ["a"]}}], [{"a": {"command": "x\0"}}],
        [{"a": {"command": "-x"}}], [{"a": {"command": "x", "env": {"A-B": "1"}}}],
        [{"a": {"server": 1}}], [{"a": {"server": ""}}], [{"a": {"server": "x", "env": {}}}],
        [{"a": {"server": "x", "command": "y"}}], [{"a": {"url": "http://x:99999/"}}],
        [{"a": {"url": "http:///x"}}], [{"a": {"url": "http://x", "headers": {"hOst": "y"}}}],
        [{"a": {"url": "http://x", "headers": {"Transfer-Encoding": "chunked"}}}],
    ],
)  # fmt: skip
def test_invalid_entries_have_a_problem(tools: list[Any]) -> None:
    [server] = config.parse(tools)
    assert server.problem
