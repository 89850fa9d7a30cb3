"""Retraction of the events of interrupted answers in all interfaces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient, answer_text, without_retracted
from beray.agent import AgentApi
from beray.events import EVENT
from beray.server.runners.event_positions import MAX_POSITIONS, EventPositions
from beray.streaming.retraction import is_retractable, retracted_count, retracted_range
from beray.testing import RunningServer, access_token
from tests.server.agents.fake_openai import Call, Failure, Reply
from tests.server.agents.model_server import KEY, ModelServer

LOOK = Call("read_file", {"path": "notes.txt"})
BROKEN = Reply(["The answer ", "is 4"], [LOOK], thinking=["hm", "m"], finish="")
"""Stream with text, reasoning and a call, without a final marker."""


@pytest.fixture
def client(models: ModelServer) -> Iterator[BeRayClient]:
    with models.server.sign_up() as client:
        yield client


def breaking(models: ModelServer, goal: str, *replies: Reply | Failure) -> str:
    """Script a goal whose replies do not depend on the number of answers in the request."""
    left = iter(replies)

    class Replies:
        def __len__(self) -> int:
            return 1_000

        def __getitem__(self, _: int) -> Reply | Failure:
            return next(left)

    return models.script_from(goal, Replies())


def test_the_interrupted_attempt_is_retracted_in_the_log(
    models: ModelServer, client: BeRayClient
) -> None:
    goal = breaking(models, "one break", BROKEN, Reply(["The answer is 42."]))
    task = client.create_task(goal)
    events: list[Any] = list(client.stream_task_updates(task["id"]))
    assert events[-1]["status"] == "COMPLETED"
    [at] = [index for index, event in enumerate(events) if "retracts" in event]
    retraction = events[at]
    assert retraction["type"] == "AGENT_EVENT_TEXT_CHUNK" and "starts again" in retraction["text"]
    first, last = retraction["retracts"]
    assert last == retraction["seq"] - 1
    kinds = {(event["type"], event["source"]) for event in events[first - 1 : last]}
    assert kinds == {
        ("AGENT_EVENT_TEXT_CHUNK", "thinking"),
        ("AGENT_EVENT_TEXT_CHUNK", "main"),
        ("AGENT_EVENT_TOOL_CALL_CHUNK", "main"),
    }
    assert events[first - 2]["type"] == "TASK_STATUS"
    assert answer_text(events) == "The answer is 42."
    text = "".join(event.get("text", "") for event in events if event.get("source") == "main")
    assert "The answer is 4\n" in text and text.endswith("The answer is 42.")
    last_line = client.get_task(task["id"])["last_line"]
    assert last_line == "The answer is 42."


def test_each_attempt_is_retracted_but_not_the_answers_before(
    models: ModelServer, client: BeRayClient
) -> None:
    done = Reply(["I look."], [Call("report_progress", {"message": "on it"})])
    failure = Failure(500, headers={"Retry-After": "0"})
    goal = breaking(models, "three", done, BROKEN, BROKEN, failure, Reply(["42"]))
    events: list[Any] = list(client.stream_task_updates(client.create_task(goal)["id"]))
    assert events[-1]["status"] == "COMPLETED"
    spans = [span for event in events if (span := retracted_range(event))]
    assert len(spans) == 2 and spans[0][1] < spans[1][0]
    assert answer_text(events) == "I look.42"
    calls = [event for event in without_retracted(events) if event.get("tool_name")]
    assert {event["tool_name"] for event in calls} == {"report_progress"}


@pytest.mark.parametrize(
    "broken",
    [
        Reply([KEY[:5]], finish=""),
        Reply([KEY[:5], "not a key"], thinking=[KEY[:7]], finish=""),
        Reply(["The key is ", KEY[:5]], thinking=[KEY[:7]], finish=""),
        Reply([KEY[:5]], [Call("read_file", {"path": "notes.txt"})], finish=""),
    ],
)
def test_held_back_text_is_retracted_with_the_rest(
    models: ModelServer, client: BeRayClient, broken: Reply
) -> None:
    goal = breaking(models, "held back", broken, Reply(["42"]))
    events: list[Any] = list(client.stream_task_updates(client.create_task(goal)["id"]))
    assert events[-1]["status"] == "COMPLETED"
    left = [
        event.get("text") or event["args_chunk"]
        for event in without_retracted(events)
        if is_retractable(event)
    ]
    assert "".join(left) == "42"


def test_retracted_text_is_not_sent_to_the_model(models: ModelServer, client: BeRayClient) -> None:
    breaking(models, "in a chat", BROKEN, Reply(["42"]), Reply(["yes"]))
    for words in ("in a chat", "sure?"):
        task = client.send_chat_message("chat", words)
        for event in client.stream_task_updates(task["id"], last_event_id=str(task["last_seq"])):
            if event["type"] == "TASK_STATUS" and event["status"] == "INPUT_REQUIRED":
                break
    sent = json.dumps(models.provider.requests[-1]["messages"])
    assert '"42"' in sent and "answer is 4" not in sent and "starts again" not in sent


async def test_on_the_websocket_the_number_of_frames_is_retracted(
    models: ModelServer, client: BeRayClient
) -> None:
    token = access_token(client)
    breaking(models, "over a socket", BROKEN, Reply(["The answer is 42."]))
    async with AgentApi("a", client.base_url, chat_id="socket", token=token) as api:
        messages = [message async for message in api.send_message("over a socket")]
    assert answer_text(messages) == "The answer is 42."
    [at] = [n for n, message in enumerate(messages) if "retracts" in (message.model_extra or {})]
    assert (messages[at].model_extra or {})["retracts"] == at


async def test_retractions_of_a_remote_agent_apply_to_the_local_log(
    models: ModelServer, client: BeRayClient, tmp_path: Path
) -> None:
    token = access_token(client)
    environ = {"BERAY_AGENT_URL": client.base_url, "BERAY_AGENT_TOKEN": token}
    breaking(models, "far away", BROKEN, Reply(["The answer is 42."]))
    with RunningServer.start(tmp_path / "data", environ) as server, server.sign_up() as here:
        task = await asyncio.to_thread(here.create_task, "far away")
        events: list[Any] = await asyncio.to_thread(
            lambda: list(here.stream_task_updates(task["id"]))
        )
    assert events[-1]["status"] == "COMPLETED"
    assert answer_text(events) == "The answer is 42."
    [span] = [span for event in events if (span := retracted_range(event))]
    kept = [event for event in events if not span[0] <= event["seq"] <= span[1]]
    assert "is 4\n" not in "".join(str(event.get("text")) for event in kept)


def test_a_transcript_has_no_retracted_text(tmp_path: Path) -> None:
    agent = tmp_path / "agent" / "agent.py"
    agent.parent.mkdir()
    agent.write_text(
        "import json, sys\n"
        "def say(**fields): print(json.dumps({'type': 'AGENT_EVENT_TEXT_CHUNK', **fields}))\n"
        "goal = sys.stdin.read()\n"
        "say(text='echo: ' + goal) if 'second' in goal else [say(text='wrong '), "
        "say(text='again ', retracts=1), say(text='right')]\n"
    )
    environ = {"BERAY_COMMAND": f"python3 {agent}", "BERAY_AGENT_PATHS": str(agent.parent)}
    with RunningServer.start(tmp_path / "data", environ) as server, server.sign_up() as client:
        texts = []
        for words in ("first", "second"):
            task = client.send_chat_message("chat", words)
            events = []
            after = str(task["last_seq"])
            for event in client.stream_task_updates(task["id"], last_event_id=after):
                events.append(event)
                if event["type"] == "TASK_STATUS" and event["status"] == "INPUT_REQUIRED":
                    break
            texts.append(answer_text(events))
    assert texts[0] == "right"
    assert "User: first\n\nYou: right\n\n" in texts[1]
    assert "wrong" not in texts[1] and "again" not in texts[1]


@pytest.mark.parametrize("retracts", [None, 0, -1, True, "2", [1, 2], 2.5, {}])
def test_an_invalid_count_retracts_nothing(retracts: Any) -> None:
    chunk = {"type": "AGENT_EVENT_TEXT_CHUNK", "text": "x", "retracts": retracts}
    assert retracted_count(EVENT.validate_python(chunk)) == retracted_count(chunk) == 0


async def test_places_map_merged_and_buffered_events_to_the_log() -> None:
    def logged(seq: int) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(seq)
        return future

    places = EventPositions()
    places.add(1, [logged(1)])
    places.begin()
    places.add(3, [logged(5)])  # three merged events
    places.add(0, [logged(6)])  # not from the runner
    places.add(1, [])  # buffered
    places.add(1, [logged(7), logged(8)])
    assert await places.span(1) == [8, 8]
    assert await places.span(2) == [7, 8]
    assert await places.span(3) == [5, 8]
    assert await places.span(5) == [5, 8]
    assert await places.span(99) == [5, 8]
    for seq in range(9, 9 + MAX_POSITIONS):
        places.add(1, [logged(seq)])
    assert await places.span(1 + MAX_POSITIONS) is None
    assert await places.span(5 + MAX_POSITIONS) == [5, 8 + MAX_POSITIONS]
