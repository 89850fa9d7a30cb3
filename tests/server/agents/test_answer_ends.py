"""Ends of models' answers with the APIs of two providers, and messages about failures."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.events import MsgError, MsgEventEnd
from beray.server.runners.base import Outcome
from beray.server.runners.model import RetryPolicy
from beray.server.runners.model.provider_errors import MAX_CHARACTERS, extract_message
from tests.server.agents.fake_anthropic import ANTHROPIC
from tests.server.agents.fake_anthropic import MODEL as CLAUDE
from tests.server.agents.fake_openai import OPENAI, Call, Failure, FakeOpenAI, Reply, Script
from tests.server.agents.model_bench import Bench

Run = Callable[..., Any]
REPORT = Call("report_progress", {"message": "x"})
WORDS = {
    "openai": {"length": "length", "filter": "content_filter"},
    "anthropic": {"length": "max_tokens", "filter": "refusal"},
}


@pytest.fixture(params=["openai", "anthropic"])
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Script], Any]]:
    """Return a function that runs a goal with a scripted provider."""
    started: list[FakeOpenAI] = []

    async def run(script: Script) -> tuple[Bench, Outcome]:
        fake = FakeOpenAI(script, ANTHROPIC if api == "anthropic" else OPENAI)
        started.append(fake)
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant")
        name = f"anthropic:{CLAUDE}" if api == "anthropic" else "openai:gpt-4o"
        bench = await Bench.make(tmp_path, model=name)
        bench.retry_policy = RetryPolicy(max_attempts=3, initial_seconds=0.01)
        return bench, await bench.run()

    yield run
    for fake in started:
        fake.close()


def only_error(bench: Bench) -> tuple[str, str]:
    [error] = bench.sink.errors()
    kinds = [type(event) for event in bench.sink.events]
    # The error comes after the text, and before the end with the usage.
    assert kinds[-2:] == [MsgError, MsgEventEnd]
    return error


async def test_a_truncated_answer_keeps_its_text_and_fails(run: Run, api: str) -> None:
    finish = WORDS[api]["length"]
    bench, outcome = await run([Reply(["Once upon ", "a"], finish=finish, completion_tokens=1234)])
    assert outcome == Outcome("FAILED", "truncated")
    assert bench.sink.text() == "Once upon a"
    code, details = only_error(bench)
    assert code == "TRUNCATED"
    assert (
        f"truncated after 1,234 tokens: it reached the model's output limit ({finish})" in details
    )


async def test_a_truncated_call_is_not_executed(run: Run, api: str) -> None:
    cut = Call("run_command", '{"command": "touch made')
    bench, outcome = await run([Reply(["I do. "], [cut], finish=WORDS[api]["length"])])
    assert outcome == Outcome("FAILED", "truncated")
    assert "in a call of run_command, which was not executed" in only_error(bench)[1]
    assert bench.sink.results("run_command") == []
    assert list(bench.work_dir.iterdir()) == []


async def test_reasoning_that_uses_up_the_limit_is_reported(run: Run, api: str) -> None:
    bench, outcome = await run([Reply(thinking=["hm"], finish=WORDS[api]["length"])])
    assert outcome == Outcome("FAILED", "truncated")
    assert "before any text" in only_error(bench)[1]


async def test_a_filtered_answer_fails_without_its_text_in_the_message(run: Run, api: str) -> None:
    bench, outcome = await run([Reply(["Take "], finish=WORDS[api]["filter"])])
    code, details = only_error(bench)
    expected = "refused" if api == "anthropic" else "filtered"
    assert outcome == Outcome("FAILED", expected)
    assert code == expected.upper()
    assert bench.sink.text() == "Take "
    assert "{" not in details and "parts" not in details


async def test_a_filtered_answer_without_text_fails_as_well(run: Run, api: str) -> None:
    bench, outcome = await run([Reply(finish=WORDS[api]["filter"])])
    assert outcome.reason == ("refused" if api == "anthropic" else "filtered")
    assert "{" not in only_error(bench)[1]


@pytest.mark.parametrize("api", ["openai"], indirect=True)
async def test_a_refusal_is_in_the_error(run: Run) -> None:
    bench, outcome = await run([Reply(refusal=["I cannot ", "help."])])
    assert outcome == Outcome("FAILED", "refused")
    assert only_error(bench) == ("REFUSED", "The model refused to answer: I cannot help.")


@pytest.mark.parametrize("reply", [Reply(), Reply([" ", "\n"]), Reply(thinking=["hm"])])
async def test_an_empty_answer_fails(run: Run, reply: Reply) -> None:
    bench, outcome = await run([reply])
    assert outcome == Outcome("FAILED", "empty")
    code, details = only_error(bench)
    assert code == "EMPTY"
    assert ("only reasoning" in details) == bool(reply.thinking)


async def test_an_empty_answer_after_tool_calls_completes_the_run_with_a_note(run: Run) -> None:
    bench, outcome = await run([Reply(calls=[REPORT]), Reply()])
    assert outcome == Outcome("COMPLETED")
    [note] = bench.sink.payloads("note")
    assert "without any text" in note["message"]


async def test_a_stream_without_its_final_marker_is_requested_again(run: Run) -> None:
    bench, outcome = await run([Reply(["The answer is 4"], finish=""), Reply(["All of it."])])
    assert outcome == Outcome("COMPLETED")
    [retry] = bench.sink.payloads("retry")
    assert "ended without its final marker" in retry["message"] and retry["answer_began"]


async def test_calls_of_a_stream_without_its_final_marker_are_not_executed(run: Run) -> None:
    bench, outcome = await run(lambda body: Reply(["x"], [REPORT], finish=""))
    assert outcome == Outcome("FAILED", "provider")
    assert "without its final marker" in only_error(bench)[1]
    assert bench.sink.results("report_progress") == []


HTML = "<html><head><title>502 Bad&nbsp;Gateway</title></head><body>nginx</body></html>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "no\\u001b[31m such\\nmodel"}}', "HTTP 400: no such model"),
        ('{"error": "model not loaded"}', "HTTP 400: model not loaded"),
        ('{"detail": "Not enough credits"}', "HTTP 400: Not enough credits"),
        ("out of memory", "HTTP 400: out of memory"),
        (HTML, "HTTP 400: 502 Bad Gateway"),
        ("\ufeff\n" + HTML, "HTTP 400: 502 Bad Gateway"),
        ("", "HTTP 400 (Bad Request)"),
    ],
)
async def test_the_message_of_the_provider_is_shown_with_its_address(
    run: Run, api: str, body: str, message: str
) -> None:
    bench, outcome = await run([Failure(400, body=body)])
    assert outcome == Outcome("FAILED", "provider")
    [(_, details)] = bench.sink.errors()
    assert details.endswith(f"failed: {message}.")
    assert " at http://127.0.0.1:" in details and "proxy" not in details


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "gzip"}])
@pytest.mark.parametrize("start", ["", "\ufeff\r\n<!-- a -->"])
async def test_a_web_page_instead_of_a_stream_is_reported_at_once(
    run: Run, headers: dict[str, str], start: str
) -> None:
    bench, outcome = await run([Failure(200, body=start + HTML, headers=headers)])
    assert outcome == Outcome("FAILED", "provider")
    [(_, details)] = bench.sink.errors()
    assert " at http://127.0.0.1:" in details
    assert (
        "a web page instead of a stream: '502 Bad Gateway'. Check the provider's base URL"
        in details
    )
    assert not any("attempt 2" in str(event) for event in bench.sink.events)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('{"error": {"message": "overloaded"}}', "a message instead of a stream: 'overloaded'."),
        ("Server is running", "a message instead of a stream: 'Server is running'."),
        ('{"id": "x", "choices": []}', "JSON without a message instead of a stream."),
        ("", "the stream ended without its final marker."),
    ],
)
async def test_a_body_that_is_not_a_stream_is_reported(run: Run, body: str, reason: str) -> None:
    bench, outcome = await run([Failure(200, body=body)] * 3)
    assert outcome == Outcome("FAILED", "provider")
    assert bench.sink.errors()[0][1].endswith(reason)


async def test_an_error_in_a_stream_is_reported(run: Run) -> None:
    body = 'data: {"error": {"message": "the GPU is gone"}}\n\n'
    bench, outcome = await run([Failure(200, body=body)] * 3)
    assert outcome == Outcome("FAILED", "provider")
    assert "the GPU is gone" in bench.sink.errors()[0][1]


async def test_an_unreachable_address_and_the_proxy_are_shown_without_credentials(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # not listening
        port = bound.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://user:hunter2@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        bench, outcome = await run([])
    assert outcome == Outcome("FAILED", "provider")
    [(_, details)] = bench.sink.errors()
    assert f"(through the proxy http://127.0.0.1:{port})" in details
    assert "hunter2" not in str(bench.sink.events)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"type": "error", "error": {"type": "x", "message": "Overloaded"}}, "Overloaded"),
        ([{"error": {"code": 400, "message": "API key not valid"}}], "API key not valid"),
        ({"message": '{"error": {"message": "inner"}}'}, "inner"),
        ({"errors": [{"message": "one"}, {"message": "two"}]}, "one; two"),
        ({"detail": [{"loc": ["body", "top_p"], "msg": "too large"}]}, "body.top_p: too large"),
        ({"error": "invalid_grant", "error_description": "expired"}, "expired"),
        (
            {"message": "Provider returned error", "metadata": {"raw": '{"detail": "busy"}'}},
            "Provider returned error: busy",
        ),
        ({"title": "Forbidden", "status": 403, "detail": "no access"}, "no access"),
        ({"error": {"code": "model_not_found", "message": None}}, "model_not_found"),
        ("<html><h1>Just a\nmoment</h1></html>", "Just a moment"),
        ("<p>plain &amp; simple</p>", "plain & simple"),
        (b'{"message": "bytes"}', "bytes"),
        ({"unknown": True}, ""),
        (None, ""),
        ("{broken", "{broken"),
    ],
)
def test_messages_are_extracted_from_many_forms(body: Any, message: str) -> None:
    assert extract_message(body) == message


def test_the_nesting_of_messages_is_limited() -> None:
    nested: Any = "deep"
    for _ in range(100):
        nested = {"error": nested}
    assert extract_message(nested) == ""
    assert extract_message(json.dumps(nested)) != "deep"


async def test_a_long_message_is_shortened(run: Run) -> None:
    bench, _ = await run([Failure(400, "x" * 100_000)])
    assert len(bench.sink.errors()[0][1]) < MAX_CHARACTERS + 200
