"""Handling of models' answers by the model runner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.exceptions import ModelHTTPError, ModelRateLimitError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, DeltaThinkingPart, DeltaToolCall, FunctionModel
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.usage import RequestUsage

from beray.events import MsgEventEnd, MsgEventToolCallChunk
from beray.server.runners.base import BudgetExceeded, Outcome, Usage
from beray.server.runners.model import RetryPolicy
from beray.server.runners.model.search_tool import to_posix
from beray.server.runners.model.translate import RESULT_CHARACTERS, truncate
from beray.server.runners.model.usage import UsageMeter
from tests.server.agents.model_bench import Bench, Step, about, other_tasks
from tests.support import PROMPT_SECONDS

Piece = Any


def says(*answers: list[Piece]) -> FunctionModel:
    """Return a model that streams these answers."""
    left = iter(answers)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
        for piece in next(left):
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return FunctionModel(stream_function=stream)


async def test_reasoning_and_text_have_different_sources(tmp_path: Path) -> None:
    thoughts = [{0: DeltaThinkingPart(content="let me ")}, {0: DeltaThinkingPart(content="see")}]
    bench = await Bench.make(tmp_path)
    assert await bench.run(model=says([*thoughts, "here"])) == Outcome("COMPLETED")
    assert bench.sink.text("thinking") == "let me see"
    assert bench.sink.text() == "here"


async def test_an_empty_answer_after_tool_calls_ends_the_run(tmp_path: Path) -> None:
    call = {0: DeltaToolCall("report_progress", '{"message": "x"}', tool_call_id="1")}
    bench = await Bench.make(tmp_path)
    assert await bench.run(model=says([call], [""])) == Outcome("COMPLETED")


async def test_parallel_calls_are_distinguished_by_their_id(tmp_path: Path) -> None:
    pieces = [
        {0: DeltaToolCall("report_progress", '{"mess', tool_call_id="one")},
        {1: DeltaToolCall("report_progress", '{"message": ', tool_call_id="two")},
        {0: DeltaToolCall(json_args='age": "a"}')},
        {1: DeltaToolCall(json_args='"b"}')},
    ]
    bench = await Bench.make(tmp_path)
    await bench.run(model=says(pieces, ["done"]))
    assert bench.sink.calls() == [
        ("report_progress", '{"message": "a"}'),
        ("report_progress", '{"message": "b"}'),
    ]
    ids = [(event.model_extra or {})["call_id"] for event in bench.sink.of(MsgEventToolCallChunk)]
    assert ids == ["one", "two", "one", "two"]


async def test_an_exception_in_the_client_is_a_reported_failure(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path)
    broken = says(["so ", KeyError("choices")])
    assert await bench.run(model=broken) == Outcome("FAILED", "provider")
    [(code, details)] = bench.sink.errors()
    assert code == "PROVIDER"
    assert "choices" in details
    assert bench.sink.records[0].estimated
    assert isinstance(bench.sink.events[-1], MsgEventEnd)


async def test_an_overload_error_inside_an_answer_is_retried(tmp_path: Path) -> None:
    overloaded = ModelHTTPError(529, "claude", {"message": "overloaded"})
    bench = await Bench.make(tmp_path)
    assert await bench.run(model=says(["so ", overloaded], ["fine"])) == Outcome("COMPLETED")
    assert bench.sink.text() == "fine"
    assert "HTTP 529: overloaded" in bench.sink.payloads("retry")[0]["message"]


async def test_an_exhausted_budget_prevents_the_first_request(tmp_path: Path) -> None:
    bench = await Bench.make(tmp_path, "hello")

    def nothing(usage: Usage) -> None:
        raise BudgetExceeded("not today")

    bench.budget(nothing)
    with pytest.raises(BudgetExceeded, match="not today"):
        await bench.run()
    assert bench.model is not None
    assert bench.model.requests == []
    assert bench.sink.events == []
    assert bench.sink.records == [Usage()]


async def test_recording_the_usage_has_a_timeout(
    tmp_path: Path,
) -> None:
    bench = await Bench.make(tmp_path, "hello")

    async def never(usage: Usage) -> None:
        await asyncio.Event().wait()

    bench.sink.record = never  # type: ignore[method-assign]
    async with asyncio.timeout(PROMPT_SECONDS):
        assert await bench.run() == Outcome("COMPLETED")
    await asyncio.sleep(0)
    assert not other_tasks()


@pytest.mark.parametrize(
    "arguments",
    ["[]", "null", '"text"', '{"message": 5}', '{"message": "x", "more": 1}', "{", ""],
)
async def test_invalid_arguments_do_not_end_the_run(tmp_path: Path, arguments: str) -> None:
    call = {0: DeltaToolCall("report_progress", arguments, tool_call_id="1")}
    bench = await Bench.make(tmp_path)
    assert await bench.run(model=says([call], ["done"])) == Outcome("COMPLETED")
    assert "error" in bench.sink.results("report_progress")[0]


async def test_errors_in_arguments_are_described(tmp_path: Path) -> None:
    steps: list[Step] = [[("read_file", {"file": "a"})], "done"]
    bench = await Bench.make(tmp_path, *steps)
    await bench.run()
    [result] = bench.sink.results("read_file")
    assert result == {"error": "path: Field required; file: Extra inputs are not permitted"}


async def test_models_without_streaming_are_supported(tmp_path: Path) -> None:
    class Slow(WrapperModel):
        request_stream = Model.request_stream

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(messages) > 1:
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(
            parts=[TextPart("now"), ToolCallPart("report_progress", {"message": "x"}, "1")]
        )

    bench = await Bench.make(tmp_path)
    assert await bench.run(model=Slow(FunctionModel(answer))) == Outcome("COMPLETED")
    assert bench.sink.text() == "nowdone"
    assert bench.sink.calls() == [("report_progress", '{"message": "x"}')]
    assert bench.sink.records[0].requests == 2


@pytest.mark.parametrize(
    ("attempts", "retry_after", "seconds"),
    [(1, None, 1), (2, None, 2), (4, None, 8), (5, None, None), (1, 7.5, 7.5), (1, 3600, 60)],
)
def test_delays_grow_up_to_a_limit(
    attempts: int, retry_after: float | None, seconds: float | None
) -> None:
    error = ModelRateLimitError("gpt", "slow down", retry_after=retry_after)
    expected = None if seconds is None else pytest.approx(seconds, rel=0.2)
    assert RetryPolicy().delay(attempts, error) == expected


def test_a_long_result_is_truncated_for_the_log() -> None:
    short, long = {"a": [1, "x"]}, "x" * (RESULT_CHARACTERS + 1)
    assert truncate(short) is short
    assert truncate(long) == f"{long[:-1]}… [20,001 characters in all]"
    assert truncate({"a": long}).startswith('{"a": "xxx')
    assert len(json.dumps(truncate([long, long]))) < RESULT_CHARACTERS + 100


def test_cache_tokens_are_part_of_the_input_and_cost_less() -> None:
    meter = UsageMeter("claude-sonnet-4-5")
    usage = RequestUsage(
        input_tokens=1000, output_tokens=100, cache_read_tokens=600, cache_write_tokens=200
    )
    response = ModelResponse(
        parts=[], usage=usage, model_name="claude-sonnet-4-5", provider_name="anthropic"
    )
    for _ in range(2):
        meter.add(response, [], ModelRequestParameters(), complete=True)
    # Prices of 1,000,000 tokens: input 3.00, cache read 0.30, cache write 3.75, output 15.00.
    one = (200 * 3 + 600 * 0.3 + 200 * 3.75 + 100 * 15) / 1e6
    assert meter.usage == Usage(2, 2000, 200, 1200, 400, about(2 * one))


@pytest.mark.parametrize(
    ("pattern", "posix"),
    [
        (r"\d+\.\d", r"[0-9]+\.[0-9]"),
        (r"[\d.]\w", r"[0-9.]\w"),
        (r"[^\s\]]", r"[^][:space:]]"),
        (r"[a\-z\]\.]", r"[]az.-]"),
        (r"[\^x]", r"[x^]"),
        (r"[[:alpha:]\d]+", r"[[:alpha:]0-9]+"),
        (r"\[\d\]", r"\[[0-9]\]"),
        ("[", "["),
        (r"(?:a|b)", r"(a|b)"),
        (r"[]a]\D", r"[]a][^0-9]"),
        ("\\", "\\"),
    ],
)
def test_regular_expressions_are_converted_to_posix(pattern: str, posix: str) -> None:
    assert to_posix(pattern) == posix
