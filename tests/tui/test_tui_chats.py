"""Tests of chats in the dashboard with a real server. Shell commands need no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import TextArea

from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import (
    dashboard,
    fill,
    log_rows,
    main,
    screen,
    type_ahead,
    until,
    until_shown,
)
from tui.composer.goal import GoalArea
from tui.composer.message_box import MessageBox
from tui.widgets.file_browser import FileBrowser
from tui.widgets.task_list import TaskList

GO_ON = "!echo begun; while [ ! -e go ]; do sleep 0.02; done; echo over"


def box(pilot: Pilot[None]) -> MessageBox:
    return main(pilot).query_one(MessageBox)


async def new_chat(pilot: Pilot[None], name: str = "") -> GoalArea:
    """Open a chat and return its focused text area."""
    await pilot.press("c")
    await until_shown(pilot, "A conversation with the agent")
    if name:
        await fill(pilot, "#name", name)
    else:
        await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.focused, GoalArea))
    found = pilot.app.focused
    assert isinstance(found, GoalArea)
    return found


async def say(pilot: Pilot[None], text: str) -> None:
    area = box(pilot).area
    area.load_text(text)
    area.focus()
    await pilot.press("enter")


def idle(pilot: Pilot[None]) -> bool:
    return box(pilot).border_title == "Message"


def chats(client: BeRayClient) -> list[object]:
    return [task.get("chat") for task in client.list_tasks()]


async def test_a_chat_is_opened_and_answers_in_the_log(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await until_shown(pilot, "No tasks yet")
        area = await new_chat(pilot)
        await until_shown(pilot, "chat 1", "◇ idle", "Write a message")
        assert chats(beray_client) == ["chat 1"]
        type_ahead(pilot, "!echo")
        await until(pilot, lambda: area.text == "!echo")
        await pilot.press("space", *"one", "ctrl+j", *"echo", "space", *"two", "enter")
        await until(pilot, lambda: "two" in log_rows(pilot) and idle(pilot))
        rows = log_rows(pilot)
        assert rows[rows.index("!echo one") :][:2] == ["!echo one", "echo two"]
        assert area.text == "" and pilot.app.focused is area
        await until_shown(pilot, "◇ idle")
        (task,) = beray_client.list_tasks()
        app: Any = pilot.app
        account = app.session.server.account
        assert app.user_state.draft(f"{account} #{task['id']}") is None
        await pilot.press("up")  # shows earlier messages
        await until(pilot, lambda: area.text == "!echo one\necho two")
        await pilot.press("down", "down")
        await until(pilot, lambda: area.text == "")
        await pilot.press("c")  # is a letter here, and no key
        assert area.text == "c"


async def test_each_chat_has_its_own_name_and_draft(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        await pilot.press("c")
        await until_shown(pilot, "A conversation with the agent")
        await fill(pilot, "#name", "a/b")
        await until(pilot, lambda: pilot.app.screen.query(".refused"))
        assert chats(beray_client) == []
        await pilot.press("escape")
        (await new_chat(pilot)).load_text("for the first")
        await pilot.press("escape")
        area = await new_chat(pilot)
        assert area.text == "" and "chat 2" in chats(beray_client)
        area.load_text("for the second")
        await pilot.press("escape")
        area = await new_chat(pilot, "chat 1")  # which is there already
        await until(pilot, lambda: area.text == "for the first")
        assert len(chats(beray_client)) == 2
        tasks = main(pilot).query_one(TaskList)
        await pilot.press("escape", "shift+tab")
        tasks.focus()
        await pilot.press("up")
        await until(pilot, lambda: area.text == "for the second")
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.focused is area)


async def test_messages_are_rejected_during_an_answer_which_s_stops(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    async with dashboard(beray_server, beray_client) as pilot:
        area = await new_chat(pilot)
        await say(pilot, "!echo begun; sleep 60")
        await until(pilot, lambda: "begun" in log_rows(pilot))
        await until_shown(pilot, "The agent is answering", "● answering")
        await say(pilot, "!echo more")
        await until_shown(pilot, "Wait for the end of the answer")
        assert area.text == "!echo more"
        await pilot.press("escape", "s")
        await until_shown(pilot, "◇ idle", "answer ended")
        await until(pilot, lambda: any("STOPPED" in row for row in log_rows(pilot)))
        assert not main(pilot).task_state.stopping
        await pilot.press("s")
        await until_shown(pilot, "The agent is not answering")
        await pilot.press("m", "enter")
        await until(pilot, lambda: "more" in log_rows(pilot))


async def test_attachments_of_a_message_link_to_their_preview(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("from here\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "q1.csv").write_text("1,2\n")
    async with dashboard(beray_server, beray_client) as pilot:
        await new_chat(pilot)
        for name in ("notes.txt", "data"):
            await pilot.press("ctrl+o")
            await until_shown(pilot, "Attach a file or a folder")
            await pilot.press(*name.replace(".txt", ""))
            await until_shown(pilot, name)
            await pilot.press("tab", "enter")
            await until(pilot, lambda: pilot.app.screen is main(pilot))
            await until_shown(pilot, name)
        await say(pilot, "!cat notes.txt data/q1.csv")
        await until(pilot, lambda: "from here" in log_rows(pilot) and idle(pilot))
        rows = log_rows(pilot)
        at = rows.index("!cat notes.txt data/q1.csv")
        assert rows[at + 1 : at + 3] == ["notes.txt", "data/q1.csv"]
        assert not box(pilot).editor.attachments
        (task,) = beray_client.list_tasks()
        said = [
            e for e in beray_client.get_task(task["id"])["events"] if e["type"] == "USER_MESSAGE"
        ]
        assert said[0]["attachments"] == ["notes.txt", "data/q1.csv"]  # type: ignore[typeddict-item]
        await pilot.press("escape", "k", "k", "k", "enter")
        await until_shown(pilot, "1  from here")
        assert not box(pilot).display
        await pilot.press("m")
        await until(pilot, lambda: isinstance(pilot.app.focused, TextArea))


async def test_a_missing_attachment_is_rejected_before_sending(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    async with dashboard(beray_server, beray_client) as pilot:
        area = await new_chat(pilot)
        box(pilot).editor.attachments = (Path("gone.md"),)  # the message fits on one row
        await say(pilot, "look at it")
        await until_shown(pilot, "gone.md: no such file or folder")
        assert area.text == "look at it"
        assert "look at it" not in log_rows(pilot)


async def test_chats_and_tasks_are_in_one_list(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    task = beray_client.create_task("!echo of the task")
    async with dashboard(beray_server, beray_client, (80, 24)) as pilot:
        await until(pilot, lambda: "of the task" in log_rows(pilot))
        await new_chat(pilot)
        await say(pilot, "!echo of the chat; echo x > made.txt")
        await until(pilot, lambda: "of the chat" in log_rows(pilot) and idle(pilot))
        await until(pilot, lambda: "m Message" in screen(pilot) or "Attach" in screen(pilot))
        await pilot.press("escape")
        tasks = main(pilot).query_one(TaskList)
        tasks.focus()
        tasks.select(task["id"])
        await until(pilot, lambda: "of the task" in log_rows(pilot))
        assert not box(pilot).display
        await until(pilot, lambda: "m Message" not in screen(pilot))
        await pilot.press("m")  # is no key of a task
        assert pilot.app.focused is tasks


async def test_a_chat_hides_turn_statuses_and_shows_sent_files(
    tmp_path: Path,
) -> None:
    client = stub.chat_client()
    said = [*stub.SAID[:-2], stub.event("AGENT_EVENT_SEND_FILE", path="/workspace/summary.md")]
    client.events = {13: [*said, stub.SAID[-1]]}
    async with stub.stub_app(client, tmp_path).run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "● online")
        tasks = main(pilot).query_one(TaskList)
        tasks.select(13)
        await until_shown(pilot, "chat holidays", "summary.md")
        assert not {"needs input", "running"} & set(log_rows(pilot))
        await pilot.press("e", "k", "enter")
        await until_shown(pilot, "# Three quarters")
        await pilot.press("e", "k", "k", "enter")
        files = main(pilot).query_one(FileBrowser)
        await until(pilot, lambda: files.requested_path == "timetable.csv")
