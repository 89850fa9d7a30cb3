"""Pages of the task list, and the first messages of a stream over all tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import BeRayClient, UnprocessableEntityError
from beray.server.api.tasks import MAX_TASKS
from beray.server.tasks.feed import MAX_MESSAGE_BYTES, MAX_MESSAGE_TASKS
from beray.testing import RunningServer, authorization
from tests.stored_rows import add_tasks
from tests.support import done


def get(server: RunningServer, client: BeRayClient, path: str, **more: Any) -> requests.Response:
    headers = {**authorization(client), **more.pop("headers", {})}
    return requests.get(f"{server.url}{path}", headers=headers, timeout=60, **more)


def user_id(client: BeRayClient) -> int:
    return int(client.get_current_user()["id"])


def pages(server: RunningServer, client: BeRayClient, path: str) -> list[requests.Response]:
    answers = [get(server, client, path)]
    while "next" in answers[-1].links:
        answers.append(get(server, client, answers[-1].links["next"]["url"]))
    return answers


def ids(answers: list[requests.Response]) -> list[int]:
    return [task["id"] for answer in answers for task in answer.json()]


def test_pages_are_linked_and_counted(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    with beray_server.sign_up() as other:
        add_tasks(beray_server, user_id(beray_client), [f"goal {n}" for n in range(25)])
        add_tasks(beray_server, user_id(other), ["theirs"] * 3)
    answers = pages(beray_server, beray_client, "/api/v1/tasks/?limit=10")
    assert [len(answer.json()) for answer in answers] == [10, 10, 5]
    assert {answer.headers["X-Total-Count"] for answer in answers} == {"25"}
    assert ids(answers) == [task["id"] for task in beray_client.list_tasks()]
    assert len(pages(beray_server, beray_client, "/api/v1/tasks/?limit=25")) == 1
    before = ids(answers)[3]
    assert (
        ids([get(beray_server, beray_client, f"/api/v1/tasks/?before={before}&limit=2")])
        == (ids(answers)[4:6])
    )


def test_a_link_has_the_path_of_the_request_and_no_host(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    add_tasks(beray_server, user_id(beray_client), ["a", "b"])
    answer = get(
        beray_server, beray_client, "/api/v1/tasks/?limit=1", headers={"Host": "localhost:1"}
    )
    newest = answer.json()[0]["id"]
    assert answer.headers["Link"] == f'</api/v1/tasks/?before={newest}&limit=1>; rel="next"'


def test_tasks_that_come_and_go_meanwhile_are_neither_lost_nor_repeated(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    add_tasks(beray_server, user_id(beray_client), [f"goal {n}" for n in range(9)])
    there = [task["id"] for task in beray_client.list_tasks()]
    first = get(beray_server, beray_client, "/api/v1/tasks/?limit=3")
    done(beray_client, "!true")
    beray_client.delete_task(there[2])  # the last one of the first page
    beray_client.delete_task(there[4])
    rest = pages(beray_server, beray_client, first.links["next"]["url"])
    assert ids([first, *rest]) == [*there[:4], *there[5:]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "must be at least 1, got 0"),
        (f"limit={MAX_TASKS + 1}", "must be at most 10,000"),
        ("limit=ten", "expects an integer in decimal digits, got 'ten'"),
        ("before=0", "must be at least 1, got 0"),
        ("before=-1", "got '-1'"),
        (f"before={2**63}", "expects an integer in decimal digits"),
        ("before=x", "got 'x'"),
    ],
)
def test_an_invalid_page_is_rejected(
    beray_server: RunningServer, beray_client: BeRayClient, query: str, words: str
) -> None:
    answer = get(beray_server, beray_client, f"/api/v1/tasks/?{query}")
    assert answer.status_code == 422
    assert words in answer.json()["detail"][0]["msg"]


def messages(server: RunningServer, client: BeRayClient, count: int) -> list[tuple[str, Any]]:
    """The first messages of the stream, each with its id."""
    found: list[tuple[str, Any]] = []
    event_id = ""
    with get(server, client, "/api/v1/tasks/stream", stream=True) as answer:
        for line in answer.iter_lines(chunk_size=65536):
            name, _, value = line.decode().partition(": ")
            if name == "id":
                event_id = value
            elif name == "data":
                assert len(value) <= MAX_MESSAGE_BYTES + 4096
                found.append((event_id, json.loads(value)))
                event_id = ""
                if len(found) == count:
                    return found
    raise AssertionError("the stream ended")


def test_more_tasks_than_one_page_has(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        add_tasks(beray_server, user_id(client), ["goal"] * (MAX_TASKS + 50))
        answer = get(beray_server, client, "/api/v1/tasks/")
        assert len(answer.json()) == MAX_TASKS
        assert answer.headers["X-Total-Count"] == str(MAX_TASKS + 50)
        assert "next" in answer.links
        tasks = client.list_tasks()
        numbers = [task["id"] for task in tasks]
        assert len(tasks) == MAX_TASKS + 50
        assert numbers == sorted(set(numbers), reverse=True)
        (first_id, first), (second_id, second) = messages(beray_server, client, 2)
        assert (first["type"], first["more"], first_id) == ("TASKS", True, "0")
        assert len(first["tasks"]) == MAX_MESSAGE_TASKS
        assert (second["type"], "more" in second, second_id) == ("TASKS_MORE", False, "")
        assert first["tasks"] + second["tasks"] == tasks
        with client.stream_all_updates() as stream:
            assert next(stream) == {"seq": 0, "type": "TASKS", "tasks": tasks}
            assert stream.last_event_id == "0"
            done(client, "!true")
            numbered = (update["seq"] for update in stream if "seq" in update)
            assert [next(numbered) for _ in range(2)] == [1, 2]


def test_a_message_of_large_tasks_is_limited_by_bytes(beray_server: RunningServer) -> None:
    with beray_server.sign_up() as client:
        add_tasks(beray_server, user_id(client), ["ü" * 200_000] * 50)
        found = [message for _, message in messages(beray_server, client, 3)]
        assert [message.get("more") for message in found] == [True, True, None]
        tasks = [task for message in found for task in message["tasks"]]
        assert tasks == client.list_tasks()


def test_a_resumed_feed_starts_with_unfinished_tasks_only(
    beray_server: RunningServer, tmp_path: Path
) -> None:
    with beray_server.sign_up() as client, beray_server.sign_up() as other:
        theirs = other.create_task("!true", start=False)["id"]
        held = [client.create_task("!true", start=False)["id"] for _ in range(3)]
        add_tasks(beray_server, user_id(client), ["goal"] * 10)
        with client.stream_all_updates(last_event_id="3") as stream:
            updates = [next(stream) for _ in held]
        assert [update["task_id"] for update in updates] == held
        assert {update["type"] for update in updates} == {"TASK_PROGRESS"}
        other.delete_task(theirs)


def test_tools_are_limited_by_bytes(beray_client: BeRayClient) -> None:
    tools = [{"server": {"url": "https://a.example", "headers": {"X": "x" * 1_100_000}}}]
    with pytest.raises(UnprocessableEntityError, match="1,048,576"):
        beray_client.create_task("!true", tools=tools)
    assert beray_client.list_tasks() == []
