"""Complete tasks of the model runner on a server, with a process for each run."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from beray import BeRayClient
from beray.exceptions import UnprocessableEntityError
from beray.testing import RunningServer
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.mcp_server import HttpServer
from tests.server.agents.model_server import KEY, ModelServer, is_fork, model_server
from tests.support import PROMPT_SECONDS, WAIT_SECONDS, sleepers, text, until


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("models")
    with model_server(folder / "data", BERAY_SLOTS="4", BERAY_MODELS="openai:*") as found:
        yield found


@pytest.fixture
def client(models: ModelServer) -> Iterator[BeRayClient]:
    with models.server.sign_up() as client:
        yield client


def shell(command: str, **arguments: Any) -> Reply:
    return Reply(calls=[Call("run_command", {"command": command, **arguments})])


def kinds(events: list[Any]) -> list[str]:
    """Return the types of events, with adjacent equal ones merged."""
    found: list[str] = []
    for event in events:
        name = event["type"].removeprefix("AGENT_EVENT_")
        if not found or found[-1] != name:
            found.append(name)
    return found


def test_hello_world(models: ModelServer, client: BeRayClient) -> None:
    content = "print('hello world')\n"
    events = models.done(
        client,
        "write me a small Python script that prints hello world",
        Reply(
            text=["I write ", "it."],
            calls=[Call("write_file", {"path": "hello.py", "content": content})],
            prompt_tokens=100, completion_tokens=20,
        ),
        Reply(
            calls=[Call("run_command", {"command": "python3 hello.py"})],
            prompt_tokens=150, completion_tokens=10, cached_tokens=100,
        ),
        Reply(calls=[Call("send_file", {"path": "hello.py"})],
              prompt_tokens=200, completion_tokens=10),
        Reply(text=["hello.py ", "prints hello world."], prompt_tokens=250, completion_tokens=9),
        tags=["first", "python"],
        limits={"tokens": 10_000, "cost_usd": 1.5},
    )  # fmt: skip
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    main_events = [event for event in events if event.get("source") not in ("files", "history")]
    assert kinds(main_events) == [
        "TASK_STATUS", "TEXT_CHUNK",
        "TOOL_CALL_CHUNK", "TOOL_RESULT",
        "TOOL_CALL_CHUNK", "TEXT_CHUNK", "TOOL_RESULT",
        "TOOL_CALL_CHUNK", "SEND_FILE", "TOOL_RESULT",
        "TEXT_CHUNK", "END", "TASK_STATUS",
    ]  # fmt: skip
    changed = [event["payload"] for event in events if event.get("source") == "files"]
    assert {"kind": "file_changed", "path": "hello.py", "size": 21, "change": "added"} in changed
    assert events[-1]["status"] == "COMPLETED"
    task = client.get_task(events[0]["task_id"])
    assert client.get_file_content(task["id"], "hello.py").content == content.encode()
    usage = task["usage"]
    assert usage is not None
    counted = {name: value for name, value in usage.items() if name != "cost_usd"}
    assert counted == {
        "requests": 4, "input_tokens": 700, "output_tokens": 49,
        "cache_read_tokens": 100, "cache_write_tokens": 0, "estimated": False,
    }  # fmt: skip
    assert 0 < (usage["cost_usd"] or 0) < 0.01
    assert events[-2]["tokens_used"] == 749
    options = {name: task[name] for name in ("runner", "model", "limits", "tags")}
    assert options == {
        "runner": "model", "model": "openai:gpt-4o", "tags": ["first", "python"],
        "limits": {"tokens": 10_000, "cost_usd": 1.5},
    }  # fmt: skip


def test_invalid_options_create_no_task(models: ModelServer, client: BeRayClient) -> None:
    for options, message in [
        ({"runner": "robot"}, "Runner 'robot' does not exist"),
        ({"runner": "acp"}, "BERAY_ACP is not set"),
        ({"model": "anthropic:claude"}, "BERAY_MODELS"),
        ({"limits": {"tokens": -1}}, "must be at least 0, got -1"),
        ({"limits": {"seconds": 0}}, "greater than 0"),
        ({"limits": {"apples": 1}}, "limits.apples: is not a known field"),
        ({"tags": [""]}, "at least 1 character"),
    ]:
        with pytest.raises(UnprocessableEntityError, match=message):
            client.create_task("hello", **options)  # type: ignore[arg-type]
    assert client.list_tasks() == []
    task = client.create_task(models.script("hello", Reply(text=["hi"])), model="openai:gpt-4.1")
    assert list(client.stream_task_updates(task["id"]))[-1]["status"] == "COMPLETED"
    assert models.provider.requests[-1]["model"] == "gpt-4.1"


def test_an_explicit_runner_executes_any_goal(models: ModelServer, client: BeRayClient) -> None:
    events = models.done(client, "!echo no", Reply(text=["a model"]), runner="model")
    assert text(events) == "a model"
    task = client.create_task("echo plain", runner="shell")
    assert text(list(client.stream_task_updates(task["id"]))) == "plain\n"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"requests": 2}, "2 requests for this task"),
        ({"tokens": 200}, "200 tokens for this task"),
        ({"cost_usd": 0.0001}, "0.0001 US dollars for this task"),
    ],
)
def test_a_limit_ends_the_run_and_its_files_are_kept(
    models: ModelServer, client: BeRayClient, limits: Any, message: str
) -> None:
    write = Reply(calls=[Call("write_file", {"path": "kept.txt", "content": "kept"})])
    events = models.done(client, f"go on {limits}", *[write] * 20, limits=limits)
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "budget")
    (error,) = (event for event in events if event["type"] == "ERROR")
    assert error["code"] == "BUDGET" and message in error["details"]
    task = client.get_task(events[0]["task_id"])
    assert client.get_file_content(task["id"], "kept.txt").content == b"kept"
    assert task["usage"] is not None
    if "requests" in limits:
        assert task["usage"]["requests"] == 2


def test_a_task_ends_at_its_time_limit(models: ModelServer, client: BeRayClient) -> None:
    started = time.monotonic()
    events = models.done(client, "sleep", shell("sleep 60"), limits={"seconds": 1.5})
    assert time.monotonic() - started < 30
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "budget")
    assert "1.5 seconds" in events[-2]["details"]
    assert client.get_task(events[0]["task_id"])["usage"]["requests"] == 1  # type: ignore[index]
    task = client.create_task("!sleep 60", limits={"seconds": 0.5})
    assert list(client.stream_task_updates(task["id"]))[-1]["reason"] == "budget"


def test_daily_limits_apply_to_all_tasks_of_a_user(tmp_path: Path) -> None:
    limits = {"BERAY_DAILY_TOKENS": "250", "BERAY_TASK_REQUESTS": "7"}
    with model_server(tmp_path / "data", **limits) as models:
        client, other = models.server.sign_up(), models.server.sign_up()
        assert models.done(client, "one", Reply(text=["a"]))[-1]["status"] == "COMPLETED"
        events = models.done(client, "two", *[shell("true")] * 20)
        assert events[-1]["reason"] == "budget"
        assert "250 tokens for all your tasks of today" in events[-2]["details"]
        before = len(models.provider.requests)
        assert models.done(client, "three", Reply(text=["a"]))[-1]["reason"] == "budget"
        assert len(models.provider.requests) == before
        models.server.restart()
        assert models.done(client, "three", Reply(text=["a"]))[-1]["reason"] == "budget"
        # The server's limit applies even if a task requests more.
        events = models.done(
            other, "four", *[Reply(calls=[Call("list_files", {})], prompt_tokens=1,
                                   completion_tokens=1)] * 20,
            limits={"requests": 1000},
        )  # fmt: skip
        assert "7 requests for this task" in events[-2]["details"]


def test_a_printed_secret_is_redacted(models: ModelServer, client: BeRayClient) -> None:
    header = "Bearer of-a-header-987654"
    split = [KEY[:5], KEY[5:12], KEY[12:], " and ", header[:9], header[9:], "."]
    events = models.done(
        client,
        "tell me secrets",
        Reply(text=split, calls=[Call("run_command", {"command": f"echo {KEY}; env"}, pieces=9)]),
        Reply(calls=[Call("write_file", {"path": "notes.txt", "content": f"the key is {KEY}"})]),
        Reply(text=["done"]),
        tools=[{"docs": {"url": "http://127.0.0.1:9/mcp", "headers": {"Authorization": header}}}],
    )
    assert events[-1]["status"] == "COMPLETED"
    everything = repr(events)
    assert KEY not in everything and "of-a-header" not in everything
    notes = client.get_file_content(events[0]["task_id"], "notes.txt").text
    assert notes == f"the key is {KEY}"
    # Tools and the model get unredacted text, because redaction would change the work.
    messages = models.provider.requests[-1]["messages"]
    printed = next(message for message in messages if message["role"] == "tool")
    assert KEY in str(printed["content"])
    main = "".join(event.get("text", "") for event in events if event.get("source") == "main")
    assert main == "[secret] and [secret].done"
    log = models.server.log.read_text()
    assert KEY not in log and "of-a-header" not in log


def test_the_sandbox_isolates_runs(
    models: ModelServer, client: BeRayClient, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("not yours")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        reach = f"python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", {port}), 3)'"
        events = models.done(
            client,
            "break out",
            Reply(calls=[Call("read_file", {"path": "../../../../etc/passwd"})]),
            shell(f"cat {outside}; ln -s / root; cat /proc/1/environ | tr '\\0' '\\n'"),
            Reply(calls=[Call("read_file", {"path": f"root{outside}"})]),
            shell(f"{reach} && echo reached"),
            Reply(text=["no way"]),
        )
        everything = repr(events)
        assert events[-1]["status"] == "COMPLETED"
        if models.server_has_bubblewrap():
            assert "not yours" not in everything and "reached\\n" not in everything
            assert "OPENAI_BASE_URL" not in everything
        assert "root:x:0" not in everything
        # Services on the server's host are not reachable even with network access.
        events = models.done(client, "reach", shell(f"{reach} && echo reached"), Reply(text=["ok"]),
                             limits={"network": True})  # fmt: skip
        assert ("reached\\n" in repr(events)) is not models.server_has_bubblewrap()


def test_exceeding_the_disk_quota_ends_a_task(tmp_path: Path) -> None:
    limits = {"BERAY_WORK_DIR_BYTES": "5000000"}
    with RunningServer.start(tmp_path / "data", limits) as server:
        client = server.sign_up()
        for place in ("fill", "/tmp/fill"):
            task = client.create_task(f"!head -c 20000000 /dev/zero > {place}; sleep 60")
            events = list(client.stream_task_updates(task["id"]))
            assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "quota")
            assert "5,000,000 bytes" in events[-2]["details"]


def stalled(models: ModelServer, goal: str) -> tuple[str, Callable[[list[Any]], bool]]:
    models.script(goal, shell("true"), Reply(text=["begun ", "never"], stall_after=1))
    return goal, lambda events: "begun" in text(events)


def in_a_command(models: ModelServer, goal: str) -> tuple[str, Callable[[list[Any]], bool]]:
    mark = f"73{os.getpid()}"
    stubborn = f"trap '' TERM INT HUP; (setsid sleep {mark} &) ; setsid sleep {mark} & sleep {mark}"
    models.script(goal, shell(stubborn))
    return goal, lambda _: len(sleepers(mark)) == 3


@pytest.mark.parametrize("place", [stalled, in_a_command])
def test_a_stop_ends_all_processes_and_counts_the_tokens(
    models: ModelServer, client: BeRayClient, place: Any
) -> None:
    goal, reached = place(models, f"never ends {place.__name__}")
    stop_in_the_middle(models, client, client.create_task(goal)["id"], reached)


def test_a_stop_ends_a_call_of_an_mcp_server_that_hangs(
    models: ModelServer, client: BeRayClient
) -> None:
    with HttpServer() as mcp:
        goal = models.script("hang", Reply(calls=[Call("tests_hang", {})]))
        task = client.create_task(goal, tools=[{"tests": {"url": mcp.url}}])
        stop_in_the_middle(
            models, client, task["id"],
            lambda events: any(event.get("tool_name") == "tests_hang" for event in events),
        )  # fmt: skip


def stop_in_the_middle(
    models: ModelServer, client: BeRayClient, task_id: int, reached: Callable[[list[Any]], bool]
) -> None:
    events: list[Any] = []
    stream = client.stream_task_updates(task_id)
    reader = threading.Thread(target=lambda: events.extend(stream))
    reader.start()
    until(lambda: reached(events))
    assert models.processes()
    started = time.monotonic()
    client.stop_task(task_id)
    acknowledged = time.monotonic() - started
    reader.join(WAIT_SECONDS)
    ended = time.monotonic() - started
    assert (events[-1]["status"], events[-1]["reason"]) == ("STOPPED", "user")
    assert acknowledged < PROMPT_SECONDS and ended < 2 * PROMPT_SECONDS
    until(lambda: not models.processes())
    usage = client.get_task(task_id)["usage"]
    assert usage is not None
    assert usage["requests"] >= 1 and usage["input_tokens"] > 0


def test_killing_a_process_fails_only_its_task(models: ModelServer, client: BeRayClient) -> None:
    goal, reached = in_a_command(models, "killed")
    task_id = client.create_task(goal)["id"]
    until(lambda: reached([]))
    runs = [process for process in models.processes() if is_fork(process)]
    # The supervisor of the run and the run itself.
    run = next(process for process in runs if process.parent() in runs)
    run.send_signal(signal.SIGKILL)
    events = list(client.stream_task_updates(task_id))
    assert (events[-1]["status"], events[-1]["reason"]) == ("FAILED", "lost_worker")
    until(lambda: not models.processes())
    assert models.done(client, "next", Reply(text=["fine"]))[-1]["status"] == "COMPLETED"


def test_the_fork_server_is_restarted(models: ModelServer, client: BeRayClient) -> None:
    before = fork_servers(models.server)
    for process in before:
        process.kill()
        process.wait()
    assert models.done(client, "again", Reply(text=["fine"]))[-1]["status"] == "COMPLETED"
    assert fork_servers(models.server) and fork_servers(models.server) != before


def fork_servers(server: RunningServer) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children()
    return [child for child in children if is_fork(child)]


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_no_agent_survives_a_server_that_is_killed(tmp_path: Path, sandbox: str) -> None:
    with model_server(tmp_path / "data", BERAY_SANDBOX=sandbox) as models:
        client = models.server.sign_up()
        goal, reached = in_a_command(models, "left alone")
        task_id = client.create_task(goal)["id"]
        until(lambda: reached([]))
        left = psutil.Process(models.server.pid).children(recursive=True)
        models.server.kill()
        psutil.wait_procs(left, timeout=WAIT_SECONDS)
        assert [process for process in left if process.is_running()] == []
        models.server.restart()
        last = list(client.stream_task_updates(task_id))[-1]
        assert (last["status"], last["reason"]) == ("FAILED", "lost_worker")
