"""The stream over all tasks of a user, and the pages of one task's events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient, NotFoundError, UnprocessableEntityError
from beray.events import MsgError, MsgEventSendFile, MsgEventTextChunk
from beray.server.storage import task_changes
from beray.server.storage.times import utc_now
from beray.server.tasks.preview import MAX_CHARACTERS, LastLines
from beray.testing import RunningServer, authorization
from tests.repositories import opened
from tests.support import done, until


def taken(client: BeRayClient, count: int, behind: str | None = None) -> list[Any]:
    """The first numbered updates of a stream, and what comes between them."""
    found: list[Any] = []
    with client.stream_all_updates(last_event_id=behind) as stream:
        for update in stream:
            found.append(update)
            if sum("seq" in seen for seen in found) == count:
                return found
    raise AssertionError("the stream ended")


def numbered(updates: list[Any]) -> list[tuple[Any, ...]]:
    return [
        (update["seq"], update["type"], update.get("task_id"), update.get("status"))
        for update in updates
        if "seq" in update
    ]


def test_it_begins_with_all_tasks_and_goes_on_with_what_changes(beray_client: BeRayClient) -> None:
    first = done(beray_client, "!echo before")[0]["task_id"]
    with beray_client.stream_all_updates() as stream:
        board = next(stream)
        assert (board["type"], board["seq"]) == ("TASKS", 3)
        assert board["tasks"] == beray_client.list_tasks()
        task_id = beray_client.create_task("!echo one; while ! [ -e go ]; do sleep 0.05; done")[
            "id"
        ]
        seen: list[Any] = []
        for update in stream:
            seen.append(update)
            if update.get("last_line") == "one":
                beray_client.upload_file(task_id, "go", b"")
            if update.get("status") == "COMPLETED":
                break
        beray_client.delete_task(first)
        assert next(stream)["type"] == "TASK_DELETED"
    assert numbered(seen) == [
        (4, "TASK_STATUS", task_id, "QUEUED"),
        (5, "TASK_STATUS", task_id, "RUNNING"),
        (6, "TASK_STATUS", task_id, "COMPLETED"),
    ]
    assert seen[-1]["task"] == next(
        task for task in beray_client.list_tasks() if task["id"] == task_id
    )
    progress = [update for update in seen if update["type"] == "TASK_PROGRESS"]
    assert [update["last_line"] for update in progress if update["last_line"]] == ["one"]
    assert all("seq" not in update and update["task_id"] == task_id for update in progress)


def test_the_feed_resumes_after_every_change(beray_client: BeRayClient) -> None:
    ids = [done(beray_client, f"!echo {number}")[0]["task_id"] for number in range(2)]
    beray_client.delete_task(ids[0])
    truth = [
        (1, "TASK_STATUS", ids[0], "QUEUED"),
        (2, "TASK_STATUS", ids[0], "RUNNING"),
        (3, "TASK_STATUS", ids[0], "COMPLETED"),
        (4, "TASK_STATUS", ids[1], "QUEUED"),
        (5, "TASK_STATUS", ids[1], "RUNNING"),
        (6, "TASK_STATUS", ids[1], "COMPLETED"),
        (7, "TASK_DELETED", ids[0], None),
    ]
    for behind in range(7):
        updates = taken(beray_client, 7 - behind, str(behind))
        assert numbered(updates) == truth[behind:]
        assert all(
            ("task" in update) == (update["task_id"] == ids[1])
            for update in updates
            if update["type"] == "TASK_STATUS"
        )


def test_a_place_that_is_not_known_begins_anew(beray_client: BeRayClient) -> None:
    done(beray_client, "!true")
    assert numbered(taken(beray_client, 1, "4")) == [(3, "TASKS", None, None)]
    with pytest.raises(UnprocessableEntityError, match="Last-Event-ID"):
        next(beray_client.stream_all_updates(last_event_id="not-a-number"))


def test_a_resumed_feed_has_running_tasks(beray_client: BeRayClient) -> None:
    task = beray_client.create_task("!echo here; while ! [ -e go ]; do sleep 0.05; done")
    until(lambda: beray_client.get_task(task["id"])["last_line"] == "here")
    with beray_client.stream_all_updates(last_event_id="2") as stream:
        update = next(stream)
    assert update["type"] == "TASK_PROGRESS"
    assert (update["task_id"], update["last_line"]) == (task["id"], "here")
    beray_client.stop_task(task["id"])


def test_every_change_comes_once_whatever_happens_to_the_server(tmp_path: Path) -> None:
    server = RunningServer.start(tmp_path / "data")
    try:
        with server.sign_up() as client, client.stream_all_updates(reconnect=60.0) as stream:
            assert next(stream)["type"] == "TASKS"
            seen: list[Any] = []
            for round_number in range(2):
                task = client.create_task(f"!echo {round_number}; sleep 60")
                while not seen or seen[-1].get("last_line") != str(round_number):
                    seen.append(next(stream))
                server.kill()
                server.restart()
                while (seen[-1].get("task_id"), seen[-1].get("status")) != (task["id"], "FAILED"):
                    seen.append(next(stream))
            assert [update[0] for update in numbered(seen)] == [1, 2, 3, 4, 5, 6]
    finally:
        server.stop()


def test_the_feed_has_only_the_users_own_tasks(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    with beray_server.sign_up() as other, beray_client.stream_all_updates() as stream:
        assert next(stream) == {"seq": 0, "type": "TASKS", "tasks": []}
        theirs = done(other, "!echo secret")[0]["task_id"]
        mine = done(beray_client, "!echo mine")[0]["task_id"]
        seen = [next(stream) for _ in range(3)]
        with pytest.raises(NotFoundError):
            beray_client.list_events(theirs)
    assert {update["task_id"] for update in seen} == {mine}
    assert [update[0] for update in numbered(seen)] == list(range(1, len(numbered(seen)) + 1))


def test_a_held_task_that_is_let_go_is_a_change(beray_client: BeRayClient) -> None:
    task = beray_client.create_task("!true", start=False)
    beray_client.start_task(task["id"])
    list(beray_client.stream_task_updates(task["id"]))
    assert [update[3] for update in numbered(taken(beray_client, 4, "0"))] == [
        "QUEUED", "QUEUED", "RUNNING", "COMPLETED",
    ]  # fmt: skip


def test_the_wire_is_one_line_of_json_for_each_update(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        done(client, "!printf 'ü\\n'")
        headers = authorization(client)
    url = f"{beray_server.url}/api/v1/tasks/stream"
    with requests.get(url, headers=headers, stream=True, timeout=10) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert [next(lines) for _ in range(3)] == [b"retry: 1000", b"", b"id: 3"]
        data = next(lines).decode()
    board = json.loads(data.removeprefix("data: "))
    assert [task["last_line"] for task in board["tasks"]] == ["ü"]
    assert requests.get(url, timeout=10).status_code == 401


def test_pages_of_events(beray_client: BeRayClient) -> None:
    events = done(beray_client, "!for i in $(seq 30); do echo $i; sleep 0.003; done")
    task_id = events[0]["task_id"]
    assert beray_client.get_task(task_id)["last_seq"] == len(events)
    assert beray_client.list_events(task_id) == events
    assert beray_client.list_events(task_id, after=2, limit=3) == events[2:5]
    assert beray_client.list_events(task_id, after=len(events)) == []
    for wrong in ({"limit": 0}, {"limit": 5001}, {"after": -1}, {"after": 2**63}):
        with pytest.raises(UnprocessableEntityError):
            beray_client.list_events(task_id, **wrong)


def test_old_changes_are_deleted_and_the_rest_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_changes, "RETAINED_CHANGES", 20)
    monkeypatch.setattr(task_changes, "_CLEANUP_INTERVAL", 10)
    with opened(tmp_path / "db.sqlite3") as repositories:
        user_id, changes = repositories.user_id(), repositories.changes
        with repositories.database.writing() as session:
            for number in range(65):
                task_changes.add(session, user_id, number, "RUNNING", None, utc_now())
        with changes.following(user_id, 0) as rows:
            assert [change.seq for change, _ in rows] == list(range(41, 66))
        assert changes.last_seq(user_id) == 65
        assert [changes.covers(user_id, place) for place in (39, 40, 65, 66)] == [
            False, True, True, False,
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        (["hel", "lo\nwor", "ld\n"], "world"),
        (["a\n", "\n \n"], "a"),
        (["10%\r", "20%\r"], "20%"),
        (["x" * 5000], "x" * (MAX_CHARACTERS - 1) + "…"),
        (["ok \ud800 end"], "ok ? end"),
        (["\n"], ""),
    ],
)
def test_the_last_line_of_text_that_comes_in_pieces(pieces: list[str], line: str) -> None:
    lines = LastLines()
    said = [lines.update(1, MsgEventTextChunk(text=piece)) for piece in pieces]
    assert said[-1] == line


def test_the_last_line_of_other_events() -> None:
    lines = LastLines()
    assert lines.update(1, MsgEventTextChunk(text="one")) == "one"
    assert lines.update(1, MsgError(code="E", details="broken")) == "E: broken"
    assert lines.update(1, MsgEventTextChunk(text="two")) == "two"
    assert lines.update(2, MsgEventSendFile(path="a/b")) == "⇩ a/b"


def test_the_task_of_a_change_always_has_its_status(beray_client: BeRayClient) -> None:
    task_id = beray_client.create_task("!echo one", tags=["t"])["id"]
    for _ in beray_client.stream_task_updates(task_id):
        pass
    updates = taken(beray_client, 3, behind="0")
    changed = [update for update in updates if update["type"] == "TASK_STATUS"]
    assert [update["status"] for update in changed] == ["QUEUED", "RUNNING", "COMPLETED"]
    for update in changed:
        task = update["task"]
        assert (task["status"], task["reason"]) == (update["status"], update.get("reason"))
        assert (task["id"], task["goal"], task["tags"]) == (task_id, "!echo one", ["t"])
    unknown = {"held", "started_at", "ended_at", "last_seq", "last_line", "usage"}
    assert [unknown & update["task"].keys() for update in changed] == [set(), set(), unknown]
    assert changed[-1]["task"] == next(
        task for task in beray_client.list_tasks() if task["id"] == task_id
    )


def test_the_last_line_is_not_mixed_from_parallel_commands() -> None:
    def output(call_id: str, text: str) -> MsgEventTextChunk:
        fields = {"text": text, "source": "tools:run_command", "call_id": call_id}
        return MsgEventTextChunk.model_validate(fields)

    lines = LastLines()
    assert lines.update(1, output("1", "unfinished")) == "unfinished"
    assert lines.update(1, output("2", "other\n")) == "other"
