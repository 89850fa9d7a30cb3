"""Tests of the composer in the dashboard."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.exceptions import ConnectionFailed
from beray.schema import MAX_GOAL_CHARS
from beray.testing import RunningServer, access_token
from tests.tui.composer_host import ACCOUNT, Host, area, composer, opened
from tests.tui.dashboard_pilot import screen, until, until_shown
from tests.tui.hostile_text import HOSTILE, assert_clean
from tui.app import BeRayApp
from tui.composer.attachment_list import AttachmentList
from tui.state.task_draft import TaskDraft
from tui.state.user_state import STATE_DIRECTORY, UserState

if os.name == "posix":
    from tests.tui.dashboard_terminal import DashboardTerminal
    from tests.tui.hostile_sequences import EVIL, FOREIGN, own

URL = "https://docs.example/mcp"
TOOLS = [{"docs": {"url": URL}}]


@asynccontextmanager
async def dashboard(server: RunningServer, client: BeRayClient) -> AsyncIterator[Pilot[None]]:
    token = access_token(client)
    target = Target(server.url, "test", token, "ada@example.test")
    async with BeRayApp(target, Profiles()).run_test(size=(120, 40), notifications=True) as pilot:
        await until_shown(pilot, "● online")
        yield pilot


def memory_of(pilot: Pilot[None]) -> UserState:
    memory: UserState = pilot.app.user_state  # type: ignore[attr-defined]
    return memory


async def paste(pilot: Pilot[None], text: str) -> None:
    pilot.app.post_message(events.Paste(text))
    await pilot.pause()


async def attach(pilot: Pilot[None], path: Path) -> None:
    await pilot.press("ctrl+o")
    await until(pilot, lambda: isinstance(pilot.app.focused, Input))
    box = pilot.app.screen.query_one(Input)
    box.value = str(path)
    choices = pilot.app.screen.query_one(OptionList)
    await until(
        pilot,
        lambda: (
            choices.option_count == 1 and path.name in str(choices.get_option_at_index(0).prompt)
        ),
    )
    await pilot.press("enter")
    await opened(pilot)


def events_of(client: BeRayClient, task_id: int) -> str:
    return "".join(update.get("text", "") for update in client.stream_task_updates(task_id))


async def test_attachments_are_uploaded_before_a_multi_line_command_runs(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "deep.txt").write_text("deep content")
    (tmp_path / "notes.md").write_text("some notes")
    async with dashboard(beray_server, beray_client) as pilot:
        await pilot.press("n")
        await opened(pilot)
        await pilot.press(*"!ls -R", "ctrl+j")
        await paste(pilot, "cat notes.md\r\ncat data/sub/deep.txt")
        await attach(pilot, folder)
        await attach(pilot, tmp_path / "notes.md")
        await until_shown(pilot, "Shell command", "1 file, 12 B", "10 B")
        await pilot.press("enter")
        await until(pilot, beray_client.list_tasks)
        await until(pilot, lambda: not isinstance(pilot.app.focused, Input | None))
        [task] = beray_client.list_tasks()
        assert task["goal"] == "!ls -R\ncat notes.md\ncat data/sub/deep.txt"
        said = events_of(beray_client, task["id"])
        assert "deep.txt" in said and "some notes" in said and "deep content" in said
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        # A second one, without attachments, by what the first has left.
        await pilot.press("n")
        goal = await opened(pilot)
        assert goal.text == "" and composer(pilot).draft.is_empty
        await pilot.press("up")
        await until(pilot, lambda: goal.text == task["goal"])
        await pilot.press("down", "down", "down")  # through its lines, and on
        await until(pilot, lambda: goal.text == "")
        await pilot.press(*"do it")
        await until(pilot, lambda: goal.text == "do it")
        await pilot.press("enter")
        await until(pilot, lambda: len(beray_client.list_tasks()) == 2)
        await until(
            pilot, lambda: memory_of(pilot).draft(f"{beray_server.url} ada@example.test") is None
        )
    later = UserState(Path(os.environ["BERAY_HOME"], STATE_DIRECTORY))
    assert [draft.goal for draft in later.history()] == [task["goal"], "do it"]
    later.close()


async def test_a_failed_upload_deletes_the_task_and_keeps_the_draft(
    beray_server: RunningServer, beray_client: BeRayClient, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "notes.md").write_text("some notes")
    async with dashboard(beray_server, beray_client) as pilot:
        client: BeRayClient = pilot.app.session.server.client  # type: ignore[attr-defined]

        def broken(*values: Any, **options: Any) -> Any:
            assert client.list_tasks()[0]["held"]
            raise ConnectionFailed("the line is dead")

        monkeypatch.setattr(client, "upload_path", broken)
        await pilot.press("n")
        await opened(pilot)
        await pilot.press(*"read")
        await attach(pilot, tmp_path / "notes.md")
        await pilot.press("enter")
        await until_shown(pilot, "the line is dead", "notes.md")
        assert (await opened(pilot)).text == "read"
        assert beray_client.list_tasks() == []
        (tmp_path / "notes.md").unlink()
        await pilot.press("escape", "n")
        await until_shown(pilot, "no such file or folder")
        await pilot.press("enter")
        await until_shown(pilot, "notes.md: no such file or folder")
        await pilot.press("shift+tab", "tab", "tab")
        await until(pilot, lambda: isinstance(pilot.app.focused, AttachmentList))
        await pilot.press("delete")
        await opened(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: [task["goal"] for task in beray_client.list_tasks()] == ["read"])


async def test_a_draft_survives_an_app_that_was_not_closed(tmp_path: Path) -> None:
    first = Host(UserState(tmp_path / "d"), TaskDraft("", TOOLS, (tmp_path,)))
    async with first.run_test() as pilot:
        await opened(pilot)
        await pilot.press(*"half a", "shift+enter", *"goal")
        typed = time.monotonic()
        second = UserState(tmp_path / "d")
        while second.draft(ACCOUNT) != TaskDraft("half a\ngoal", TOOLS, (tmp_path,)):
            assert time.monotonic() - typed < 15
            second.close()
            await pilot.pause(0.02)
            second = UserState(tmp_path / "d")
        async with Host(second).run_test() as later:
            assert (await opened(later)).text == "half a\ngoal"
            await until_shown(later, tmp_path.name, "docs", URL)
            # Cleared: the text first, then what goes with it, and no draft is left.
            await later.press("ctrl+l")
            await until(later, lambda: composer(later).draft == TaskDraft("", TOOLS, (tmp_path,)))
            await later.press("ctrl+z")
            await until(later, lambda: area(later).text == "half a\ngoal")
            await later.press("ctrl+l", "ctrl+l", "escape")
            await until(later, lambda: later.app.results == [None])  # type: ignore[attr-defined]
            assert second.draft(ACCOUNT) is None


async def test_keys_of_the_goal_and_messages_about_invalid_goals(tmp_path: Path) -> None:
    app = Host(UserState(tmp_path / "d"))
    async with app.run_test(size=(80, 24)) as pilot:
        goal = await opened(pilot)
        await pilot.press("enter")
        await until_shown(pilot, "The goal is empty")
        await pilot.press("exclamation_mark")
        await until_shown(pilot, "Shell command")
        await until(pilot, lambda: "The goal is empty" not in screen(pilot))
        await pilot.press("enter")
        await until_shown(pilot, "The goal is empty")
        await pilot.press("backspace", "a", "alt+enter", "b", "shift+enter", "c", "ctrl+j", "d")
        assert goal.text == "a\nb\nc\nd"
        await paste(pilot, "e\x1b[2J\u202ef\r\ng\rh")
        assert goal.text == "a\nb\nc\nde␛[2J�f\ng\nh"
        await until_shown(pilot, "Control characters were replaced")
        await paste(pilot, "x" * MAX_GOAL_CHARS)
        await until_shown(pilot, "the maximum is 200,000")
        assert len(goal.text) < 100
        goal.replace_text("y" * (MAX_GOAL_CHARS + 1))  # as an editor may
        await pilot.press("enter")
        await until_shown(pilot, "200,001 of 200,000", "200,001 characters")
        assert app.results == []
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: app.results)
        assert app.results == [TaskDraft("y" * MAX_GOAL_CHARS)]


async def test_the_history_is_navigated_by_prefix_and_searched_by_words(
    tmp_path: Path,
) -> None:
    memory = UserState(tmp_path / "d")
    for draft in (TaskDraft("!make\nall", TOOLS), TaskDraft("write the tests"), TaskDraft("!ls")):
        memory.add_to_history(draft)
    app = Host(memory)
    async with app.run_test() as pilot:
        goal = await opened(pilot)
        await pilot.press("exclamation_mark", "up")
        await until(pilot, lambda: goal.text == "!ls")
        await pilot.press("up")
        await until(pilot, lambda: composer(pilot).draft == TaskDraft("!make\nall", TOOLS))
        assert memory.draft(ACCOUNT) == TaskDraft("!")
        await pilot.press("up", "down", "down", "down")
        await until(pilot, lambda: composer(pilot).draft == TaskDraft("!"))
        await pilot.press("ctrl+r")
        await until_shown(pilot, "!make ↵ all", "with docs", "write the tests")
        await pilot.press(*"test the")
        await until(pilot, lambda: "!make" not in screen(pilot).partition("History")[2])
        await pilot.press(*"no")
        await until_shown(pilot, "No goal contains these words")
        await pilot.press("enter", "backspace", "backspace", "enter")
        await until(pilot, lambda: goal.text == "write the tests")
        assert memory.draft(ACCOUNT) == TaskDraft("write the tests")


async def test_paths_are_completed_across_directories(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = own_home / "work"
    (here / "reports" / "old").mkdir(parents=True)
    for name in ("report.md", "reports/q1.csv", "reports/old/q0.csv", ".secret"):
        (here / name).write_text("x")
    monkeypatch.chdir(here)
    app = Host(UserState(tmp_path / "d"))
    async with app.run_test() as pilot:
        await opened(pilot)
        await pilot.press("ctrl+o")
        await until_shown(pilot, "the whole folder", "reports/", "report.md")
        box = pilot.app.screen.query_one(Input)
        assert box.value == os.path.join("~", "work", "") and ".secret" not in screen(pilot)
        await pilot.press("r", "tab")
        await until(pilot, lambda: box.value.endswith("/report"))
        await until_shown(pilot, "report.md")
        await pilot.press("tab")  # the highlighted one: folders come first
        await until_shown(pilot, "q1.csv", "old/")
        assert box.value == os.path.join("~", "work", "reports", "")
        await pilot.press(*"none", "enter")
        await until_shown(pilot, "No entry starts with none")
        box.value = "~/work/."
        await until_shown(pilot, ".secret")
        box.value = "/no/such/folder/"
        await until_shown(pilot, "/no/such/folder: No such file")
        box.value = "~/work/../work/reports/"
        await until_shown(pilot, "the whole folder", "old/")
        await pilot.press("enter")
        await opened(pilot)
        await until_shown(pilot, "reports/", "2 files")
        assert composer(pilot).draft.attachments == (here / "reports",)
        await attach(pilot, here / "report.md")
        (here / "old" / "x").parent.mkdir()
        (here / "old" / "report.md").write_text("")
        await attach(pilot, here / "old" / "report.md")
        await until_shown(pilot, "An attachment named report.md exists already")
        assert len(composer(pilot).draft.attachments) == 2


async def test_servers_are_added_shown_and_removed(tmp_path: Path) -> None:
    app = Host(UserState(tmp_path / "d"))
    async with app.run_test() as pilot:
        await opened(pilot)
        await pilot.press("ctrl+t")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press(*"http://x", "enter")
        await until_shown(pilot, "a name before the URL")
        pilot.app.screen.query_one(Input).value = ""
        await paste(pilot, f"docs {URL}?key=secret")
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen.query_one(Input).value == "")
        await paste(pilot, '{\n  "more": {\n    "url": "https://m.example"\n  }\n}')
        await pilot.press("enter")
        await until_shown(pilot, "docs", "more", "https://m.example")
        assert "secret" not in screen(pilot)
        await pilot.press("tab", "delete")
        await until(pilot, lambda: URL not in screen(pilot))
        await pilot.press("escape")
        await opened(pilot)
        await until_shown(pilot, "MCP     more")
        assert composer(pilot).draft.tools == [{"more": {"url": "https://m.example"}}]


async def test_an_unavailable_editor_is_reported(tmp_path: Path) -> None:
    app = Host(UserState(tmp_path / "d"), TaskDraft("keep this"))
    async with app.run_test(notifications=True) as pilot:
        goal = await opened(pilot)
        await pilot.press("ctrl+e")
        await until_shown(pilot, "cannot be started in this terminal")
        assert goal.text == "keep this"


async def test_an_initial_draft_moves_the_saved_draft_to_the_history(
    tmp_path: Path,
) -> None:
    memory = UserState(tmp_path / "d")
    memory.keep_draft(ACCOUNT, TaskDraft("a draft"))
    lines = "line\n" * 50
    app = Host(memory, TaskDraft(f"{lines}run this again", TOOLS))
    async with app.run_test() as pilot:
        goal = await opened(pilot)
        assert goal.cursor_at_end_of_text
        await until_shown(pilot, "run this again")
        await pilot.press("escape")
        await until(pilot, lambda: app.results == [None])
        assert memory.draft(ACCOUNT) == TaskDraft("a draft")
        app.compose_task(TaskDraft("run this again", TOOLS))
        await opened(pilot)
        await pilot.press("x")
        await until(pilot, lambda: memory.draft(ACCOUNT) == TaskDraft("run this againx", TOOLS))
        assert [draft.goal for draft in memory.history()] == ["a draft"]


@pytest.mark.skipif(os.name != "posix", reason="such names are POSIX")
async def test_hostile_text_from_stored_files_and_file_names_is_sanitized(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    name = "A\x1b[2J\x1b]0;x\x07[b]B[@click=app.quit]C\u202eD\nE"
    (folder / name).write_text("x")
    (folder / f"dir{name}").mkdir()
    (folder / os.fsdecode(b"\xff\x9b31m")).write_text("x")
    tools = [{HOSTILE: {"url": f"https://e.x/{HOSTILE}"}}]
    memory = UserState(tmp_path / "d")
    memory.add_to_history(TaskDraft(HOSTILE, tools))
    memory.keep_draft(ACCOUNT, TaskDraft(HOSTILE, tools, (folder / name, folder / f"dir{name}")))
    app = Host(memory)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        goal = await opened(pilot)
        await until_shown(pilot, "[@click=app.quit]", "folder", "file")
        assert_clean(screen(pilot))
        assert_clean(goal.text)
        await until_shown(pilot, "Control characters were replaced")
        await pilot.press("ctrl+l", "up")
        await until_shown(pilot, "[@click=app.quit]")
        await pilot.press("ctrl+r")
        await until_shown(pilot, "History")
        assert_clean(screen(pilot))
        await pilot.press("escape", "ctrl+t")
        await until_shown(pilot, "MCP servers", "del on a line")
        assert_clean(screen(pilot))
        await pilot.press("escape", "ctrl+o")
        await until_shown(pilot, "whole folder", "dirA")
        assert_clean(screen(pilot))
        box = pilot.app.screen.query_one(Input)
        await pilot.press("d", "tab")
        await until(pilot, lambda: box.value.endswith("/") and "dirA" in box.value)
        assert_clean(screen(pilot))
        await paste(pilot, name)
        assert_clean(screen(pilot))
        await until_shown(pilot, "No entry starts with")
        box.value = f"{folder}/dir"
        await until_shown(pilot, "dirA")
        await pilot.press("tab")
        await until_shown(pilot, "whole folder")
        await pilot.press("enter")
        await until_shown(pilot, "An attachment named")
        assert_clean(screen(pilot))
        assert app.is_running


EDITOR = """
import pathlib, sys
file = pathlib.Path(sys.argv[-1])
if sys.argv[1] == "--fail":
    sys.exit(4)
print("in the editor", flush=True)
assert sys.stdin.readline() == "go\\n"
file.write_text(file.read_text() + "\\nand by the editor\\n")
"""


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
def test_an_editor_uses_the_terminal_and_a_killed_dashboard_keeps_the_text(
    beray_client: BeRayClient, tmp_path: Path
) -> None:
    (tmp_path / "edit.py").write_text(EDITOR)
    (tmp_path / f"file{EVIL}").touch()
    memory = UserState(Path(os.environ["BERAY_HOME"], STATE_DIRECTORY))
    memory.add_to_history(TaskDraft(f"goal{EVIL}", [{f"server{EVIL}": {"url": URL}}]))
    memory.close()
    token = access_token(beray_client)
    environ = {
        "BERAY_URL": beray_client.base_url,
        "BERAY_TOKEN": token,
        "VISUAL": f"'{sys.executable}' {tmp_path}/edit.py --wait",
        "TMPDIR": str(tmp_path),
    }
    with DashboardTerminal(100, 30, **environ) as terminal:
        terminal.until_shown("● online", "No tasks yet")
        terminal.type("n")
        terminal.until_shown("Describe what should be done")
        terminal.type("typed here")
        terminal.until_shown("typed here")
        terminal.type("\x05")
        terminal.until_shown("in the editor")
        terminal.type("go\n")
        terminal.until_shown("typed here", "and by the editor", "New task")
        assert list(tmp_path.glob("beray-*")) == []
        terminal.type(" and after")
        terminal.until_shown("and by the editor and after")
        time.sleep(0.35)  # what a crash may cost
        terminal.process.kill()
    environ["VISUAL"] = environ["VISUAL"].replace("--wait", "--fail")
    with DashboardTerminal(100, 30, **environ) as terminal:
        terminal.until_shown("● online", "No tasks yet")
        terminal.type("n")
        terminal.until_shown("typed here", "and by the editor and after")
        terminal.type("\x05")
        terminal.until_shown("exited with status 4", "and by the editor and after")
        terminal.type("\x12")
        terminal.until_shown("goal", "server")
        terminal.type("\r")
        terminal.until_shown("server", "https:", "replaced or removed")
        terminal.type("\x0f")
        terminal.until_shown("the whole folder")
        terminal.type("\x15")
        terminal.until_gone(f"{Path.cwd()}{os.sep}")
        terminal.type(f"{tmp_path}/fi")
        terminal.until_shown("file", "0 B")
        terminal.type("\r")
        terminal.until_gone("Attach a file")
        terminal.until_shown("file", "0 B")
        terminal.type("\x0c")
        terminal.until_shown("Describe what should be done")
        terminal.type("\x1b")
        terminal.until_gone("New task")
        assert terminal.leave() == 0
    assert terminal.raw.count(b"EVIL") > 10
    assert FOREIGN.findall(own(terminal.raw)) == []
