"""What a task takes, and who does it, as the dashboard says it."""

from __future__ import annotations

from typing import Any

from beray.schema import Task
from tests.server.agents.fake_openai import Call, Reply
from tests.server.agents.model_server import ModelServer
from tests.tui.dashboard_pilot import dashboard, log_rows, new_task, until_shown
from tui import status


async def test_a_model_is_watched_at_work(models: ModelServer) -> None:
    goal = models.script(
        "write hello world",
        Reply(
            text=["I write it."],
            calls=[Call("write_file", {"path": "hello.py", "content": "print('hello')\n"})],
        ),
        Reply(calls=[Call("run_command", {"command": "python3 hello.py; sleep 1"})]),
        Reply(text=["# Done\n\n", "**hello.py** says hello."]),
    )
    with models.server.sign_up() as client:
        async with dashboard(models.server, client, size=(150, 40)) as pilot:
            await new_task(pilot, goal)
            # Told while it runs, and at the end.
            await until_shown(pilot, "● running", "tokens, $0.0")
            await until_shown(pilot, "✓ completed", "360 tokens, $0.0014", "openai:gpt-4o")
            rows = log_rows(pilot)
            assert "I write it." in rows and "hello" in rows and "hello.py says hello." in rows
            assert any(row.startswith("write_file") for row in rows)
            await pilot.press("f")
            await until_shown(pilot, "hello.py", "15 B", "print('hello')")


def told(**facts: Any) -> str:
    task: Task = {"id": 1, "goal": "", "status": "RUNNING", **facts}  # type: ignore[typeddict-item]
    return status.usage_text(task)


def test_what_was_taken_in_words() -> None:
    usage = {"requests": 3, "input_tokens": 1200, "output_tokens": 34, "cost_usd": 0.0123}
    assert told() == "" == told(usage=None, limits=None)
    assert told(usage=usage) == "1,234 tokens, $0.0123"
    limits = {"tokens": 10_000, "cost_usd": 1.5, "requests": 40, "seconds": 90.0}
    assert told(usage=usage | {"estimated": True, "cost_usd": None}, limits=limits) == (
        "≈1,234 of 10,000 tokens, $0.0000 of $1.5, 3 of 40 requests, at most 90s"
    )
    assert told(limits={"requests": 4}) == "0 of 4 requests"
    assert told(limits={"network": True}) == ""
