"""Model runner with a scripted provider over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beray.events import (
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
)
from beray.server.runners.base import BudgetExceeded, Outcome, Usage
from beray.server.runners.model import RetryPolicy
from tests.server.agents.fake_openai import Call, Failure, FakeOpenAI, Reply, Script
from tests.server.agents.model_bench import Bench, about, other_tasks, processes, stop
from tests.support import PROMPT_SECONDS

Provider = Callable[[Script], FakeOpenAI]
HELLO = "print('hello world')\n"
HELLO_WORLD: list[Reply | Failure] = [
    Reply(["I write ", "it."], [Call("write_file", {"path": "hello.py", "content": HELLO})]),
    Reply([], [Call("run_command", {"command": "python3 hello.py"})], cached_tokens=64),
    Reply([], [Call("send_file", {"path": "hello.py"})], prompt_tokens=200),
    Reply(["Done", ": ", "hello.py"], prompt_tokens=300, completion_tokens=7, cached_tokens=256),
]


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeOpenAI]]:
    """Return the list of servers that ``provider`` starts; close them at the end."""
    started: list[FakeOpenAI] = []
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    yield started
    for server in started:
        server.close()


@pytest.fixture
def provider(providers: list[FakeOpenAI], monkeypatch: pytest.MonkeyPatch) -> Provider:
    def start(script: Script) -> FakeOpenAI:
        server = FakeOpenAI(script)
        providers.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        return server

    return start


async def test_every_step_of_a_run_is_an_event(tmp_path: Path, provider: Provider) -> None:
    fake = provider(HELLO_WORLD)
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")

    assert await bench.run() == Outcome("COMPLETED")

    assert (bench.work_dir / "hello.py").read_text() == HELLO
    steps = [type(event) for event in bench.sink.events]
    unrepeated = [
        kind for kind, before in zip(steps, [None, *steps], strict=False) if kind != before
    ]
    assert unrepeated == [
        MsgEventTextChunk, MsgEventToolCallChunk, MsgEventToolResult,
        MsgEventToolCallChunk, MsgEventTextChunk, MsgEventToolResult,
        MsgEventToolCallChunk, MsgEventSendFile, MsgEventToolResult,
        MsgEventTextChunk, MsgEventEnd,
    ]  # fmt: skip
    assert bench.sink.text() == "I write it.Done: hello.py"
    assert bench.sink.text("tools:run_command") == "hello world\n"
    assert bench.sink.of(MsgEventSendFile)[0].path == "hello.py"
    assert bench.sink.of(MsgEventEnd)[0].tokens_used == 100 + 100 + 200 + 300 + 20 * 3 + 7
    assert fake.requests[0]["messages"][-1] == {"role": "user", "content": "write hello world"}
    assert not other_tasks()


async def test_text_and_arguments_are_emitted_in_the_received_chunks(
    tmp_path: Path, provider: Provider
) -> None:
    provider(HELLO_WORLD)
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    await bench.run()
    chunks = bench.sink.of(MsgEventTextChunk)
    assert [chunk.text for chunk in chunks if chunk.source == "main"][:2] == ["I write ", "it."]
    calls = bench.sink.of(MsgEventToolCallChunk)
    first = [call for call in calls if (call.model_extra or {})["call_id"] == "call_1"]
    assert [call.tool_name for call in first] == ["write_file", None, None, None]
    assert all(call.args_chunk for call in first[1:])
    assert bench.sink.calls()[1] == ("run_command", '{"command": "python3 hello.py"}')
    result = bench.sink.of(MsgEventToolResult)[1]
    assert result.result == {"exit_code": 0}
    assert (result.source, result.model_extra) == ("tools:run_command", {"call_id": "call_2"})


async def test_an_answer_is_emitted_while_it_is_received(
    tmp_path: Path, provider: Provider
) -> None:
    fake = provider([Reply(["one ", "two ", "three"], stall_after=2)])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    run = bench.start()
    await bench.sink.until(lambda sink: sink.text() == "one two ")
    fake.release()
    assert await run == Outcome("COMPLETED")
    assert bench.sink.text() == "one two three"


async def test_usage_is_charged_before_each_request_and_recorded_at_the_end(
    tmp_path: Path, provider: Provider
) -> None:
    provider(HELLO_WORLD)
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    await bench.run()
    # Prices of 1,000,000 tokens of gpt-4o: input 2.50, cache read 1.25, output 10.00.
    assert bench.sink.usages == [
        Usage(),
        Usage(1, 100, 20, 0, 0, about(0.00045)),
        Usage(2, 200, 40, 64, 0, about(0.00045 + 0.00037)),
        Usage(3, 400, 60, 64, 0, about(0.00082 + 0.0007)),
    ]
    assert bench.sink.records == [Usage(4, 700, 67, 320, 0, about(0.00152 + 0.0005))]


async def test_the_cost_of_a_model_without_a_known_price_is_unknown(
    tmp_path: Path, provider: Provider
) -> None:
    provider([Reply(["hello"])])
    bench = await Bench.make(tmp_path, model="openai:my-own-llama")
    await bench.run()
    assert bench.sink.records == [Usage(1, 100, 20, 0, 0, None)]


async def test_usage_is_estimated_if_the_provider_does_not_report_it(
    tmp_path: Path, provider: Provider
) -> None:
    provider([Reply(["x" * 400], has_usage=False)])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    await bench.run(goal="y" * 4000)
    [usage] = bench.sink.records
    assert usage.estimated
    assert usage.output_tokens == 100
    assert usage.input_tokens > 1000


async def test_a_local_endpoint_needs_no_key_and_a_key_is_used(
    tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = provider(lambda body: Reply(["hello"]))
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("COMPLETED")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    assert await bench.run() == Outcome("COMPLETED")
    assert fake.headers[1]["authorization"] == "Bearer sk-mine"


async def test_a_task_can_name_its_own_model(tmp_path: Path, provider: Provider) -> None:
    fake = provider([Reply(["hello"])])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    await bench.run(job_model="openai-chat:gpt-4o-mini")
    assert fake.requests[0]["model"] == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("failures", "words"),
    [
        ([Failure(429, "slow down"), Failure(503)], ["HTTP 429: slow down", "HTTP 503"]),
        ([Failure(500), Failure(0)], ["HTTP 500", "onnection"]),
    ],
)
async def test_transient_failures_are_retried_and_logged(
    tmp_path: Path, provider: Provider, failures: list[Failure], words: list[str]
) -> None:
    fake = provider([*failures, Reply(["hello"])])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("COMPLETED")
    assert len(fake.requests) == 3
    retries = bench.sink.payloads("retry")
    assert len(retries) == len(words)
    assert all(word in payload["message"] for word, payload in zip(words, retries, strict=True))
    assert bench.sink.usages == [Usage()] * 3
    assert bench.sink.records[0].requests == 1


async def test_retry_after_is_honoured(tmp_path: Path, provider: Provider) -> None:
    provider([Failure(429, headers={"Retry-After": "1"}), Reply(["hello"])])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    bench.retry_policy = RetryPolicy(initial_seconds=30)
    assert await bench.run() == Outcome("COMPLETED")
    assert bench.sink.payloads("retry")[0]["wait_seconds"] == 1


async def test_a_persistent_failure_ends_the_run_with_the_providers_message(
    tmp_path: Path, provider: Provider
) -> None:
    fake = provider(lambda body: Failure(500, "all is lost"))
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("FAILED", "provider")
    assert len(fake.requests) == 5
    [(code, details)] = bench.sink.errors()
    assert code == "PROVIDER"
    assert "gpt-4o" in details
    assert "HTTP 500: all is lost" in details
    assert not bench.sink.of(MsgEventEnd)


async def test_a_rejected_request_is_not_retried(tmp_path: Path, provider: Provider) -> None:
    fake = provider(lambda body: Failure(400, "the prompt is too long"))
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("FAILED", "provider")
    assert len(fake.requests) == 1
    assert "too long" in bench.sink.errors()[0][1]


@pytest.mark.parametrize(
    ("status", "word"), [(401, "key"), (404, "name")], ids=["wrong key", "wrong name"]
)
async def test_a_rejected_key_or_model_name_is_reported(
    tmp_path: Path, provider: Provider, status: int, word: str
) -> None:
    provider([Failure(status, "no")])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("FAILED", "model")
    [(code, details)] = bench.sink.errors()
    assert code == "MODEL"
    assert word in details


async def test_an_interrupted_answer_is_requested_again(tmp_path: Path, provider: Provider) -> None:
    provider([Reply(["half of ", "it"], cut_after=1), Reply(["all of it"])])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("COMPLETED")
    assert bench.sink.text() == "all of it"
    [payload] = bench.sink.payloads("retry")
    assert payload["answer_began"]
    assert "interrupted" in payload["message"]
    [usage] = bench.sink.records
    assert (usage.requests, usage.estimated) == (2, True)


async def test_usage_is_reported_after_a_failure(tmp_path: Path, provider: Provider) -> None:
    provider([HELLO_WORLD[0], Failure(400)])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("FAILED", "provider")
    assert bench.sink.events[-1] == MsgEventEnd(tokens_used=120)
    assert (bench.work_dir / "hello.py").exists()


async def test_a_budget_ends_the_run_before_the_next_request(
    tmp_path: Path, provider: Provider
) -> None:
    fake = provider(HELLO_WORLD)
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")

    def no_more_than_two(usage: Usage) -> None:
        if usage.requests >= 2:
            raise BudgetExceeded("two requests are all")

    bench.budget(no_more_than_two)
    with pytest.raises(BudgetExceeded, match="two requests"):
        await bench.run()
    assert len(fake.requests) == 2
    assert bench.sink.records[0].requests == 2
    assert bench.sink.events[-1] == MsgEventEnd(tokens_used=240)
    assert not processes()
    assert not other_tasks()


async def test_the_number_of_requests_is_not_limited(tmp_path: Path, provider: Provider) -> None:
    def script(body: dict[str, object]) -> Reply:
        messages = body["messages"]
        assert isinstance(messages, list)
        if len(messages) > 2 * 55:
            return Reply(["enough"])
        return Reply([], [Call("report_progress", {"message": "on"})])

    fake = provider(script)
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    assert await bench.run() == Outcome("COMPLETED")
    assert len(fake.requests) == 56


async def test_a_stop_during_an_answer_is_quick_and_counts_the_received_tokens(
    tmp_path: Path, provider: Provider
) -> None:
    provider([Reply(["a" * 40, "b"], stall_after=1)])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    run = bench.start()
    await bench.sink.until(lambda sink: sink.text() == "a" * 40)
    assert await stop(run) < PROMPT_SECONDS
    [usage] = bench.sink.records
    assert usage.estimated
    assert usage.requests == 1
    assert usage.output_tokens == 10
    assert usage.input_tokens > 100
    assert not other_tasks()


async def test_a_stop_before_the_answer_counts_the_request(
    tmp_path: Path, provider: Provider
) -> None:
    requested = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(body: dict[str, object]) -> Reply:
        loop.call_soon_threadsafe(requested.set)
        fake.stall()
        return Reply(["late"])

    fake = provider(script)
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    run = bench.start()
    await requested.wait()
    assert await stop(run) < PROMPT_SECONDS
    [usage] = bench.sink.records
    assert usage.estimated
    assert (usage.requests, usage.output_tokens) == (1, 0)
    assert usage.input_tokens > 100
    assert not other_tasks()


async def test_a_stop_while_waiting_for_the_provider_is_quick(
    tmp_path: Path, provider: Provider
) -> None:
    provider([Failure(429, headers={"Retry-After": "50"})])
    bench = await Bench.make(tmp_path, model="openai:gpt-4o")
    run = bench.start()
    await bench.sink.until(lambda sink: bool(sink.payloads("retry")))
    assert bench.sink.payloads("retry")[0]["wait_seconds"] == 50
    assert await stop(run) < PROMPT_SECONDS
    assert bench.sink.records == [Usage()]
    assert not other_tasks()
