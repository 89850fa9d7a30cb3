"""Messages that a task gets if it continues a conversation at some event of another task."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import BeRayClient
from beray.schema import TERMINAL_STATUSES
from beray.server.tasks.conversations import Conversations
from beray.testing import RunningServer
from tests.server.agents.fake_anthropic import ANTHROPIC
from tests.server.agents.fake_anthropic import MODEL as CLAUDE
from tests.server.agents.fake_google import GOOGLE
from tests.server.agents.fake_openai import Api, Call, Failure, FakeOpenAI, Reply
from tests.server.agents.history_bench import INTERRUPTED, Bench, text
from tests.support import until

GOAL = "write three files"
NEXT = "now something else"
STEPS = 3
Sent = list[tuple[str, Any]]


@pytest.fixture(scope="module", params=["openai", "anthropic"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("conversations") / "data", request.param)
    yield made
    made.close()


@pytest.fixture
def client(bench: Bench) -> Iterator[BeRayClient]:
    bench.script.clear()
    with bench.server.sign_up() as client:
        yield client


def conversations(bench: Bench) -> Conversations:
    return Conversations(bench.server.data_dir / "conversations")


def write(number: int) -> Reply:
    call = Call("write_file", {"path": f"{number}.txt", "content": str(number)})
    return Reply(text=[f"File {number}."], calls=[call])


def three_steps(bench: Bench, client: BeRayClient) -> list[Any]:
    """Run a task with three tool calls and an answer, and return its events."""
    bench.script += [*(write(number) for number in range(1, STEPS + 1)), Reply(text=["All done."])]
    return list(client.stream_task_updates(client.create_task(GOAL)["id"]))


def messages(steps: int, *, answered: bool = False) -> Sent:
    """Return the messages after a number of steps of ``three_steps``."""
    sent: Sent = [("user", GOAL)]
    for number in range(1, steps + 1):
        sent += [
            ("assistant", f"File {number}."),
            ("assistant", "call write_file"),
            ("tool", f"{number}.txt: 1 bytes written"),
        ]
    return [*sent, ("assistant", "All done.")] if answered else sent


def fork(
    bench: Bench, client: BeRayClient, source: int, seq: int | None, goal: str = NEXT
) -> list[Any]:
    """Run a task that continues ``source``, and return its events."""
    task_id = client.create_task(goal, start=False)["id"]
    has_messages = conversations(bench).has_messages(source, seq)
    assert conversations(bench).fork(source, seq, task_id) == has_messages
    bench.script.append(Reply(text=["Done again."]))
    client.start_task(task_id)
    events = list(client.stream_task_updates(task_id))
    assert text(events) == "Done again."
    assert events[-1]["status"] == "COMPLETED"
    return events


def first_seqs(events: list[Any], kind: str) -> list[int]:
    """Return the seq of the first event of this type after each event of other types."""
    own = [event for event in events if event.get("source") != "files"]
    types = [event["type"] for event in own]
    return [
        event["seq"]
        for event, before in zip(own, ["", *types], strict=False)
        if event["type"] == kind != before
    ]


def test_a_fork_at_each_event_sends_the_messages_of_the_complete_steps(
    bench: Bench, client: BeRayClient
) -> None:
    events = three_steps(bench, client)
    assert events[-1]["status"] == "COMPLETED"
    source = events[0]["task_id"]
    results = first_seqs(events, "AGENT_EVENT_TOOL_RESULT")
    [end] = first_seqs(events, "AGENT_EVENT_END")
    assert len(results) == STEPS
    fork(bench, client, source, 1)
    assert bench.sent() == [("user", NEXT)]
    for seq in range(2, len(events) + 1):
        fork(bench, client, source, seq)
        steps = sum(result <= seq for result in results)
        assert bench.sent() == [*messages(steps, answered=seq >= end), ("user", NEXT)]
    fork(bench, client, source, None)
    assert bench.sent() == [*messages(STEPS, answered=True), ("user", NEXT)]


def test_forks_of_forks(bench: Bench, client: BeRayClient) -> None:
    events = three_steps(bench, client)
    second_answer = first_seqs(events, "AGENT_EVENT_TEXT_CHUNK")[1]
    first = fork(bench, client, events[0]["task_id"], second_answer, "first")
    second = fork(bench, client, first[0]["task_id"], len(first) - 1, "second")
    inherited: Sent = [*messages(1), ("user", "first"), ("assistant", "Done again.")]
    assert bench.sent() == [*inherited, ("user", "second")]
    # At its first event, a fork has only the messages that it has inherited.
    fork(bench, client, second[0]["task_id"], 1, "third")
    assert bench.sent() == [*inherited, ("user", "third")]
    fork(bench, client, second[0]["task_id"], 2, "fourth")
    assert bench.sent() == [*inherited, ("user", "second"), ("user", "fourth")]
    # The sources are unchanged.
    fork(bench, client, events[0]["task_id"], None)
    assert bench.sent() == [*messages(STEPS, answered=True), ("user", NEXT)]


def test_a_new_task_has_no_messages_of_another_database(bench: Bench, client: BeRayClient) -> None:
    """After the restoration of an older database, files of later tasks remain."""
    source = three_steps(bench, client)[0]["task_id"]
    folder = bench.server.data_dir / "conversations"
    for name in (f"{source + 1}.jsonl", f"{source + 2}.jsonl", f"{source + 2}.partial"):
        shutil.copy(folder / f"{source}.jsonl", folder / name)
    bench.script += [Reply(text=["new"]), Reply(text=["new"])]
    task_id = client.create_task(NEXT)["id"]
    wait_ended(client, task_id)
    assert bench.sent() == [("user", NEXT)]
    assert text(bench.answer(client, NEXT)) == "new"
    chat = client.open_chat("chat")["id"]
    assert bench.sent() == [("user", NEXT)]
    assert [task_id, chat] == [source + 1, source + 2]
    assert len(list((folder / ".aside").glob("*/*"))) == 3


def test_the_same_goal_again_is_sent_once(bench: Bench, client: BeRayClient) -> None:
    events = three_steps(bench, client)
    fork(bench, client, events[0]["task_id"], 2, GOAL)
    assert bench.sent() == [("user", GOAL)]


def test_chats_are_forked_at_messages_and_answers(bench: Bench, client: BeRayClient) -> None:
    chat = client.open_chat("chat")["id"]
    client.upload_file(chat, "notes.txt", b"it is Ada")
    look = Reply(text=["I look."], calls=[Call("read_file", {"path": "notes.txt"})])
    bench.script += [look, Reply(text=["Ada."]), Reply(text=["Yes."])]
    bench.answer(client, "who am I?")
    bench.answer(client, "!echo not for the model")
    bench.answer(client, "sure?")
    events = client.get_task(chat)["events"]
    first, shell, second = (event["seq"] for event in events if event["type"] == "USER_MESSAGE")
    [result] = first_seqs(events[: shell - 1], "AGENT_EVENT_TOOL_RESULT")
    asked: Sent = [("user", "who am I?")]
    looked: Sent = [
        ("assistant", "I look."), ("assistant", "call read_file"), ("tool", "it is Ada")
    ]  # fmt: skip
    answered: Sent = [*asked, *looked, ("assistant", "Ada.")]
    again: Sent = [*answered, ("user", "sure?")]
    for seq, expected in [
        (first - 1, []),
        (first, asked),
        (result - 1, asked),
        (result, [*asked, *looked]),
        (shell - 1, answered),
        (shell, answered),
        (second - 1, answered),
        (second, again),
        (len(events) - 1, [*again, ("assistant", "Yes.")]),
        (None, [*again, ("assistant", "Yes.")]),
    ]:
        fork(bench, client, chat, seq)
        assert bench.sent() == [*expected, ("user", NEXT)], seq
    assert text(bench.answer(client, "!echo the chat goes on")) == ""


@pytest.mark.parametrize("step", range(STEPS + 1))
@pytest.mark.parametrize("how", ["server killed", "run killed", "stop"])
def test_an_interrupted_task_keeps_its_complete_steps(
    bench: Bench, client: BeRayClient, step: int, how: str
) -> None:
    bench.script += [write(number) for number in range(1, step + 1)]
    bench.script.append(Reply(text=["Half of ", "the answer"], stall_after=1))
    task_id = client.create_task(GOAL)["id"]
    for event in client.stream_task_updates(task_id):
        if event.get("text") == "Half of ":
            break
    fork(bench, client, task_id, event["seq"])  # during the run
    assert bench.sent() == [*messages(step), ("user", NEXT)]
    interrupt(bench, client, task_id, how)
    check_prefixes(bench, task_id, client.get_task(task_id)["events"])
    fork(bench, client, task_id, event["seq"])
    assert bench.sent() == [*messages(step), ("user", NEXT)]
    fork(bench, client, task_id, None)
    assert bench.sent() == [*messages(step), ("assistant", "Half of "), ("user", NEXT)]


@pytest.mark.parametrize("how", ["server killed", "run killed", "stop"])
def test_an_interrupted_tool_call_is_reported_as_interrupted(
    bench: Bench, client: BeRayClient, how: str
) -> None:
    command = {"command": "touch begun; sleep 600", "timeout_seconds": 600}
    calls = [*write(2).calls, Call("run_command", command)]
    bench.script += [write(1), Reply(text=["Both."], calls=calls)]
    task_id = client.create_task(GOAL)["id"]
    until(lambda: "begun" in [item["name"] for item in client.list_files_tree(task_id)])
    for event in client.stream_task_updates(task_id):
        if event["type"] == "AGENT_EVENT_TOOL_RESULT" and "2.txt" in str(event["result"]):
            break
    interrupt(bench, client, task_id, how)
    check_prefixes(bench, task_id, client.get_task(task_id)["events"])
    fork(bench, client, task_id, event["seq"])
    assert bench.sent() == [*messages(1), ("user", NEXT)]
    fork(bench, client, task_id, None)
    sent = bench.sent()
    start = [*messages(1), ("assistant", "Both.")]
    assert sent[: len(start)] == start
    assert ("tool", "2.txt: 1 bytes written") in sent
    assert sent[-2:] == [("tool", INTERRUPTED), ("user", NEXT)]


@pytest.mark.parametrize("bench", ["openai"], indirect=True)
def test_a_server_that_is_killed_at_any_event_leaves_correct_prefixes(
    bench: Bench, client: BeRayClient
) -> None:
    for last in itertools.count(1):
        bench.script[:] = [*(write(number) for number in range(1, STEPS + 1)), Reply(text=["End."])]
        task_id = client.create_task(GOAL)["id"]
        for number, _ in enumerate(client.stream_task_updates(task_id), start=1):
            if number == last:
                break
        else:
            return
        bench.server.kill()
        bench.server.restart()
        wait_ended(client, task_id)
        check_prefixes(bench, task_id, client.get_task(task_id)["events"])


def interrupt(bench: Bench, client: BeRayClient, task_id: int, how: str) -> None:
    if how == "stop":
        client.stop_task(task_id)
    elif how == "run killed":
        bench.kill_run()
    else:
        bench.server.kill()
        bench.server.restart()
    wait_ended(client, task_id)


def wait_ended(client: BeRayClient, task_id: int) -> None:
    until(lambda: client.get_task(task_id)["status"] in TERMINAL_STATUSES)


def check_prefixes(bench: Bench, task_id: int, events: list[Any]) -> None:
    """Check the records for each event: nothing of a later event, and all complete steps."""
    history = conversations(bench).history(task_id)
    everything = history.records()
    results = first_seqs(events, "AGENT_EVENT_TOOL_RESULT")
    answers = first_seqs(events, "AGENT_EVENT_TEXT_CHUNK")
    for seq in range(len(events) + 1):
        records = history.records(seq)
        assert records == everything[: len(records)]
        found = [record["message"]["kind"] for record in records if record["kind"] == "message"]
        assert found.count("request") <= sum(result <= seq for result in results)
        # A step is complete before the next answer begins.
        assert found.count("request") >= sum(answer <= seq for answer in answers[1:])
        assert found.count("response") <= sum(answer <= seq for answer in answers)


def test_files_of_conversations_are_private_and_deleted_with_their_tasks(
    bench: Bench, client: BeRayClient
) -> None:
    source = three_steps(bench, client)[0]["task_id"]
    copy = fork(bench, client, source, None)[0]["task_id"]
    shell = client.create_task("!true")["id"]
    list(client.stream_task_updates(shell))
    folder = bench.server.data_dir / "conversations"
    assert folder.stat().st_mode & 0o777 == 0o700
    for task_id in (source, copy):
        found = list(folder.glob(f"{task_id}.*"))
        assert found
        assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert not list(folder.glob(f"{shell}.*"))
    client.delete_task(source)
    assert not list(folder.glob(f"{source}.*"))
    fork(bench, client, copy, None, "once more")  # the copy does not need its source
    assert bench.sent()[-1] == ("user", "once more")
    client.delete_task(copy)
    assert not list(folder.glob(f"{copy}.*"))


class ManyProviders:
    """Server with models of several providers."""

    def __init__(self, data_dir: Path) -> None:
        self.script: list[Reply] = []
        self.providers = {"openai:gpt-4o": self._provider(None)}
        self.providers[f"anthropic:{CLAUDE}"] = self._provider(ANTHROPIC)
        self.providers["google:gemini-2.5-flash"] = self._provider(GOOGLE)
        openai, anthropic, google = (provider.url for provider in self.providers.values())
        environ = {
            "BERAY_MODEL": "openai:gpt-4o",
            "BERAY_MODELS": "*",
            "OPENAI_BASE_URL": openai,
            "OPENAI_API_KEY": "sk-openai",
            "ANTHROPIC_BASE_URL": anthropic.removesuffix("/v1"),
            "ANTHROPIC_API_KEY": "sk-ant",
            "GOOGLE_GEMINI_BASE_URL": google.removesuffix("/v1"),
            "GOOGLE_API_KEY": "sk-google",
        }
        self.server = RunningServer.start(data_dir, environ)

    def _provider(self, api: Api | None) -> FakeOpenAI:
        def next_reply(_: dict[str, Any]) -> Reply | Failure:
            return self.script.pop(0)

        return FakeOpenAI(next_reply, api)

    def close(self) -> None:
        self.server.stop()
        for provider in self.providers.values():
            provider.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyProviders]:
    made = ManyProviders(tmp_path_factory.mktemp("providers") / "data")
    yield made
    made.close()


@pytest.mark.parametrize("second", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("first", ["openai", "anthropic", "google"])
def test_another_provider_continues_a_conversation(
    many: ManyProviders, first: str, second: str
) -> None:
    models = {name.partition(":")[0]: name for name in many.providers}
    thinking = ["hm"] if first != "google" else []
    with many.server.sign_up() as client:
        calls = [*write(1).calls, *write(2).calls]
        many.script[:] = [
            Reply(thinking=thinking, text=["I write."], calls=calls),
            Reply(text=["All done."]),
            Reply(text=["Done again."]),
        ]
        source = client.create_task(GOAL, model=models[first])["id"]
        assert list(client.stream_task_updates(source))[-1]["status"] == "COMPLETED"
        target = client.create_task(NEXT, start=False, model=models[second])["id"]
        Conversations(many.server.data_dir / "conversations").fork(source, None, target)
        client.start_task(target)
        assert list(client.stream_task_updates(target))[-1]["status"] == "COMPLETED"
    body = many.providers[models[second]].requests[-1]
    sent = str(body["contents" if second == "google" else "messages"])
    places = [
        sent.index(part)
        for part in (GOAL, "I write.", "1.txt: 1 bytes", "2.txt: 1 bytes", "All done.", NEXT)
    ]
    assert places == sorted(places)
