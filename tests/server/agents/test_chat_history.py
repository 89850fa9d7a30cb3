"""History that is sent to the model after an answer of a chat was interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from beray import BeRayClient
from tests.server.agents.fake_openai import Call, Failure, Reply
from tests.server.agents.history_bench import INTERRUPTED, Bench, text
from tests.support import until


@pytest.fixture(scope="module", params=["openai", "anthropic"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("history") / "data", request.param)
    yield made
    made.close()


@pytest.fixture
def client(bench: Bench) -> Iterator[BeRayClient]:
    bench.script.clear()
    with bench.server.sign_up() as client:
        yield client


@pytest.mark.parametrize(
    "how", ["stop", "failure", "run killed", "server killed", "server stopped"]
)
def test_the_complete_history_is_sent_after_an_interruption(
    bench: Bench, client: BeRayClient, how: str
) -> None:
    task_id = client.open_chat("chat")["id"]
    client.upload_file(task_id, "notes.txt", b"it is Ada")
    broken = Reply(text=["Half of ", "the ", "answer"], stall_after=2)
    bench.script += [
        Reply(text=["I look."], calls=[Call("read_file", {"path": "notes.txt"})]),
        Failure(400, "no more") if how == "failure" else broken,
        Reply(text=["done"]),
    ]
    task = client.send_chat_message("chat", "who am I?")
    come = bench.events(client, task, up_to="" if how == "failure" else "Half of the ")
    if how == "stop":
        client.stop_task(task_id)
    elif how == "run killed":
        bench.kill_run()
    elif how == "server killed":
        bench.server.kill()
        bench.server.restart()
    elif how == "server stopped":
        bench.server.restart()
    until(lambda: client.get_task(task_id)["status"] == "INPUT_REQUIRED")
    reasons = {"stop": "user", "failure": "provider", "server stopped": "shutdown"}
    assert client.get_task(task_id)["reason"] == reasons.get(how, "lost_worker")
    assert "I look." in text(come)
    assert text(bench.answer(client, "go on")) == "done"
    half = [] if how == "failure" else [("assistant", "Half of the ")]
    assert bench.sent() == [
        ("user", "who am I?"),
        ("assistant", "I look."),
        ("assistant", "call read_file"),
        ("tool", "it is Ada"),
        *half,
        ("user", "go on"),
    ]


@pytest.mark.parametrize("how", ["stop", "run killed", "server killed"])
def test_the_result_of_a_finished_parallel_call_is_kept(
    bench: Bench, client: BeRayClient, how: str
) -> None:
    task_id = client.open_chat("chat")["id"]
    client.upload_file(task_id, "notes.txt", b"it is Ada")
    calls = [
        Call("read_file", {"path": "notes.txt"}),
        Call("run_command", {"command": "touch begun; sleep 600", "timeout_seconds": 600}),
    ]
    bench.script += [Reply(calls=calls), Reply(text=["done"])]
    task = client.send_chat_message("chat", "do both")
    until(lambda: "begun" in [item["name"] for item in client.list_files_tree(task_id)])
    for event in client.stream_task_updates(task_id, last_event_id=str(task["last_seq"])):
        if event["type"] == "AGENT_EVENT_TOOL_RESULT":
            break
    if how == "stop":
        client.stop_task(task_id)
    elif how == "run killed":
        bench.kill_run()
    else:
        bench.server.kill()
        bench.server.restart()
    until(lambda: client.get_task(task_id)["status"] == "INPUT_REQUIRED")
    assert text(bench.answer(client, "go on")) == "done"
    sent = bench.sent()
    assert sent[:3] == [
        ("user", "do both"),
        ("assistant", "call read_file"),
        ("assistant", "call run_command"),
    ]
    assert sorted(sent[3:5]) == [("tool", INTERRUPTED), ("tool", "it is Ada")]
    assert sent[5:] == [("user", "go on")]


def test_content_that_providers_reject_is_not_sent(bench: Bench, client: BeRayClient) -> None:
    cut = Call("run_command", '{"command": "touch ma')
    length = "max_tokens" if bench.api == "anthropic" else "length"
    bench.script += [
        Reply(text=["I do."], calls=[cut], finish=length),
        Reply(text=[" "]),
        Reply(thinking=["hm"]),
        Reply(text=["\n", "more"], stall_after=1),
        Reply(text=["done"]),
    ]
    assert bench.answer(client, "one")[-1]["reason"] == "truncated"
    assert bench.answer(client, "two")[-1]["reason"] == "empty"
    assert bench.answer(client, "three")[-1]["reason"] == "empty"
    task = client.send_chat_message("chat", "four")
    bench.events(client, task, up_to="\n")
    client.stop_task(task["id"])
    bench.events(client, task)
    assert text(bench.answer(client, "five")) == "done"
    assert bench.sent() == [
        ("user", "one"),
        ("assistant", "I do."),
        *(("user", words) for words in ("two", "three", "four", "five")),
    ]


@pytest.mark.parametrize("bench", ["anthropic"], indirect=True)
def test_a_chat_continues_after_an_answer_whose_continuation_failed(
    bench: Bench, client: BeRayClient
) -> None:
    bench.script += [
        Reply(text=["I begin."], finish="pause_turn"),
        Failure(400, "no more"),
        Reply(text=["done"]),
    ]
    assert bench.answer(client, "one")[-1]["reason"] == "provider"
    assert text(bench.answer(client, "two")) == "done"
    assert bench.sent() == [("user", "one"), ("assistant", "I begin."), ("user", "two")]


def test_a_stop_before_the_next_attempt_leaves_no_retracted_text(
    bench: Bench, client: BeRayClient
) -> None:
    bench.script += [
        Reply(text=["The answer is 4"], finish=""),
        Failure(429, headers={"Retry-After": "60"}),
        Reply(text=["done"]),
    ]
    task = client.send_chat_message("chat", "what is it?")
    for event in client.stream_task_updates(task["id"], last_event_id=str(task["last_seq"])):
        if event["type"] == "AGENT_EVENT_CUSTOM_UPDATE" and "429" in str(event["payload"]):
            break
    client.stop_task(task["id"])
    bench.events(client, task)
    bench.answer(client, "go on")
    assert bench.sent() == [("user", "what is it?"), ("user", "go on")]


def test_messages_whose_answers_never_started_are_sent(bench: Bench, client: BeRayClient) -> None:
    bench.script += [Reply(text=["done"]), Reply(text=["again"])]
    task = client.send_chat_message("chat", "my name is Ada")
    client.stop_task(task["id"])
    assert bench.events(client, task)[-1]["reason"] == "user"
    count = len(bench.provider.requests)
    bench.answer(client, "!echo a command without the model")
    assert len(bench.provider.requests) == count
    bench.answer(client, "who am I?")
    assert bench.sent() == [("user", "my name is Ada"), ("user", "who am I?")]
    bench.answer(client, "once more")
    assert bench.sent()[2:] == [("assistant", "done"), ("user", "once more")]


def test_a_deleted_chat_leaves_no_history(bench: Bench, client: BeRayClient) -> None:
    bench.script += [Reply(text=["secret"])]
    bench.answer(client, "tell me")
    task_id = client.open_chat("chat")["id"]
    folder = bench.server.data_dir / "conversations"
    assert list(folder.glob(f"{task_id}.*"))
    client.delete_task(task_id)
    assert not list(folder.glob(f"{task_id}.*"))


def test_a_history_of_an_earlier_version_is_continued(bench: Bench, client: BeRayClient) -> None:
    task_id = client.open_chat("chat")["id"]
    bench.answer(client, "!true")
    earlier = [
        {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": "I am Ada"}]},
        {"kind": "response", "parts": [{"part_kind": "text", "content": "Hello"}]},
    ]
    path = bench.server.data_dir / "conversations" / f"{task_id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(earlier))
    bench.script += [Reply(text=["You are Ada"]), Reply(text=["Yes"])]
    bench.answer(client, "who am I?")
    before = [("user", "I am Ada"), ("assistant", "Hello")]
    assert bench.sent() == [*before, ("user", "who am I?")]
    bench.answer(client, "sure?")
    assert bench.sent() == [
        *before, ("user", "who am I?"), ("assistant", "You are Ada"), ("user", "sure?"),
    ]  # fmt: skip
