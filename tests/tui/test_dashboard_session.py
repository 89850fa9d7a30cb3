"""Tests of signing in and out and of switching servers, without an application."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.message import Message
from textual.screen import Screen

from beray.config import Profiles, Target
from beray.exceptions import AuthenticationError
from beray.testing import RunningServer, access_token
from tests.support import until
from tests.tui.controller_fakes import TARGET, MessageInbox
from tests.tui.dashboard_stub import StubClient
from tui import messages
from tui.screens.profiles import ProfilesScreen
from tui.screens.sign_in import SignInAgainScreen, SignInElsewhereScreen, SignInScreen
from tui.session import (
    DashboardSession,
    ProfilesFailed,
    ProfilesRead,
    SessionChecked,
    SignedOut,
    start_local_server,
)


class Tasks(Screen[None]):
    """Main screen that records its messages."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[Message] = []

    def post_message(self, message: Message) -> bool:
        self.posted.append(message)
        return True


class Screens(MessageInbox):
    """Stack of screens without an application."""

    def __init__(self) -> None:
        super().__init__()
        self.screen_stack: list[Any] = [Screen()]
        self.notifications = ["about the current account"]

    @property
    def screen(self) -> Any:
        return self.screen_stack[-1]

    def push_screen(self, screen: Any) -> None:
        self.screen_stack.append(screen)

    def pop_screen(self) -> None:
        self.screen_stack.pop()

    def clear_notifications(self) -> None:
        self.notifications.clear()


class Client(StubClient):
    """Client that records whether it was closed, and of which target it is."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Dashboard:
    """Session with its surroundings."""

    def __init__(self, folder: Path, target: Target = TARGET) -> None:
        self.screens = Screens()
        self.clients: list[Client] = []
        self.notices: list[tuple[str, str]] = []
        self.targets: list[Target] = []
        self.profiles = Profiles(folder / "profiles.json")
        self.session = DashboardSession(
            target,
            self.profiles,
            connect=self.connect,
            renew=None,
            screens=self.screens,
            notify=self.notify,
            create_main_screen=Tasks,
            on_replace_screens=lambda: None,
            on_target_change=lambda: self.targets.append(self.session.server.target),
        )

    def connect(self, target: Target) -> Any:
        self.clients.append(Client(target))
        return self.clients[-1]

    def notify(self, text: str, severity: str = "information") -> None:
        self.notices.append((text, severity))

    def end_session(self) -> None:
        """Have the session found to have ended."""
        client: Any = self.session.server.client
        client.tasks = AuthenticationError("no", status_code=401)
        self.session.check("it has ended")
        self.session.checked(self.screens.next(SessionChecked))


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    made = Dashboard(tmp_path)
    made.session.show_tasks_or_sign_in()
    yield made


def test_without_a_token_the_user_is_asked_to_sign_in(tmp_path: Path) -> None:
    made = Dashboard(tmp_path, replace(TARGET, token=None))
    made.session.show_tasks_or_sign_in()
    assert type(made.screens.screen) is SignInScreen


def test_a_rejected_token_is_checked_once_before_the_user_is_asked(dashboard: Dashboard) -> None:
    client: Any = dashboard.session.server.client
    client.tasks = AuthenticationError("no", status_code=401)
    for _ in range(5):
        dashboard.session.check("it has ended")
    dashboard.session.checked(dashboard.screens.next(SessionChecked))
    assert isinstance(dashboard.screens.screen, SignInAgainScreen)
    assert len(dashboard.screens.screen_stack) == 3 and dashboard.notices == []
    dashboard.session.check("once more")
    assert not dashboard.screens.has(SessionChecked)


def test_a_request_that_was_not_allowed_does_not_end_a_valid_session(dashboard: Dashboard) -> None:
    for _ in range(2):
        dashboard.session.check("a late answer")
        dashboard.session.checked(dashboard.screens.next(SessionChecked))
    assert dashboard.notices == [("a late answer", "error")]
    assert isinstance(dashboard.screens.screen, Tasks)


def test_the_same_account_goes_on_where_it_was(dashboard: Dashboard) -> None:
    tasks, server, before = dashboard.screens.screen, dashboard.session.server, dashboard.clients[0]
    dashboard.end_session()
    renewed = replace(TARGET, token="new", email="Ada@example.test")
    dashboard.session.signed_in(renewed, "the disk is full")
    assert dashboard.screens.screen is tasks
    assert dashboard.session.server is server
    client: Any = server.client
    assert before.closed and client.target == renewed and server.target == renewed
    assert [type(one) for one in tasks.posted] == [messages.ClientReplaced]
    assert dashboard.targets == [renewed]
    assert dashboard.notices == [
        ("Signed in, but the token could not be saved: the disk is full", "warning")
    ]


def test_another_account_begins_afresh(dashboard: Dashboard) -> None:
    tasks, server = dashboard.screens.screen, dashboard.session.server
    dashboard.end_session()
    dashboard.session.signed_in(replace(TARGET, token="new", email="bob@example.test"), "")
    assert tasks not in dashboard.screens.screen_stack and tasks.posted == []
    assert isinstance(dashboard.screens.screen, Tasks)
    assert dashboard.screens.notifications == []
    # Whatever the screen that was left still does, it does not use the new account.
    closed: Any = server.client
    assert dashboard.session.server is not server and closed.closed
    assert server.target == TARGET


def test_a_successor_replaces_the_client_unless_the_user_has_left(dashboard: Dashboard) -> None:
    tasks, server = dashboard.screens.screen, dashboard.session.server
    found = replace(TARGET, url="http://127.0.0.1:2")
    client: Any = Client(found)
    dashboard.session.successor_found(replace(found, profile="left"), client)
    assert server.target == TARGET and tasks.posted == []
    dashboard.session.successor_found(found, client)
    assert server.client is client and server.target == found
    assert len(tasks.posted) == 1


def test_only_a_server_that_can_be_renewed_has_a_successor(dashboard: Dashboard) -> None:
    assert dashboard.session.successor() is None
    local = Target("http://127.0.0.1:1", "local", "token", embedded=True)
    dashboard.session.switch_to(local)
    assert dashboard.session.renew is start_local_server
    dashboard.session.renew = lambda: local
    find = dashboard.session.successor()
    assert find is not None and find() is None
    dashboard.session.renew = lambda: replace(local, token="next")
    find = dashboard.session.successor()
    assert find is not None
    found = find()
    assert found is not None and found.target.token == "next"
    dashboard.session.switch_to(TARGET)
    assert dashboard.session.renew is None


def test_leaving_another_servers_sign_in_returns_to_an_ended_session(dashboard: Dashboard) -> None:
    dashboard.end_session()
    dashboard.session.sign_in_elsewhere(Target("https://other.example", "other"))
    assert isinstance(dashboard.screens.screen, SignInElsewhereScreen)
    dashboard.screens.screen_stack.pop(-2)
    dashboard.session.leave_sign_in()
    assert isinstance(dashboard.screens.screen, SignInAgainScreen)


def test_profiles_that_cannot_be_read_are_reported(dashboard: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "profiles.json").write_text("no JSON")
    dashboard.session.open_servers()
    dashboard.session.profiles_failed(dashboard.screens.next(ProfilesFailed).error)
    ((text, severity),) = dashboard.notices
    assert text.startswith("Cannot read or write the profiles: ") and severity == "error"
    assert "valid profiles" in text


def test_the_servers_are_shown_once(dashboard: Dashboard) -> None:
    dashboard.session.open_servers()
    dashboard.session.profiles_read(dashboard.screens.next(ProfilesRead))
    servers = dashboard.screens.screen
    assert isinstance(servers, ProfilesScreen)
    dashboard.screens.push_screen(Screen())
    dashboard.session.open_servers()
    assert dashboard.screens.screen is servers


def test_signing_out_removes_the_token_and_ends_the_session(dashboard: Dashboard) -> None:
    dashboard.profiles.sign_in(TARGET, "token", "ada@example.test")
    dashboard.session.sign_out()
    assert dashboard.session.server.target.token is None
    assert type(dashboard.screens.screen) is SignInScreen
    assert dashboard.targets[-1].token is None
    assert dashboard.screens.next(SignedOut).text == "Signed out of work"
    saved = Profiles(dashboard.profiles.path).get("work")
    assert saved is not None and saved.token is None


def test_a_token_of_the_environment_is_left_alone(
    beray_server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with beray_server.sign_up() as client:
        token = access_token(client)
        monkeypatch.setenv("BERAY_TOKEN", token)
        made = Dashboard(tmp_path, Target(beray_server.url, "given", token))
        made.session.show_tasks_or_sign_in()
        made.session.sign_out("given")
        text = made.screens.next(SignedOut).text
        assert text == "Signed out of given; BERAY_TOKEN is set and remains in use"
        assert len(made.clients) == 2, "the first one, and one for the sign-in screen"
        made.session.signed_out(text)
        until(lambda: made.screens.has(ProfilesRead))
        assert client.get_current_user()["email"]
