"""Checkpoints of tasks and chats of a real server: occasions, positions and events."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from beray import BeRayClient
from beray.testing import RunningServer
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer
from tests.server.recorded_task import RecordedTask, answered, history_events
from tests.support import until

WAITING = "!until [ -e go ]; do sleep 0.05; done; cat uploaded > copy; true"


def seqs(client: BeRayClient, task_id: int) -> list[int]:
    return [one["seq"] for one in client.list_checkpoints(task_id)]


def test_a_shell_task_is_recorded_at_its_start_after_its_command_and_at_its_end(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task = RecordedTask.run(
        beray_server, beray_client, "!mkdir d; seq 3 > d/three; ln -s d link; echo x > .hidden"
    )
    first, step, last = beray_client.list_checkpoints(task.id)
    assert (first["checkpoint"], first["reason"], first["files"]) == ("c1", "start", 0)
    assert (step["checkpoint"], step["reason"]) == ("c2", "step")
    assert (step["files"], step["bytes"], step["not_stored"]) == (3, 8, 0)
    assert (step["added"], step["modified"], step["deleted"]) == (3, 0, 0)
    assert (step["lines_added"], step["lines_deleted"]) == (5, 0)
    assert (last["checkpoint"], last["reason"], last["added"]) == ("c3", "end", 0)
    events = beray_client.get_task(task.id)["events"]
    assert first["seq"] == next(one["seq"] for one in events if one.get("status") == "RUNNING")
    result = next(one for one in events if one["type"] == "AGENT_EVENT_TOOL_RESULT")
    assert step["seq"] == result["seq"]
    assert events[-1]["status"] == "COMPLETED"
    assert last["seq"] == events[-2]["seq"]
    assert history_events(beray_client, task.id) == [
        {
            "kind": "checkpoint",
            "checkpoint": "c2",
            "seq": step["seq"],
            "reason": "step",
            "added": 3,
            "modified": 0,
            "deleted": 0,
            "lines_added": 5,
            "lines_deleted": 0,
        }
    ]


def test_a_task_without_changes_reports_nothing(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task = RecordedTask.run(beray_server, beray_client, "!true")
    assert task.checkpoints() == [("c1", "start"), ("c2", "end")]
    assert history_events(beray_client, task.id) == []


@pytest.mark.parametrize("goal", ["!touch kept; exit 3", "!touch kept; kill -9 $$"])
def test_a_failed_task_is_recorded(
    beray_server: RunningServer, beray_client: BeRayClient, goal: str
) -> None:
    task = RecordedTask.run(beray_server, beray_client, goal)
    assert beray_client.get_task(task.id)["status"] == "FAILED"
    assert task.checkpoints() == [("c1", "start"), ("c2", "step"), ("c3", "end")]
    assert [item["name"] for item in beray_client.list_files_tree(task.id, at="c2")] == ["kept"]


def test_a_stopped_task_is_recorded_without_an_event(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = beray_client.create_task("!echo kept > kept; sleep 600")["id"]
    task = RecordedTask(beray_server, beray_client, task_id)
    until(lambda: (task.work_dir / "kept").exists())
    beray_client.stop_task(task_id)
    events = list(beray_client.stream_task_updates(task_id))
    assert events[-1]["status"] == "STOPPED"
    assert task.checkpoints() == [("c1", "start"), ("c2", "end")]
    assert beray_client.get_file_content(task_id, "kept", at="c2").content == b"kept\n"
    assert history_events(beray_client, task_id) == []


def test_uploads_before_during_and_after_a_run(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = beray_client.create_task(WAITING, start=False)["id"]
    task = RecordedTask(beray_server, beray_client, task_id)
    beray_client.upload_file(task_id, "before", "before")
    assert task.checkpoints() == []
    beray_client.start_task(task_id)
    until(lambda: task.checkpoints() == [("c1", "start")])
    assert list(names(beray_client, task_id, "c1")) == ["before"]

    for number in range(3):
        beray_client.upload_file(task_id, "uploaded", f"during {number}")
    until(lambda: len(task.checkpoints()) == 2)
    assert task.checkpoints()[1] == ("c2", "upload")
    content = beray_client.get_file_content(task_id, "uploaded", at="c2").content
    assert content == b"during 2"
    beray_client.upload_file(task_id, "go", "")
    list(beray_client.stream_task_updates(task_id))
    assert task.checkpoints()[-1][1] == "end"
    assert beray_client.get_file_content(task_id, "copy").content == b"during 2"
    count = len(task.checkpoints())

    # Uploads in quick succession become one checkpoint, and requests do not wait for its delay.
    last_seq = beray_client.get_task(task_id)["last_seq"]
    for number in range(3):
        beray_client.upload_file(task_id, f"after{number}", "after")
    assert task.checkpoints()[count:] == [(f"c{count + 1}", "upload")]
    beray_client.upload_file(task_id, "after0", "again")
    assert beray_client.get_file_content(task_id, "after0", at=last_seq).content == b"again"
    task.call("PUT", "files/directory", params={"path": "empty"}).raise_for_status()
    assert "empty" in names(beray_client, task_id, last_seq)
    assert task.checkpoints()[count:] == [
        (f"c{count + 1}", "upload"),
        (f"c{count + 2}", "upload"),
        (f"c{count + 3}", "upload"),
    ]
    # They share the seq of the terminal status.
    assert seqs(beray_client, task_id)[count:] == [last_seq] * 3
    assert beray_client.get_task(task_id)["last_seq"] == last_seq
    # Without a request, an upload is recorded by itself.
    beray_client.upload_file(task_id, "alone", "alone")
    database_has(beray_server, task_id, count + 4)


def database_has(server: RunningServer, task_id: int, count: int) -> None:
    """Wait until a task has a number of checkpoints, without a request that records uploads."""

    def found() -> int:
        with closing(sqlite3.connect(server.data_dir / "beray.sqlite3")) as connection:
            query = "SELECT count(*) FROM checkpoints WHERE task_id = ?"
            return int(connection.execute(query, (task_id,)).fetchone()[0])

    until(lambda: found() == count)


def names(client: BeRayClient, task_id: int, at: int | str) -> list[str]:
    return [item["path"] for item in client.list_files_tree(task_id, at=at)]


def test_an_upload_that_began_before_the_run_and_ends_after_it(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = beray_client.create_task("!true", start=False)["id"]
    task = RecordedTask(beray_server, beray_client, task_id)

    def body() -> Iterator[bytes]:
        yield b"first"
        beray_client.start_task(task_id)
        list(beray_client.stream_task_updates(task_id))
        yield b" second"

    task.call("PUT", "files/content", params={"path": "slow"}, data=body()).raise_for_status()
    assert task.checkpoints() == [("c1", "start"), ("c2", "end"), ("c3", "upload")]
    assert beray_client.get_file_content(task_id, "slow", at="c3").content == b"first second"


class Recorded:
    """Replies of a model; the checkpoints are listed while a reply is awaited."""

    def __init__(self, client: BeRayClient, *replies: Reply) -> None:
        self.client = client
        self.replies = replies
        self.listed: list[list[str]] = []

    def __len__(self) -> int:
        return len(self.replies)

    def __getitem__(self, index: int, /) -> Reply:
        task_id = self.client.list_tasks()[0]["id"]
        self.listed.append(
            [str(one.get("reason")) for one in self.client.list_checkpoints(task_id)]
        )
        return self.replies[index]


def write(path: str, content: str) -> Call:
    return Call("write_file", {"path": path, "content": content})


def test_each_tool_call_of_a_model_is_recorded_before_the_next_request(
    models: ModelServer,
) -> None:
    with models.server.sign_up() as client:
        replies = Recorded(
            client,
            Reply(calls=[write("a", "1\n")]),
            Reply(calls=[Call("read_file", {"path": "a"})]),
            Reply(calls=[write("a", "2\n3\n"), write("b", "b")]),
            Reply(calls=[Call("run_command", {"command": "rm b; mkdir c"})]),
            Reply(text=["Done."]),
        )
        task = client.create_task(models.script_from("record each step", replies))
        list(client.stream_task_updates(task["id"]))
        rows = client.list_checkpoints(task["id"])
        steps = [one for one in rows if one["reason"] == "step"]
        # A step that changes nothing is not recorded; parallel calls may be one or two steps.
        assert [one["reason"] for one in rows] == ["start", *["step"] * len(steps), "end"]
        assert len(steps) in (3, 4)
        counts = [len([reason for reason in one if reason == "step"]) for one in replies.listed]
        assert counts == [0, 1, 1, len(steps) - 1, len(steps)]
        events = client.get_task(task["id"])["events"]
        results = [one["seq"] for one in events if one["type"] == "AGENT_EVENT_TOOL_RESULT"]
        assert steps[0]["seq"] == results[0]
        assert steps[-1]["seq"] == results[-1]
        contents = {one["checkpoint"]: names(client, task["id"], one["checkpoint"]) for one in rows}
        assert contents["c1"] == []
        assert contents[steps[0]["checkpoint"]] == ["a"]
        assert contents[steps[-2]["checkpoint"]] == ["a", "b"]
        assert contents[steps[-1]["checkpoint"]] == ["a", "c"]
        first, *_, removed = history_events(client, task["id"])
        assert (first["added"], first["lines_added"], first["lines_deleted"]) == (1, 1, 0)
        assert (removed["added"], removed["modified"], removed["deleted"]) == (0, 0, 1)
        # The state at each event is that of the step before it.
        assert names(client, task["id"], results[0]) == ["a"]
        assert names(client, task["id"], results[0] - 1) == []


def test_answers_of_chats_are_recorded(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = answered(beray_client, "history", "!echo one > file")
    task = RecordedTask(beray_server, beray_client, task_id)
    assert task.checkpoints() == [("c1", "upload"), ("c2", "step")]
    beray_client.upload_file(task_id, "uploaded", "uploaded")
    assert task.checkpoints()[2:] == [("c3", "upload")]
    answered(beray_client, "history", "!true")
    assert len(task.checkpoints()) == 3  # nothing has changed
    answered(beray_client, "history", "!cat uploaded >> file")
    assert task.checkpoints()[3:] == [("c4", "step")]
    # Between answers, the work_dir can be restored.
    assert task.restore("c2").status_code == 200
    assert task.state() == {"file": b"one\n"}
    answered(beray_client, "history", "!cat file > copy")
    assert task.state() == {"file": b"one\n", "copy": b"one\n"}


def test_pages_of_checkpoints(beray_server: RunningServer, beray_client: BeRayClient) -> None:
    task = RecordedTask.run(beray_server, beray_client, "!touch a")
    for number in range(5):
        task.restore(f"c{1 + number % 2}").raise_for_status()
    everything = beray_client.list_checkpoints(task.id)
    assert len(everything) == 8
    found, path = [], "checkpoints?limit=3"
    while path:
        page = task.call("GET", path)
        found += page.json()
        assert len(page.json()) <= 3
        link = page.links.get("next", {}).get("url", "")
        assert link.startswith(f"/api/v1/tasks/{task.id}/checkpoints?") or not link
        path = link.rpartition("/")[2]
    assert found == everything
    assert task.get("checkpoints", after=5).json() == everything[5:]
    assert task.get("checkpoints", after=8).json() == []


@pytest.mark.parametrize(
    "query",
    [
        "after=-1", "after=x", "after=1.0", "after=01", f"after={2**63}", "after=%00", "after=",
        "limit=0", "limit=1001", "limit=-1", "limit=true", f"limit={10**30}",
    ],
)  # fmt: skip
def test_invalid_pages(beray_server: RunningServer, beray_client: BeRayClient, query: str) -> None:
    task_id = beray_client.create_task("!true", start=False)["id"]
    response = RecordedTask(beray_server, beray_client, task_id).call("GET", f"checkpoints?{query}")
    assert response.status_code == 422, response.text


def test_limits_are_reported_once(tmp_path: Path) -> None:
    settings = {"BERAY_HISTORY_FILE_BYTES": "1000"}
    with RunningServer.start(tmp_path / "data", settings) as server, server.sign_up() as client:
        goal = "!for n in $(seq 30); do head -c 1001 /dev/zero > large$n; done; echo x > small"
        task = RecordedTask.run(server, client, goal)
        (event,) = history_events(client, task.id, "not_stored")
        assert event["count"] == 30
        assert len(event["paths"]) == 20
        assert event["paths"][0].startswith("large")
        assert "BERAY_HISTORY_FILE_BYTES (1,000 bytes)" in event["message"]
        assert client.list_checkpoints(task.id)[-1]["not_stored"] == 30
        assert task.content("small", "c2").content == b"x\n"
        response = task.content("large1", "c2")
        assert response.status_code == 409
        assert "'large1' was not stored" in response.json()["detail"]
        for paths in ([], ["large1"]):
            body = {"paths": paths}
            archive = task.call("POST", "files/download", params={"at": "c2"}, json=body)
            assert archive.status_code == 409
        archive = task.call(
            "POST", "files/download", params={"at": "c2"}, json={"paths": ["small"]}
        )
        assert archive.status_code == 200
        refused = task.restore("c1")
        assert refused.status_code == 409
        assert "could not be undone" in refused.json()["detail"]
        assert len(task.state()) == 31
        assert task.restore("c1", paths=["small"]).status_code == 200


def test_a_restarted_server_continues(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server, server.sign_up() as client:
        task = RecordedTask.run(server, client, "!echo one > file")
        before = client.list_checkpoints(task.id)
        running = client.create_task("!echo started > file; sleep 600")["id"]
        until(lambda: len(client.list_checkpoints(running)) == 1)
        started = RecordedTask(server, client, running)
        until(lambda: (started.work_dir / "file").exists())
        client.upload_file(task.id, "pending", "pending")
        server.restart()
        # An upload that waits to be recorded is recorded when the server stops.
        assert client.list_checkpoints(task.id)[: len(before)] == before
        assert task.checkpoints()[-2:] == [("c3", "end"), ("c4", "upload")]
        assert started.checkpoints() == [("c1", "start"), ("c2", "end")]
        client.upload_file(task.id, "later", "later")
        assert task.checkpoints()[-1] == ("c5", "upload")
        assert names(client, task.id, "c5") == ["file", "later", "pending"]
        server.kill()
        server.restart()
        assert len(task.checkpoints()) == 5
        assert task.restore("c2").status_code == 200
        assert task.state() == {"file": b"one\n"}
        # After a crash during a run, the next server records the files at its start.
        killed = client.create_task("!echo killed > file; sleep 600")["id"]
        crashed = RecordedTask(server, client, killed)
        until(lambda: (crashed.work_dir / "file").exists())
        server.kill()
        server.restart()
        assert crashed.checkpoints() == [("c1", "start"), ("c2", "end")]
        assert names(client, killed, "c2") == ["file"]


def test_checkpoints_appear_while_a_task_runs(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task_id = beray_client.create_task("!sleep 600")["id"]
    task = RecordedTask(beray_server, beray_client, task_id)
    until(lambda: task.checkpoints() == [("c1", "start")])
    assert task.get("diff").json()["files"] == []
    assert names(beray_client, task_id, "c1") == []
    beray_client.stop_task(task_id)
