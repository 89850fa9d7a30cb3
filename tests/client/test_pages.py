"""Pagination of lists: links that are followed, and links that are rejected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from beray import BeRayClient, InvalidResponseError
from beray.testing import FaultServer, ScriptedResponse


def page(*ids: int, link: str = "") -> ScriptedResponse:
    tasks = [{"id": number, "goal": "g", "status": "COMPLETED"} for number in ids]
    return ScriptedResponse(json.dumps(tasks).encode(), headers={"Link": link} if link else {})


def listed(answers: list[ScriptedResponse], path: str = "") -> tuple[list[int], list[str]]:
    with FaultServer(answers) as server, BeRayClient(server.url + path) as client:
        numbers = [task["id"] for task in client.list_tasks()]
        return numbers, [request.path for request in server.requests]


@pytest.mark.parametrize(
    "link",
    [
        '</api/v1/tasks/?before=4&limit=2>; rel="next"',
        "<?before=4&limit=2>; rel=next",
        '</x>; rel="prev", </api/v1/tasks/?before=4&limit=2>; rel="next"',
        '<?before=4&limit=2>; rel="last next"',
    ],
)
def test_pages_are_followed(link: str) -> None:
    numbers, paths = listed([page(5, 4, link=link), page(3, 2)])
    assert numbers == [5, 4, 3, 2]
    assert paths == ["/api/v1/tasks/", "/api/v1/tasks/?before=4&limit=2"]


def test_a_proxy_may_add_a_path_prefix() -> None:
    link = '</api/v1/tasks/?before=4>; rel="next"'
    numbers, paths = listed([page(5, 4, link=link), page(3)], "/beray")
    assert numbers == [5, 4, 3]
    assert paths[1] == "/beray/api/v1/tasks/?before=4"


def test_a_repeated_task_is_returned_once() -> None:
    numbers, _ = listed([page(5, 4, link="<?before=4>; rel=next"), page(4, 3)])
    assert numbers == [5, 4, 3]


@pytest.mark.parametrize("link", ["", "nonsense", '<?before=4>; rel="prev"', "<" * 20_000])
def test_a_list_without_a_link_is_complete(link: str) -> None:
    assert listed([page(5, 4, link=link)])[0] == [5, 4]


@pytest.mark.parametrize(
    "target",
    [
        "http://other.example/api/v1/tasks/?before=4",
        "https://127.0.0.1/api/v1/tasks/?before=4",
        "//other.example/api/v1/tasks/?before=4",
        "/api/v1/users/me?before=4",
        "/api/v1/tasks/7?before=4",
        "http://[",
        "file:///etc/passwd",
    ],
)
def test_a_link_to_another_list_is_rejected(target: str) -> None:
    with (
        FaultServer([page(5, link=f"<{target}>; rel=next"), page(4)]) as server,
        BeRayClient(server.url, "secret") as client,
    ):
        with pytest.raises(InvalidResponseError, match="next page"):
            client.list_tasks()
        assert len(server.requests) == 1


def test_circular_links_are_rejected() -> None:
    there, back = "<?before=4>; rel=next", "<?before=6>; rel=next"
    answers = [page(5, link=there), page(3, link=back), page(5, link=there), page(3, link=back)]
    with pytest.raises(InvalidResponseError, match="leads back"):
        listed(answers)


def test_listed_events_are_followed_up_to_their_limit() -> None:
    first = ScriptedResponse(b'[{"seq": 1}]', headers={"Link": "<?after=1&limit=2>; rel=next"})
    answers = [first, ScriptedResponse(b'[{"seq": 2}, {"seq": 3}]')]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        assert [event["seq"] for event in client.list_events(1, limit=3)] == [1, 2, 3]
        assert server.requests[1].path == "/api/v1/tasks/1/events?after=1&limit=2"


# The stream over all tasks


def stream(*updates: dict[str, Any]) -> ScriptedResponse:
    pieces = []
    for update in updates:
        head = f"id: {update['seq']}\n" if "seq" in update else ""
        pieces.append(f"{head}data: {json.dumps(update)}\n\n".encode())
    return ScriptedResponse(
        pieces, headers={"Content-Type": "text/event-stream"}, framing="chunked"
    )


def tasks(kind: str, *ids: int, **more: Any) -> dict[str, Any]:
    return {"type": kind, "tasks": [{"id": n, "goal": "g", "status": "S"} for n in ids], **more}


def test_tasks_in_several_messages_are_one_update() -> None:
    answer = stream(
        tasks("TASKS", 5, 4, seq=7, more=True),
        tasks("TASKS_MORE", 3, more=True),
        tasks("TASKS_MORE", 2),
        {"seq": 8, "type": "TASK_DELETED", "task_id": 2},
    )
    with FaultServer([answer]) as server, BeRayClient(server.url) as client:
        updates = client.stream_all_updates()
        assert next(updates) == tasks("TASKS", 5, 4, 3, 2, seq=7)
        assert updates.last_event_id == "7"
        assert next(updates)["seq"] == 8
        updates.close()


def test_an_incomplete_list_of_tasks_is_restarted() -> None:
    answers = [
        stream(tasks("TASKS", 5, 4, seq=7, more=True), tasks("TASKS_MORE", 3, more=True)),
        stream(tasks("TASKS", 6, 5, seq=9, more=True), tasks("TASKS_MORE", 4, 3)),
        stream({"seq": 10, "type": "TASK_DELETED", "task_id": 3}),
    ]
    with FaultServer(answers) as server, BeRayClient(server.url) as client:
        updates = client.stream_all_updates(last_event_id="2")
        assert next(updates) == tasks("TASKS", 6, 5, 4, 3, seq=9)
        assert next(updates)["seq"] == 10
        updates.close()
        asked = [request.headers.get("last-event-id") for request in server.requests]
    assert asked == ["2", None, "9"]
