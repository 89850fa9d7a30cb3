"""Tasks that are created with the files and the messages of another task."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from beray import BeRayClient
from beray.exceptions import BeRayException
from beray.schema import TERMINAL_STATUSES, TaskOrigin
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.history_bench import INTERRUPTED, Bench, text
from tests.support import until

GOAL = "write files"
NEXT = "now something else"
Sent = list[tuple[str, Any]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("forks") / "data", "openai")
    yield made
    made.close()


@pytest.fixture
def client(bench: Bench) -> Iterator[BeRayClient]:
    bench.script.clear()
    with bench.server.sign_up() as client:
        yield client


def write(name: str) -> Reply:
    call = Call("write_file", {"path": name, "content": name})
    return Reply(text=[f"I write {name}."], calls=[call])


def written(*names: str) -> Sent:
    sent: Sent = [("user", GOAL)]
    for name in names:
        sent += [
            ("assistant", f"I write {name}."),
            ("assistant", "call write_file"),
            ("tool", f"{name}: 1 bytes written"),
        ]
    return sent


@pytest.fixture
def source(bench: Bench, client: BeRayClient) -> int:
    """Id of a task that has written the files a and b in two steps."""
    bench.script += [write("a"), write("b"), Reply(text=["Both."])]
    task_id = client.create_task(GOAL)["id"]
    list(client.stream_task_updates(task_id))
    return task_id


def run(bench: Bench, client: BeRayClient, origin: TaskOrigin, **options: Any) -> Any:
    """Run a task that continues another one, and return it."""
    bench.script.append(Reply(text=["Done."]))
    task_id = client.create_task(NEXT, from_task=origin, **options)["id"]
    assert text(list(client.stream_task_updates(task_id))) == "Done."
    return client.get_task(task_id)


def names(client: BeRayClient, task_id: int) -> list[str]:
    return [item["name"] for item in client.list_files_tree(task_id)]


def test_a_fork_at_each_checkpoint_has_the_messages_and_files_of_its_step(
    bench: Bench, client: BeRayClient, source: int
) -> None:
    everything = [*written("a", "b"), ("assistant", "Both.")]
    states = [
        (written(), []),
        (written("a"), ["a"]),
        (written("a", "b"), ["a", "b"]),
        (everything, ["a", "b"]),
    ]
    checkpoints = client.list_checkpoints(source)
    assert len(checkpoints) == len(states)
    for checkpoint, (sent, files) in zip(checkpoints, states, strict=True):
        name, seq = checkpoint["checkpoint"], checkpoint["seq"]
        positions: list[TaskOrigin] = [
            {"task": source, "checkpoint": name},
            {"task": source, "seq": seq},
        ]
        for origin in positions:
            task = run(bench, client, origin)
            assert bench.sent() == [*sent, ("user", NEXT)]
            assert names(client, task["id"]) == files
            assert task["from"] == {
                "task": source, "seq": seq, "checkpoint": name, "conversation": True
            }  # fmt: skip
    last = client.get_task(source)["last_seq"]
    task = run(bench, client, {"task": source})
    assert bench.sent() == [*everything, ("user", NEXT)]
    assert task["from"]["seq"] == last
    run(bench, client, {"task": task["id"]})
    assert bench.sent() == [*everything, ("user", NEXT), ("assistant", "Done."), ("user", NEXT)]


def test_a_step_without_changes_is_continued_by_its_seq(bench: Bench, client: BeRayClient) -> None:
    look = Reply(text=["I look."], calls=[Call("read_file", {"path": "a"})])
    bench.script += [write("a"), look, Reply(text=["It is a."])]
    task_id = client.create_task(GOAL)["id"]
    events = list(client.stream_task_updates(task_id))
    first, second = (event["seq"] for event in events if event["type"] == "AGENT_EVENT_TOOL_RESULT")
    task = run(bench, client, {"task": task_id, "seq": second})
    assert task["from"]["seq"] == second
    assert task["from"]["checkpoint"] == "c2"
    looked = [("assistant", "I look."), ("assistant", "call read_file"), ("tool", "a")]
    assert bench.sent() == [*written("a"), *looked, ("user", NEXT)]
    run(bench, client, {"task": task_id, "seq": first})
    assert bench.sent() == [*written("a"), ("user", NEXT)]


def test_a_stopped_task_is_continued_with_its_interrupted_call(
    bench: Bench, client: BeRayClient
) -> None:
    command = {"command": "touch begun; sleep 600", "timeout_seconds": 600}
    bench.script += [write("a"), Reply(calls=[Call("run_command", command)])]
    task_id = client.create_task(GOAL)["id"]
    until(lambda: "begun" in names(client, task_id))
    bench.script.append(Reply(text=["Done."]))
    during = client.create_task(NEXT, from_task={"task": task_id})["id"]
    list(client.stream_task_updates(during))
    assert bench.sent() == [*written("a"), ("user", NEXT)]
    client.stop_task(task_id)
    until(lambda: client.get_task(task_id)["status"] == "STOPPED")
    task = run(bench, client, {"task": task_id})
    assert names(client, task["id"]) == ["a", "begun"]
    interrupted = [("assistant", "call run_command"), ("tool", INTERRUPTED)]
    assert bench.sent() == [*written("a"), *interrupted, ("user", NEXT)]


def test_only_the_model_continues_a_conversation(
    bench: Bench, client: BeRayClient, source: int
) -> None:
    shell = client.create_task("!ls", from_task={"task": source})
    assert shell["from"] is not None
    assert shell["from"]["conversation"] is False
    listed = [event.get("text") for event in client.stream_task_updates(shell["id"])]
    assert "a\nb\n" in listed
    task = run(bench, client, {"task": shell["id"]})
    assert task["from"]["conversation"] is False
    assert bench.sent() == [("user", NEXT)]
    assert names(client, task["id"]) == ["a", "b"]


def test_a_chat_is_continued_by_a_task(bench: Bench, client: BeRayClient) -> None:
    bench.script += [write("a"), Reply(text=["Yes."])]
    bench.answer(client, GOAL)
    chat = client.open_chat("chat")["id"]
    task = run(bench, client, {"task": chat})
    assert task["from"]["conversation"] is True
    assert bench.sent() == [*written("a"), ("assistant", "Yes."), ("user", NEXT)]
    assert names(client, task["id"]) == ["a"]


def test_a_creation_that_was_interrupted_is_completed_with_its_messages(
    bench: Bench, client: BeRayClient, source: int
) -> None:
    origin: TaskOrigin = {"task": source, "checkpoint": "c2"}
    task_id = client.create_task(NEXT, from_task=origin, start=False)["id"]
    folder = bench.server.data_dir / "conversations"
    bench.server.kill()
    # As after the creation of the row, and before the first event.
    (folder / f"{task_id}.jsonl").rename(folder / f"{task_id}.copy")
    with closing(sqlite3.connect(bench.server.data_dir / "beray.sqlite3")) as database, database:
        database.execute("DELETE FROM events WHERE task_id = ?", (task_id,))
        database.execute("UPDATE tasks SET last_seq = 0 WHERE id = ?", (task_id,))
    bench.server.restart()
    bench.script.append(Reply(text=["Done."]))
    client.start_task(task_id)
    assert text(list(client.stream_task_updates(task_id))) == "Done."
    assert bench.sent() == [*written("a"), ("user", NEXT)]
    assert names(client, task_id) == ["a"]
    assert not (folder / f"{task_id}.copy").exists()


@pytest.mark.parametrize("delay_ms", [0, 3, 6, 10, 15, 25])
def test_a_server_that_is_killed_during_a_fork_leaves_all_or_nothing(
    bench: Bench, client: BeRayClient, source: int, delay_ms: int
) -> None:
    known = {task["id"] for task in client.list_tasks()}

    def create() -> None:
        try:
            client.create_task(NEXT, from_task={"task": source, "checkpoint": "c3"}, start=False)
        except BeRayException:
            return  # the outcome is unknown

    thread = threading.Thread(target=create)
    timer = threading.Timer(delay_ms / 1000, bench.server.kill)
    thread.start()
    timer.start()
    timer.join()
    bench.server.restart()
    thread.join()
    created = [task["id"] for task in client.list_tasks() if task["id"] not in known]
    for task_id in created:
        bench.script.append(Reply(text=["Done."]))
        client.start_task(task_id)
        assert text(list(client.stream_task_updates(task_id))) == "Done."
        assert bench.sent() == [*written("a", "b"), ("user", NEXT)]
        assert names(client, task_id) == ["a", "b"]
        client.delete_task(task_id)
    assert len(created) <= 1
    statuses = {task["status"] for task in client.list_tasks()}
    assert statuses <= TERMINAL_STATUSES
