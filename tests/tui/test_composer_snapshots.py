"""Snapshot tests of the composer at two terminal sizes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from tests.tui.composer_host import Host, opened
from tests.tui.dashboard_pilot import until_shown, wait_settled
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState

Prepare = Callable[[Pilot[None]], Awaitable[object]]
GOAL = "!python summarise.py data/*.csv > summary.md\nwc -w summary.md\n把摘要翻译成中文"


@pytest.fixture(params=[(80, 24), (120, 40)], ids=["80x24", "120x40"])
def composer_looks_right(request: pytest.FixtureRequest, snap_compare: Any, tmp_path: Path) -> Any:
    def compare(prepare: Prepare, initial: TaskDraft | None = None) -> bool:
        async def run_before(pilot: Pilot[None]) -> None:
            await opened(pilot)
            await prepare(pilot)
            for screen in pilot.app.screen_stack:
                for area in screen.query(TextArea):
                    area.cursor_blink = False
                for box in screen.query(Input):
                    box.cursor_blink = False
            await wait_settled(pilot)

        memory = UserState(tmp_path / "dashboard")
        memory.add_to_history(TaskDraft("Write the tests of the parser", [{"docs": {"url": "x"}}]))
        memory.add_to_history(TaskDraft("!make all\nmake install"))
        app = Host(memory, initial)
        same: bool = snap_compare(app, terminal_size=request.param, run_before=run_before)
        return same

    return compare


@pytest.fixture
def filled(own_home: Path) -> TaskDraft:
    reports = own_home / "reports"
    (reports / "data" / "old").mkdir(parents=True)
    for number in range(1, 4):
        (reports / "data" / f"q{number}.csv").write_text("1,2\n" * number * 500)
    (reports / "summarise.py").write_text("pass\n" * 100)
    tools = [{"uni-api Docs": {"url": "https://docs.example.org/mcp?key=secret"}}]
    return TaskDraft(GOAL, tools, (reports / "summarise.py", reports / "data", reports / "gone.md"))


def test_empty_composer(composer_looks_right: Any) -> None:
    assert composer_looks_right(lambda pilot: until_shown(pilot, "Describe what should be done"))


def test_command_with_attachments_and_servers(composer_looks_right: Any, filled: TaskDraft) -> None:
    assert composer_looks_right(
        lambda pilot: until_shown(pilot, "500 B", "3 files", "no such file or folder"), filled
    )


def test_empty_goal_is_rejected(composer_looks_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await until_shown(pilot, "The goal is empty")

    assert composer_looks_right(prepare)


def test_history(composer_looks_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+r")
        await until_shown(pilot, "!make all", "with docs")

    assert composer_looks_right(prepare)


def test_path_dialog(composer_looks_right: Any, filled: TaskDraft) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+o")
        await until_shown(pilot, "the whole folder", "summarise.py")

    assert composer_looks_right(prepare, filled)


def test_invalid_server(composer_looks_right: Any, filled: TaskDraft) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await pilot.press("ctrl+t")
        await until_shown(pilot, "uni-api Docs", "del on a line")
        await pilot.press(*"search example.org", "enter")
        await until_shown(pilot, "must have the form")

    assert composer_looks_right(prepare, filled)
