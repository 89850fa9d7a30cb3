"""Tasks over the wire: creation, runs, streams, stop, deletion and isolation of users."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient, ConflictError, NotFoundError, UnprocessableEntityError
from beray.testing import RunningServer, raw_request
from tests.shared_servers import ServerPool
from tests.support import done, sleepers, text, until


def test_the_events_of_a_command(beray_client: BeRayClient) -> None:
    events = done(beray_client, "!echo hello; printf 'no newline' >&2")
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["task_id"] for event in events} == {beray_client.list_tasks()[0]["id"]}
    assert all(event["created_at"].endswith("Z") for event in events)
    kinds = [event["type"] for event in events if event["type"] != "AGENT_EVENT_TEXT_CHUNK"]
    assert kinds == [
        "TASK_STATUS", "TASK_STATUS", "AGENT_EVENT_TOOL_RESULT", "AGENT_EVENT_END", "TASK_STATUS",
    ]  # fmt: skip
    assert text(events) == "hello\nno newline"
    assert {event["source"] for event in events if "text" in event} == {"tools:shell"}
    assert events[-3]["result"] == {"exit_code": 0}
    assert [event["status"] for event in events if "status" in event] == [
        "QUEUED", "RUNNING", "COMPLETED",
    ]  # fmt: skip


def test_get_task_has_the_same_events(beray_client: BeRayClient) -> None:
    events = done(beray_client, "!echo ü")
    task = beray_client.get_task(events[0]["task_id"])
    assert task["events"] == events
    assert (task["status"], task["goal"], task["held"]) == ("COMPLETED", "!echo ü", False)
    assert task["created_at"] <= str(task["started_at"]) <= str(task["ended_at"])
    assert "events" not in beray_client.list_tasks()[0]


@pytest.mark.parametrize(
    ("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("nonesuch", 127)]
)
def test_a_command_that_fails(beray_client: BeRayClient, command: str, code: int) -> None:
    events = done(beray_client, f"!{command}")
    assert events[-1]["status"] == "FAILED"
    assert events[-3]["result"] == {"exit_code": code}


def test_output_comes_while_the_command_runs(beray_client: BeRayClient) -> None:
    task = beray_client.create_task(
        "!printf 'no newline yet'; while ! [ -e go ]; do sleep 0.01; done; echo; echo end"
    )
    seen = ""
    for event in beray_client.stream_task_updates(task["id"]):
        seen += str(event.get("text", ""))
        if seen == "no newline yet":
            beray_client.upload_file(task["id"], "go", b"")
    assert seen == "no newline yet\nend\n"


def test_invalid_utf8_is_replaced(beray_client: BeRayClient) -> None:
    events = done(beray_client, r"!printf 'a\377b\303'; sleep 0.05; printf '\244\303'")
    assert text(events) == "a\ufffdbä\ufffd"


def test_output_beyond_what_fits_a_pipe(beray_client: BeRayClient) -> None:
    events = done(beray_client, "!i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")
    assert text(events) == "".join(f"line {number}\n" for number in range(20000))


def test_a_goal_in_words_fails_and_says_what_to_configure(beray_client: BeRayClient) -> None:
    events = done(beray_client, "write a poem")
    assert events[-2]["type"] == "ERROR"
    assert events[-2]["code"] == "NO_MODEL"
    assert "BERAY_MODEL" in events[-2]["details"]
    assert events[-1]["status"] == "FAILED"


@pytest.mark.parametrize(
    "body",
    [{}, {"goal": ""}, {"goal": " \n"}, {"goal": "!"}, {"goal": "! "}, {"goal": 5}, {"goal": "a\0b"},
     {"goal": "x", "tools": [{}]}, {"goal": "x", "tools": [{"a": {}, "b": {}}]}, {"goal": "\ud800"},
     {"goal": "x", "tools": "y"}, {"goal": "x" * 200_001}, {"goal": "x", "start": "perhaps"}, []],
)  # fmt: skip
def test_invalid_goals_are_rejected(beray_client: BeRayClient, body: Any) -> None:
    response = raw_request(beray_client, "POST", "/api/v1/tasks/", json=body)
    assert response.status_code == 422
    assert response.json()["detail"]
    assert beray_client.list_tasks() == []


def test_tools_are_kept(beray_client: BeRayClient) -> None:
    tools = [{"uni-api Docs": {"url": "https://docs.example/mcp"}}]
    assert beray_client.create_task("!true", tools=tools)["tools"] == tools


def test_a_held_task_waits_for_its_files(beray_client: BeRayClient) -> None:
    task = beray_client.create_task("!cat in.txt", start=False)
    assert (task["status"], task["held"]) == ("QUEUED", True)
    beray_client.upload_file(task["id"], "in.txt", "here")
    assert beray_client.start_task(task["id"])["held"] is False
    assert text(list(beray_client.stream_task_updates(task["id"]))) == "here"
    with pytest.raises(ConflictError):
        beray_client.start_task(task["id"])


def test_a_held_task_can_be_stopped(beray_client: BeRayClient) -> None:
    task = beray_client.create_task("!true", start=False)
    beray_client.stop_task(task["id"])
    events = list(beray_client.stream_task_updates(task["id"]))
    assert [event["status"] for event in events] == ["QUEUED", "STOPPED"]
    with pytest.raises(ConflictError):
        beray_client.start_task(task["id"])


@pytest.mark.parametrize("sandbox", ["auto", "none"])
def test_a_stop_leaves_no_process(tmp_path: Path, sandbox: str) -> None:
    mark = f"87{os.getpid()}"
    goal = f"!trap '' TERM; (setsid sh -c 'trap \"\" TERM HUP; sleep {mark} & sleep {mark}' &); sleep {mark}"
    with RunningServer.start(tmp_path / "data", BERAY_SANDBOX=sandbox) as server:
        client = server.sign_up()
        task = client.create_task(goal)
        until(lambda: len(sleepers(mark)) == 3)
        client.stop_task(task["id"])
        client.stop_task(task["id"])
        events = list(client.stream_task_updates(task["id"]))
        assert events[-1]["status"] == "STOPPED"
        assert events[-1]["reason"] == "user"
        assert sleepers(mark) == []
        assert "already ended" in client.stop_task(task["id"])["message"]
        assert client.get_task(task["id"])["events"] == events


def test_what_a_command_leaves_in_the_background_ends_with_it(beray_client: BeRayClient) -> None:
    mark = f"86{os.getpid()}"
    events = done(beray_client, f"!(setsid sleep {mark} &); sleep {mark} & echo started")
    assert text(events) == "started\n"
    assert events[-1]["status"] == "COMPLETED"
    assert sleepers(mark) == []


def test_tasks_run_in_order_as_slots_are_free(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_SLOTS="1") as server:
        client = server.sign_up()
        first = client.create_task("!while ! [ -e go ]; do sleep 0.01; done")
        later = [client.create_task("!true")["id"] for _ in range(4)]
        until(lambda: client.get_task(first["id"])["status"] == "RUNNING")
        client.stop_task(later.pop(1))
        assert {task["status"] for task in client.list_tasks()} == {"RUNNING", "QUEUED", "STOPPED"}
        client.upload_file(first["id"], "go", b"")
        for task_id in later:
            list(client.stream_task_updates(task_id))
        started = [str(client.get_task(task_id)["started_at"]) for task_id in (first["id"], *later)]
        ended = [str(client.get_task(task_id)["ended_at"]) for task_id in (first["id"], *later)]
        assert all(before <= after for before, after in zip(ended, started[1:], strict=False))


def test_delete_removes_everything(beray_server: RunningServer, beray_client: BeRayClient) -> None:
    mark = f"85{os.getpid()}"
    task_id = beray_client.create_task(f"!mkdir -p a/b; chmod 000 a; sleep {mark}")["id"]
    until(lambda: sleepers(mark))
    assert beray_client.delete_task(task_id)["status"] == "success"
    assert sleepers(mark) == []
    assert not (beray_server.data_dir / "workspaces" / str(task_id)).exists()
    for call in (beray_client.get_task, beray_client.stop_task, beray_client.delete_task):
        with pytest.raises(NotFoundError):
            call(task_id)
    with pytest.raises(NotFoundError):
        next(beray_client.stream_task_updates(task_id))
    assert beray_client.create_task("!true")["id"] > task_id


def test_a_strangers_task_is_not_there(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = beray_client.create_task("!echo secret > f")["id"]
    list(beray_client.stream_task_updates(task_id))
    stranger = beray_server.sign_up()
    assert stranger.list_tasks() == []
    calls: list[Callable[[], Any]] = [
        lambda: stranger.get_task(task_id),
        lambda: stranger.stop_task(task_id),
        lambda: stranger.start_task(task_id),
        lambda: stranger.delete_task(task_id),
        lambda: next(stranger.stream_task_updates(task_id)),
        lambda: stranger.list_files_tree(task_id),
        lambda: stranger.get_file_content(task_id, "f"),
        lambda: stranger.upload_file(task_id, "f", b""),
        lambda: stranger.download_files_as_zip(task_id),
    ]
    for call in calls:
        with pytest.raises(NotFoundError) as caught:
            call()
        assert caught.value.error_detail == f"Task {task_id} does not exist."
    assert beray_client.get_file_content(task_id, "f").content == b"secret\n"


@pytest.mark.parametrize("task_id", ["0", "-1", "x", "1.5", "9" * 30])
def test_ids_that_are_none(beray_client: BeRayClient, task_id: str) -> None:
    response = raw_request(beray_client, "GET", f"/api/v1/tasks/{task_id}")
    assert response.status_code in (404, 422)
    assert response.json()["detail"]


def test_the_stream_on_the_wire(beray_client: BeRayClient) -> None:
    """As published clients read it: each ``data:`` line is one whole JSON object."""
    events = done(beray_client, "!printf 'two\\nlines'; printf '\\342\\200\\250'")
    path = f"/api/v1/tasks/{events[0]['task_id']}/stream"
    with raw_request(beray_client, "GET", path, stream=True) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        body = response.content
    lines = body.decode().split("\n")
    assert [json.loads(line[6:]) for line in lines if line.startswith("data: ")] == events
    assert [line for line in lines if line.startswith("id: ")] == [
        f"id: {e['seq']}" for e in events
    ]
    assert lines[0].startswith("retry: ")
    assert all(line == "" or line.split(":")[0] in ("id", "data", "retry") for line in lines)


def test_every_place_to_resume_at(beray_client: BeRayClient) -> None:
    events = done(beray_client, "!for i in 1 2 3; do echo $i; sleep 0.02; done")
    for seq in range(1, len(events)):
        rest = beray_client.stream_task_updates(events[0]["task_id"], last_event_id=str(seq))
        assert list(rest) == events[seq:]


@pytest.mark.parametrize("last", ["x", "-1", "99999", "1.0", "²", "9" * 40])
def test_a_last_event_id_that_is_none(beray_client: BeRayClient, last: str) -> None:
    task_id = done(beray_client, "!true")[0]["task_id"]
    response = raw_request(
        beray_client,
        "GET",
        f"/api/v1/tasks/{task_id}/stream",
        headers={"Last-Event-ID": last.encode()},
    )
    assert response.status_code == 422
    with pytest.raises(UnprocessableEntityError):
        next(beray_client.stream_task_updates(task_id, last_event_id="99999"))


def test_many_watchers_see_the_same(beray_client: BeRayClient) -> None:
    task_id = beray_client.create_task(
        "!i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); [ $((i%50)) = 0 ] && sleep 0.02; done; true"
    )["id"]
    streams = [beray_client.stream_task_updates(task_id) for _ in range(5)]
    everything = [list(stream) for stream in streams]
    assert all(events == everything[0] for events in everything)
    assert text(everything[0]) == "".join(f"{number}\n" for number in range(300))


def test_heartbeats_are_comments(server_pool: ServerPool) -> None:
    with server_pool.server(BERAY_HEARTBEAT_SECONDS="0.05").sign_up() as client:
        task_id = client.create_task("!sleep 30")["id"]
        path = f"/api/v1/tasks/{task_id}/stream"
        with raw_request(client, "GET", path, stream=True) as response:
            lines = response.iter_lines()
            assert next(line for line in lines if line.startswith(b":")) == b": alive"
        client.stop_task(task_id)


@pytest.mark.parametrize("path", ["/nonesuch", "/api/v1/nonesuch", "/api/v1/tasks/1/nonesuch"])
def test_errors_are_json(beray_server: RunningServer, path: str) -> None:
    response = requests.get(f"{beray_server.url}{path}", timeout=10)
    assert response.status_code == 404
    assert response.json() == {"detail": "Not Found"}


def test_health_and_docs(beray_server: RunningServer) -> None:
    assert requests.get(f"{beray_server.url}/healthz", timeout=10).json()["status"] == "ok"
    assert "swagger" in requests.get(f"{beray_server.url}/docs", timeout=10).text.lower()
    paths = requests.get(f"{beray_server.url}/openapi.json", timeout=10).json()["paths"]
    assert "/api/v1/tasks/{task_id}/stream" in paths


def test_bodies_beyond_the_limit_are_rejected(beray_client: BeRayClient) -> None:
    body = b"x" * (17 * 1024 * 1024)
    response = raw_request(beray_client, "POST", "/api/v1/tasks/", data=body)
    assert response.status_code == 413
    assert response.json()["detail"]
