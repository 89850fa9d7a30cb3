"""Conversion of messages of the Agent Client Protocol to events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beray.events import MsgEventEnd, MsgEventToolCallChunk, MsgEventToolResult
from beray.server.runners.base import BudgetExceeded, Outcome, Usage
from beray.server.sandbox.sandbox import Kind
from tests.server.agents.agent_bench import Bench, bench, both_sandboxes
from tests.server.agents.recording import Recorder
from tests.support import descendants


async def run_updates(bench: Bench, updates: list[dict[str, Any]]) -> Recorder:
    """Run an agent that sends these updates; return the recorded events."""
    outcome = await bench.run(bench.acp(), f"updates {json.dumps(updates)}")
    assert outcome == Outcome("COMPLETED")
    return bench.recorder


def message(text: str, kind: str = "agent_message_chunk") -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}}


@both_sandboxes
async def test_a_goal_is_completed_and_ends_with_one_event(tmp_path: Path, kind: Kind) -> None:
    work = await bench(tmp_path, kind)
    assert await work.run(work.acp(), "hello — 世界") == Outcome("COMPLETED")
    assert work.recorder.text() == "hello — 世界"
    assert work.recorder.events[-1] == MsgEventEnd(tokens_used=0)
    assert len(work.recorder.of(MsgEventEnd)) == 1
    assert descendants() == []
    assert work.scratch == []


async def test_many_updates_are_logged_in_order_before_the_end(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(), "chunks 3000") == Outcome("COMPLETED")
    assert work.recorder.text() == "".join(f"{number} " for number in range(3000))


@both_sandboxes
async def test_the_agent_receives_its_directory_and_the_client_capabilities(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    await work.run(work.acp(), "session")
    reply = json.loads(work.recorder.text())
    assert reply["cwd"] == ("/workspace" if kind == "bubblewrap" else str(work.work_dir))
    assert reply["can"]["fs"] == {"readTextFile": True, "writeTextFile": True}
    assert reply["can"]["terminal"] is True


async def test_thoughts_plans_and_modes_have_their_own_events(tmp_path: Path) -> None:
    entries = [
        {"content": "look", "status": "completed", "priority": "high"},
        {"content": "write", "status": "in_progress", "priority": "low"},
    ]
    recorder = await run_updates(
        await bench(tmp_path, "none"),
        [
            message("hm", "agent_thought_chunk"),
            message("goal again", "user_message_chunk"),
            {"sessionUpdate": "plan", "entries": entries},
            {"sessionUpdate": "current_mode_update", "currentModeId": "code"},
            {"sessionUpdate": "of_the_future", "what": 1},
            {"sessionUpdate": "agent_message_chunk", "content": "not a block"},
            message("done"),
        ],
    )
    assert (recorder.text("thinking"), recorder.text()) == ("hm", "done")
    [plan] = recorder.payloads("plan")
    assert plan == {"kind": "plan", "entries": entries, "message": "1 of 2 done: write"}
    [mode] = recorder.payloads("mode")
    assert "'code'" in mode["message"]
    assert len(recorder.events) == 5  # including the end


async def test_a_tool_call_is_a_call_its_arguments_and_one_result(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    (work.work_dir / "a.txt").write_text("old")
    call = {"toolCallId": "t1", "sessionUpdate": "tool_call_update"}
    diff = {"type": "diff", "path": f"{work.work_dir}/a.txt", "oldText": "old", "newText": "new"}
    text = {"type": "content", "content": {"type": "text", "text": "edited"}}
    recorder = await run_updates(
        work,
        [
            {
                **call,
                "sessionUpdate": "tool_call",
                "title": "Edit a.txt",
                "kind": "edit",
                "rawInput": {},
            },
            {**call, "rawInput": {"path": "a.txt", "n": 1}, "status": "in_progress"},
            {**call, "rawInput": {"path": "a.txt", "n": 1}},
            {**call, "content": [text, diff], "status": "completed"},
            {**call, "content": [text], "status": "failed"},
        ],
    )
    assert recorder.calls() == [("Edit a.txt", '{"path": "a.txt", "n": 1}')]
    chunks = recorder.of(MsgEventToolCallChunk)
    assert [chunk.tool_name for chunk in chunks] == ["Edit a.txt", None]
    [result] = recorder.of(MsgEventToolResult)
    assert result.result == {
        "status": "completed",
        "content": [
            {"text": "edited"},
            {"diff": {"path": "a.txt", "old_text": "old", "new_text": "new"}},
        ],
    }
    assert result.source == "tools:Edit a.txt"
    assert result.model_extra == {"call_id": "t1"}


async def test_a_failed_call_in_a_single_update_is_logged(tmp_path: Path) -> None:
    recorder = await run_updates(
        await bench(tmp_path, "none"),
        [
            {
                "sessionUpdate": "tool_call",
                "toolCallId": "t2",
                "title": "",
                "kind": "fetch",
                "status": "failed",
                "rawInput": {"url": "http://x"},
                "rawOutput": {"error": "no", "deep": [[[1.5]]]},
            }
        ],
    )
    assert recorder.calls() == [("fetch", '{"url": "http://x"}')]
    expected = {"status": "failed", "output": {"error": "no", "deep": [[[1.5]]]}}
    assert recorder.results("fetch") == [expected]


async def test_content_other_than_text_is_described_without_its_data(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    uri = f"file://{work.work_dir}/out%20put.txt"
    blocks = [
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "resource_link", "name": "out", "uri": uri},
        {"type": "resource", "resource": {"uri": "x://y", "text": "inner"}},
    ]
    recorder = await run_updates(
        work, [{"sessionUpdate": "agent_message_chunk", "content": block} for block in blocks]
    )
    image, link, resource = recorder.payloads("attachment")
    assert (image["size"], image["mime_type"]) == (3, "image/png")
    assert "data" not in image
    assert link["path"] == "out put.txt"
    assert resource["text"] == "inner"


async def test_large_and_unusual_values_are_limited_for_the_log(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    big = "x" * 300_000
    call = {"sessionUpdate": "tool_call", "kind": "other", "status": "completed"}
    diff = {"type": "diff", "path": "/etc/passwd", "newText": big}
    recorder = await run_updates(
        await bench(tmp_path, "none"),
        [
            {**call, "toolCallId": "deep", "title": "deep", "rawInput": {"v": deep}},
            {**call, "toolCallId": "big", "title": "big", "rawInput": {"v": big}},
            {**call, "toolCallId": "diff", "title": "diff", "content": [diff]},
            message(big),
            message("\ud800 half"),
        ],
    )
    assert max(len(event.model_dump_json()) for event in recorder.events) < 110_000
    assert recorder.text() == f"{big}\ufffd half"
    [result] = recorder.results("diff")
    assert result["content"][0]["diff"]["path"] == "/etc/passwd"


async def test_the_total_content_of_a_call_is_limited(tmp_path: Path) -> None:
    block = {"type": "content", "content": {"type": "text", "text": "x" * 30_000}}
    diff = {"type": "diff", "path": "p" * 9000, "oldText": "y" * 90_000, "newText": "z" * 90_000}
    call = {"sessionUpdate": "tool_call", "kind": "other", "status": "completed", "title": "many"}
    recorder = await run_updates(
        await bench(tmp_path, "none"),
        [{**call, "toolCallId": "1" * 5000, "content": [block, diff, *[block] * 200]}],
    )
    [result] = recorder.of(MsgEventToolResult)
    assert len(result.model_dump_json()) < 140_000
    assert '{"text":"… (200 more)"}]}' in result.model_dump_json()


@pytest.mark.parametrize("reason", ["max_tokens", "max_turn_requests", "refusal", "cancelled"])
async def test_other_stop_reasons_are_failures(tmp_path: Path, reason: str) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(), f'stop "{reason}"') == Outcome("FAILED", reason)
    assert isinstance(work.recorder.events[-1], MsgEventEnd)


async def test_reported_tokens_and_cost_are_recorded(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    usage = {
        "totalTokens": 175,
        "inputTokens": 100,
        "outputTokens": 20,
        "thoughtTokens": 5,
        "cachedReadTokens": 50,
    }
    await work.run(work.acp(), f"usage {json.dumps(usage)}")
    # The total shows that cache and reasoning tokens are not included in input and output.
    expected = Usage(input_tokens=150, output_tokens=25, cache_read_tokens=50)
    assert work.recorder.records == [expected]
    assert work.recorder.usages == [Usage()]
    assert work.recorder.events[-1] == MsgEventEnd(tokens_used=175)


async def test_usage_updates_are_charged_as_estimates(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    usd, eur = ({"amount": 0.5, "currency": name} for name in ("USD", "EUR"))
    update = {"sessionUpdate": "usage_update", "size": 1000}
    await run_updates(
        work, [{**update, "used": 70, "cost": usd}, {**update, "used": 60, "cost": eur}]
    )
    expected = Usage(input_tokens=70, cost_usd=0.5, estimated=True)
    assert work.recorder.usages == [Usage(), expected, expected]
    assert work.recorder.records == [expected]


async def test_an_exhausted_budget_prevents_the_start_of_the_agent(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")

    def spent(usage: Usage) -> None:
        raise BudgetExceeded("all is spent")

    work.recorder = Recorder(spent)
    with pytest.raises(BudgetExceeded, match="all is spent"):
        await work.run(work.acp(), "hello")
    assert work.recorder.events == []


async def test_a_budget_that_is_exhausted_during_the_run_ends_it(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")

    def limited(usage: Usage) -> None:
        if usage.tokens > 100:
            raise BudgetExceeded("100 tokens")

    work.recorder = Recorder(limited)
    update = {"sessionUpdate": "usage_update", "size": 1000, "used": 101}
    with pytest.raises(BudgetExceeded, match="100 tokens"):
        await run_updates(work, [update, message("too late")])
    assert work.recorder.text() == ""
    assert work.recorder.records == [Usage(input_tokens=101, estimated=True)]
    assert descendants() == []
