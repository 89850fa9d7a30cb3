"""What an agent says over the Agent Client Protocol, as events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import descendants

from beray.events import MsgEventEnd, MsgEventToolCallChunk, MsgEventToolResult
from beray.server.runners.base import Outcome, OverBudget, Usage
from beray.server.sandbox.sandbox import Kind

from .agent_bench import Bench, bench, both_sandboxes
from .recording import Recorder


async def told(bench: Bench, updates: list[dict[str, Any]]) -> Recorder:
    """What these updates become."""
    outcome = await bench.run(bench.acp(), f"updates {json.dumps(updates)}")
    assert outcome == Outcome("COMPLETED")
    return bench.recorder


def message(text: str, kind: str = "agent_message_chunk") -> dict[str, Any]:
    return {"sessionUpdate": kind, "content": {"type": "text", "text": text}}


@both_sandboxes
async def test_a_goal_is_done_and_its_end_is_said_once(tmp_path: Path, kind: Kind) -> None:
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
async def test_the_agent_is_told_where_it_works_and_what_we_can_do(
    tmp_path: Path, kind: Kind
) -> None:
    work = await bench(tmp_path, kind)
    await work.run(work.acp(), "session")
    said = json.loads(work.recorder.text())
    assert said["cwd"] == ("/workspace" if kind == "bubblewrap" else str(work.work_dir))
    assert said["can"]["fs"] == {"readTextFile": True, "writeTextFile": True}
    assert said["can"]["terminal"] is True


async def test_thoughts_plans_and_modes_have_their_own_events(tmp_path: Path) -> None:
    entries = [
        {"content": "look", "status": "completed", "priority": "high"},
        {"content": "write", "status": "in_progress", "priority": "low"},
    ]
    recorder = await told(
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
    assert len(recorder.events) == 5  # these, and the end


async def test_a_tool_call_is_a_call_its_arguments_and_one_result(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    (work.work_dir / "a.txt").write_text("old")
    call = {"toolCallId": "t1", "sessionUpdate": "tool_call_update"}
    diff = {"type": "diff", "path": f"{work.work_dir}/a.txt", "oldText": "old", "newText": "new"}
    text = {"type": "content", "content": {"type": "text", "text": "edited"}}
    recorder = await told(
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


async def test_a_call_that_comes_as_a_whole_and_fails_is_told(tmp_path: Path) -> None:
    recorder = await told(
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


async def test_what_is_not_text_is_named_and_not_kept(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    uri = f"file://{work.work_dir}/out%20put.txt"
    blocks = [
        {"type": "image", "mimeType": "image/png", "data": "AAAA"},
        {"type": "resource_link", "name": "out", "uri": uri},
        {"type": "resource", "resource": {"uri": "x://y", "text": "inner"}},
    ]
    recorder = await told(
        work, [{"sessionUpdate": "agent_message_chunk", "content": block} for block in blocks]
    )
    image, link, resource = recorder.payloads("attachment")
    assert (image["size"], image["mime_type"]) == (3, "image/png")
    assert "data" not in image
    assert link["path"] == "out put.txt"
    assert resource["text"] == "inner"


async def test_large_and_odd_values_are_cut_to_what_a_log_can_take(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    big = "x" * 300_000
    call = {"sessionUpdate": "tool_call", "kind": "other", "status": "completed"}
    diff = {"type": "diff", "path": "/etc/passwd", "newText": big}
    recorder = await told(
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


async def test_what_a_call_holds_is_bounded_as_a_whole(tmp_path: Path) -> None:
    block = {"type": "content", "content": {"type": "text", "text": "x" * 30_000}}
    diff = {"type": "diff", "path": "p" * 9000, "oldText": "y" * 90_000, "newText": "z" * 90_000}
    call = {"sessionUpdate": "tool_call", "kind": "other", "status": "completed", "title": "many"}
    recorder = await told(
        await bench(tmp_path, "none"),
        [{**call, "toolCallId": "1" * 5000, "content": [block, diff, *[block] * 200]}],
    )
    [result] = recorder.of(MsgEventToolResult)
    assert len(result.model_dump_json()) < 140_000
    assert '{"text":"… (200 more)"}]}' in result.model_dump_json()


@pytest.mark.parametrize("reason", ["max_tokens", "max_turn_requests", "refusal", "cancelled"])
async def test_other_ends_are_failures_with_their_reason(tmp_path: Path, reason: str) -> None:
    work = await bench(tmp_path, "none")
    assert await work.run(work.acp(), f'stop "{reason}"') == Outcome("FAILED", reason)
    assert isinstance(work.recorder.events[-1], MsgEventEnd)


async def test_tokens_and_money_are_told_as_far_as_the_agent_knows_them(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    usage = {
        "totalTokens": 175,
        "inputTokens": 100,
        "outputTokens": 20,
        "thoughtTokens": 5,
        "cachedReadTokens": 50,
    }
    await work.run(work.acp(), f"usage {json.dumps(usage)}")
    # The cache and the thoughts are beside input and output here: the total says so.
    expected = Usage(input_tokens=150, output_tokens=25, cache_read_tokens=50)
    assert work.recorder.records == [expected]
    assert work.recorder.usages == [Usage()]
    assert work.recorder.events[-1] == MsgEventEnd(tokens_used=175)


async def test_usage_on_the_way_is_charged_as_a_guess(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")
    usd, eur = ({"amount": 0.5, "currency": name} for name in ("USD", "EUR"))
    update = {"sessionUpdate": "usage_update", "size": 1000}
    await told(work, [{**update, "used": 70, "cost": usd}, {**update, "used": 60, "cost": eur}])
    expected = Usage(input_tokens=70, cost_usd=0.5, estimated=True)
    assert work.recorder.usages == [Usage(), expected, expected]
    assert work.recorder.records == [expected]


async def test_a_spent_budget_refuses_the_run_before_the_agent_is_started(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")

    def spent(usage: Usage) -> None:
        raise OverBudget("all is spent")

    work.recorder = Recorder(spent)
    with pytest.raises(OverBudget, match="all is spent"):
        await work.run(work.acp(), "hello")
    assert work.recorder.events == []


async def test_a_budget_that_is_spent_on_the_way_ends_the_run(tmp_path: Path) -> None:
    work = await bench(tmp_path, "none")

    def limited(usage: Usage) -> None:
        if usage.tokens > 100:
            raise OverBudget("100 tokens")

    work.recorder = Recorder(limited)
    update = {"sessionUpdate": "usage_update", "size": 1000, "used": 101}
    with pytest.raises(OverBudget, match="100 tokens"):
        await told(work, [update, message("too late")])
    assert work.recorder.text() == ""
    assert work.recorder.records == [Usage(input_tokens=101, estimated=True)]
    assert descendants() == []
