"""How every screen looks, at both sizes, from fixed data."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, TextArea
from textual.widgets.input import Selection

from beray.config import Target
from beray.exceptions import APIError, AuthenticationError, ConnectionFailed
from beray.streaming.streams import StreamState
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import fill, until, until_shown, wait_settled
from tui.app import BeRayApp
from tui.io import task_feed_reader
from tui.screens.register import RegisterScreen
from tui.screens.sign_in import SignInScreen
from tui.widgets.file_browser import FileBrowser
from tui.widgets.task_list import TaskList

Prepare = Callable[[Pilot[None]], Awaitable[None]]
OFFLINE = ConnectionFailed.for_request(
    "GET", "/tasks/", "could not reach the server (Connection refused)"
)


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is asked again after the same time, however often it has failed before."""
    monkeypatch.setattr(task_feed_reader, "MAX_WAIT_SECONDS", task_feed_reader.POLL_SECONDS)


@pytest.fixture(params=[(80, 24), (120, 40)], ids=["80x24", "120x40"])
def looks_right(request: pytest.FixtureRequest, snap_compare: Any, tmp_path: Path) -> Any:
    """Compare the screen that ``prepare`` brings about with its picture."""

    def compare(client: stub.StubClient, prepare: Prepare, *, token: str | None = "token") -> bool:
        async def run_before(pilot: Pilot[None]) -> None:
            await prepare(pilot)
            for area in pilot.app.screen.query(TextArea):
                area.cursor_blink = False
            for box in pilot.app.screen.query(Input):
                box.cursor_blink = False
                box.selection = Selection.cursor(len(box.value))
            await wait_settled(pilot)

        app: BeRayApp = stub.stub_app(client, tmp_path, token=token)
        same: bool = snap_compare(app, terminal_size=request.param, run_before=run_before)
        return same

    return compare


def refusal(status: int, detail: object) -> APIError:
    kind = AuthenticationError if status == 401 else APIError
    return kind("refused", status_code=status, error_detail=detail)


async def all_shown(pilot: Pilot[None]) -> None:
    await until_shown(pilot, "TOOL_FAILED", "● live", "● online")


def test_tasks_and_the_events_of_the_selected_one(looks_right: Any) -> None:
    assert looks_right(stub.full_client(), all_shown)


def test_an_account_without_tasks_says_how_to_begin(looks_right: Any) -> None:
    assert looks_right(stub.StubClient(), lambda pilot: until_shown(pilot, "No tasks yet"))


def test_tasks_that_are_still_being_read(looks_right: Any) -> None:
    client = stub.StubClient()
    client.blocked = threading.Event()
    try:
        assert looks_right(client, lambda pilot: until_shown(pilot, "Loading tasks"))
    finally:
        client.blocked.set()


def test_a_server_that_cannot_be_reached(looks_right: Any) -> None:
    client = stub.StubClient()
    client.tasks = OFFLINE
    assert looks_right(client, lambda pilot: until_shown(pilot, "○ offline", "refused"))


def test_a_server_that_went_away_keeps_what_was_read(looks_right: Any) -> None:
    client = stub.full_client()
    client.stream_state = StreamState.RECONNECTING

    async def prepare(pilot: Pilot[None]) -> None:
        await until_shown(pilot, "TOOL_FAILED")
        client.tasks = OFFLINE
        await until_shown(pilot, "○ offline", "reconnecting")

    assert looks_right(client, prepare)


def test_files_and_a_preview(looks_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await all_shown(pilot)
        await pilot.press("f")
        await until_shown(pilot, "summary.md", "q3.csv")
        await pilot.press("down", "down")
        await until_shown(pilot, "# Three quarters")

    assert looks_right(stub.full_client(), prepare)


async def changes_shown(pilot: Pilot[None]) -> None:
    await all_shown(pilot)
    await pilot.press("v")
    await until_shown(pilot, "all changes", "change 1 of 2")
    await pilot.press("]")
    await until_shown(pilot, "change 2 of 2")


def test_changes_of_a_task(looks_right: Any) -> None:
    assert looks_right(stub.full_client(), changes_shown)


def test_changes_of_a_task_side_by_side(snap_compare: Any, tmp_path: Path) -> None:
    async def run_before(pilot: Pilot[None]) -> None:
        await changes_shown(pilot)
        await wait_settled(pilot)

    app = stub.stub_app(stub.full_client(), tmp_path)
    assert snap_compare(app, terminal_size=(160, 30), run_before=run_before)


def test_files_beside_the_log(looks_right: Any) -> None:
    client = stub.full_client()
    payload = {"kind": "checkpoint", "checkpoint": "c2", "added": 2, "lines_added": 7}
    changed = stub.event("AGENT_EVENT_CUSTOM_UPDATE", source="history", payload=payload)
    client.events = {12: [*stub.EVENTS[:8], changed, *stub.EVENTS[8:]]}

    async def prepare(pilot: Pilot[None]) -> None:
        await all_shown(pilot)
        await pilot.press("t", "k")
        await until_shown(pilot, "Files at c3", "q3.csv")

    assert looks_right(client, prepare)


@pytest.mark.parametrize(
    ("files", "content", "shown"),
    [
        ([], b"", "No files yet"),
        (ConnectionFailed("the connection broke"), b"", "the connection broke"),
        (stub.FILES[-1:], b"\x7fELF\x00\x01", "A binary file"),
    ],
    ids=["none", "refused", "binary"],
)
def test_files_that_cannot_be_shown(
    looks_right: Any, files: Any, content: bytes, shown: str
) -> None:
    client = stub.full_client()
    client.files, client.content = files, content

    async def prepare(pilot: Pilot[None]) -> None:
        await all_shown(pilot)
        await pilot.press("f")
        await until(pilot, lambda: pilot.app.screen.query_one(FileBrowser).display)
        await until_shown(pilot, shown)

    assert looks_right(client, prepare)


async def at_the_chat(pilot: Pilot[None]) -> None:
    """The chat is selected, which is not the first to need somebody."""
    await until_shown(pilot, "● online")
    await pilot.press("end")
    tasks = pilot.app.screen.query_one(TaskList)
    while tasks.highlighted != stub.CHAT["id"]:
        await pilot.press("up")
    await until_shown(pilot, "chat holidays", "◇ idle", "● live", "Write a message")


def test_a_chat_with_an_answer(looks_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await at_the_chat(pilot)
        await until_shown(pilot, "timetable.csv", "route.md")
        await pilot.press("m", *"Thanks", "ctrl+j", *"And back?")

    assert looks_right(stub.chat_client(), prepare)


def test_an_empty_chat_says_how_to_begin(looks_right: Any) -> None:
    assert looks_right(stub.chat_client(empty=True), at_the_chat)


@pytest.mark.parametrize(
    ("key", "shown"),
    [("n", "New task"), ("x", "Delete this task?"), ("question_mark", "esc closes")],
    ids=["new", "delete", "help"],
)
def test_dialogs(looks_right: Any, key: str, shown: str) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await all_shown(pilot)
        await pilot.press(key)
        await until_shown(pilot, shown)
        await until(pilot, lambda: key == "question_mark" or pilot.app.screen.focused)

    assert looks_right(stub.full_client(), prepare)


def test_saving_where_something_is_already(looks_right: Any) -> None:
    client = stub.full_client()
    client.message = FileExistsError("it exists")

    async def prepare(pilot: Pilot[None]) -> None:
        await all_shown(pilot)
        await pilot.press("z")
        await until_shown(pilot, "All files of task #12")
        await fill(pilot, "#target", "~/task-12.zip")
        await until_shown(pilot, "The file exists")

    assert looks_right(client, prepare)


def test_sign_in(looks_right: Any) -> None:
    assert looks_right(stub.StubClient(), lambda pilot: until_shown(pilot, "Password"), token=None)


def test_sign_in_that_is_refused_after_a_session_ended(looks_right: Any) -> None:
    client = stub.StubClient()
    client.tasks = refusal(401, "the token has expired")
    client.session = refusal(401, "wrong e-mail or password")

    async def prepare(pilot: Pilot[None]) -> None:
        await until(pilot, lambda: isinstance(pilot.app.screen, SignInScreen))
        await until_shown(pilot, "the token has expired")
        await fill(pilot, "#email", "ada@example.org")
        await fill(pilot, "#password", "secret phrase")
        await until_shown(pilot, "wrong e-mail or password")

    assert looks_right(client, prepare)


def test_registering_with_a_code_that_is_refused(looks_right: Any) -> None:
    client = stub.StubClient()
    client.message = {"message": "A code has been sent."}
    client.session = refusal(422, "the code is wrong or too old")

    async def prepare(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, BeRayApp)
        await until_shown(pilot, "Create an account")
        server = app.session.server
        at_rest: Any = RegisterScreen(
            server.client, server.target, app.session.profiles, clock=lambda: 0.0
        )
        app.push_screen(at_rest)
        await until_shown(pilot, "Code from the e-mail")
        await fill(pilot, "#email", "ada@example.org")
        await until_shown(pilot, "A code has been sent.", "Send again in 60 s")
        await fill(pilot, "#code", "123456")
        await fill(pilot, "#password", "secret phrase")
        await until_shown(pilot, "the code is wrong or too old")

    assert looks_right(client, prepare, token=None)


async def at_the_servers(pilot: Pilot[None]) -> None:
    app = pilot.app
    assert isinstance(app, BeRayApp)
    for name, url, email in (
        ("work", "https://beray.example", "ada@example.org"),
        ("lab", "http://[::1]:8000", "ada@lab.example"),
        ("a profile whose name is longer than its place", f"https://{'long.' * 14}example", "ada"),
    ):
        app.session.profiles.sign_in(Target(url, name), "token", email)
    app.session.profiles.sign_out("lab")
    await until_shown(pilot, "● online", "● live")
    await pilot.press("f3")
    await until_shown(pilot, "Servers", "signed out", "current")
    await until(pilot, lambda: pilot.app.screen.focused)


def test_the_servers_to_choose_from(looks_right: Any) -> None:
    assert looks_right(stub.full_client(), at_the_servers)


def test_a_server_that_cannot_be_added(looks_right: Any) -> None:
    async def prepare(pilot: Pilot[None]) -> None:
        await at_the_servers(pilot)
        await pilot.press("a")
        await until_shown(pilot, "Add a server")
        await fill(pilot, "#url", "beray.example")
        await until_shown(pilot, "must look like")

    assert looks_right(stub.full_client(), prepare)
