"""What keys do that were typed ahead, that have nothing to do, or that have no room."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from beray.config import Profiles, Target
from beray.exceptions import APIError, InvalidResponseError
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import fill, screen, type_ahead, until, until_shown
from tui import messages
from tui.screens.main import MainScreen
from tui.screens.register import RegisterScreen
from tui.screens.sign_in import SignInScreen

SECRET = "a secret phrase"


def value(pilot: Pilot[None], field: str) -> str:
    return pilot.app.screen.query_one(f"{field} Input", Input).value


async def test_a_password_typed_ahead_is_never_in_the_field_for_the_address(
    tmp_path: Path,
) -> None:
    client = stub.StubClient()
    client.session = APIError("no", status_code=400, error_detail="refused")
    sent: list[tuple[str, str]] = []
    login = client.login
    client.login = lambda *pair: sent.append(pair) or login(*pair)  # type: ignore[method-assign,func-returns-value]
    async with stub.stub_app(client, tmp_path, token=None).run_test() as pilot:
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        type_ahead(pilot, f"ada@example.test\r{SECRET}\r")
        await until_shown(pilot, "refused")
        assert sent == [("ada@example.test", SECRET)]
        assert value(pilot, "#email") == "ada@example.test"


async def test_a_known_address_has_the_cursor_at_the_password_from_the_first_key_on(
    tmp_path: Path,
) -> None:
    app = stub.stub_app(stub.StubClient(), tmp_path, token=None, email="ada@example.test")
    async with app.run_test() as pilot:
        type_ahead(pilot, SECRET)
        await until(pilot, lambda: value(pilot, "#password") == SECRET)
        assert value(pilot, "#email") == "ada@example.test"


@pytest.mark.parametrize("screen_type", [SignInScreen, RegisterScreen])
async def test_the_bindings_of_a_form_can_be_read_while_it_is_mounted(
    tmp_path: Path, screen_type: type[SignInScreen] | type[RegisterScreen]
) -> None:
    client: Any = stub.StubClient()
    async with stub.stub_app(client, tmp_path, token=None).run_test() as pilot:
        await until_shown(pilot, "Create an account")
        form = screen_type(client, Target("https://beray.example", "work"), Profiles())
        pilot.app.push_screen(form)
        # The footer reads them at any time, also between the mounting of a field and its input.
        while not form.query("#password Input"):
            form.active_bindings  # noqa: B018
            await asyncio.sleep(0)
        assert form.active_bindings


async def test_what_is_typed_while_a_code_is_asked_for_is_shown_nowhere(tmp_path: Path) -> None:
    client = stub.StubClient()
    answer = threading.Event()
    client.request_verification_code = lambda email: (  # type: ignore[method-assign]
        answer.wait() and {"message": "A code is on its way."}
    )
    async with stub.stub_app(client, tmp_path, token=None).run_test() as pilot:
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        await pilot.press("f2")
        await until_shown(pilot, "Code from the e-mail")
        await until(pilot, lambda: isinstance(pilot.app.focused, Input))
        type_ahead(pilot, f"ada@example.test\r{SECRET}")
        await until_shown(pilot, "Asking for a code")
        answer.set()
        await until_shown(pilot, "A code is on its way.")
        assert value(pilot, "#email") == "ada@example.test"
        type_ahead(pilot, f"123456\r{SECRET}")
        await until(pilot, lambda: value(pilot, "#password") == SECRET)
        assert value(pilot, "#code") == "123456"


@pytest.mark.parametrize("width", [20, 40, 60, 80])
async def test_the_footer_of_a_narrow_terminal_shows_no_rests_of_keys(
    tmp_path: Path, width: int
) -> None:
    app = stub.stub_app(stub.full_client(), tmp_path)
    async with app.run_test(size=(width, 24)) as pilot:
        await until_shown(pilot, "TOOL_FAILED" if width > 20 else "palette")
        await until(pilot, lambda: screen(pilot).endswith("▏^p palette "))


async def test_a_refusal_is_shown_in_the_words_of_the_server_that_spoke_it(tmp_path: Path) -> None:
    client = stub.StubClient()
    client.tasks = APIError("500", status_code=500, error_detail="The disk is full.")
    async with stub.stub_app(client, tmp_path).run_test(size=(80, 24)) as pilot:
        await until_shown(
            pilot, "The disk is full. (500)", "○ server error", "retries automatically"
        )
        assert "Cannot reach the server" not in screen(pilot)
        client.tasks = InvalidResponseError("the answer is not JSON", body="<html>")
        await until_shown(pilot, "the answer is not JSON", "○ server error")
        assert "Cannot reach the server" not in screen(pilot)
        client.tasks = []
        await until_shown(pilot, "No tasks yet", "● online")


async def test_an_address_can_be_corrected_after_it_was_refused(tmp_path: Path) -> None:
    client = stub.StubClient()
    client.message = APIError("422", status_code=422, error_detail="No such address.")
    async with stub.stub_app(client, tmp_path, token=None).run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "Create an account")
        await pilot.press("f2")
        await until_shown(pilot, "Code from the e-mail")
        await fill(pilot, "#email", "ada@exampel.test")
        await until_shown(pilot, "No such address.")
        assert pilot.app.focused is pilot.app.screen.query_one("#email Input")


async def test_before_the_tasks_are_known_no_key_does_harm_and_a_goal_can_be_given(
    tmp_path: Path,
) -> None:
    client = stub.full_client()
    client.blocked = threading.Event()
    async with stub.stub_app(client, tmp_path).run_test(size=(120, 30)) as pilot:
        await until_shown(pilot, "Loading tasks")
        await pilot.press(*"/&efsxrdz[]", "enter", "escape", "f5", "end", "down")
        screen_of_tasks = pilot.app.screen
        assert isinstance(screen_of_tasks, MainScreen)
        screen_of_tasks.filter_tasks()
        screen_of_tasks.post_message(messages.ClientReplaced())
        await pilot.press("n")
        await until(pilot, lambda: pilot.app.screen is not screen_of_tasks)
        client.blocked.set()
        await until(pilot, lambda: screen_of_tasks.task_state.selected is not None)
        await pilot.press("escape")
        await until_shown(pilot, "TOOL_FAILED", "Events")


async def test_a_task_may_be_made_before_the_others_are_known(tmp_path: Path) -> None:
    client = stub.full_client()
    client.blocked = threading.Event()
    async with stub.stub_app(client, tmp_path).run_test(size=(120, 30)) as pilot:
        await until_shown(pilot, "Loading tasks")
        assert isinstance(client.tasks, list)
        pilot.app.screen.post_message(messages.TaskCreated(client.tasks[0]))
        main = pilot.app.screen
        assert isinstance(main, MainScreen)
        await until(pilot, lambda: main.task_state.selected_task is not None)
        client.blocked.set()
        await until_shown(pilot, "Tasks · ", "Events")
        assert main.task_state.selected is not None
        assert main.task_state.selected.task_id == client.tasks[0]["id"]
