"""Administration of users at the dashboard, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Checkbox, OptionList

from beray.account_schema import ManagedUser
from beray.client import BeRayClient
from beray.config import Profiles, Target
from beray.exceptions import APIError, AuthenticationError, ConflictError, ConnectionFailed
from beray.testing import RunningServer, access_token
from beray.testing.server import PASSWORD
from tests.support import done, new_address
from tests.tui import dashboard_stub as stub
from tests.tui.account_servers import administrator, until_notified, user_id
from tests.tui.controller_fakes import Surroundings
from tests.tui.dashboard_pilot import fill, screen, until, until_shown
from tests.tui.hostile_text import HOSTILE, assert_clean
from tui.app import BeRayApp
from tui.screens.confirm import ConfirmScreen
from tui.screens.main import MainScreen
from tui.users.administration import UsersController
from tui.users.invite_screen import InviteScreen
from tui.users.messages import (
    AdministrationFailed,
    PasswordReset,
    UserChanged,
    UsersArrived,
    UsersFailed,
)
from tui.users.role_screen import RoleScreen
from tui.users.rows import amount, user_row, user_state
from tui.users.temporary_password_screen import TemporaryPasswordScreen
from tui.users.users_screen import InvitationTable, UsersScreen, UserTable

SIZE = (80, 24)
ADMIN = "admin@example.test"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose only administrator is ``ADMIN``."""
    with RunningServer.start(tmp_path_factory.mktemp("users") / "data") as server:
        administrator(server, ADMIN).close()
        yield server


@pytest.fixture
def admin(own_server: RunningServer) -> Iterator[BeRayClient]:
    with own_server.client() as client:
        client.login(ADMIN, PASSWORD)
        yield client


@asynccontextmanager
async def users_screen(
    server: RunningServer, client: BeRayClient, size: tuple[int, int] = SIZE
) -> AsyncIterator[Pilot[None]]:
    """The dashboard with the users of the server."""
    app = BeRayApp(Target(server.url, "work", access_token(client), ADMIN), Profiles())
    async with app.run_test(size=size, notifications=True) as pilot:
        await until_shown(pilot, "● online")
        await until(pilot, lambda: app.session.server.is_administrator)
        await pilot.press("U")
        await until_shown(pilot, "Users · ")
        yield pilot


async def select(pilot: Pilot[None], email: str) -> None:
    """Search for the user with an address, and move the cursor there."""
    await pilot.press("slash")
    await fill(pilot, "#users-panes", email)
    table = pilot.app.screen.query_one(UserTable)
    users = controller_of(pilot)
    await until(pilot, lambda: [user["email"] for user in users.users] == [email])
    await until(pilot, lambda: table.selected == str(users.users[0]["id"]))
    await until(pilot, lambda: table.rows.has_focus)


def controller_of(pilot: Pilot[None]) -> UsersController:
    found = next(one for one in pilot.app.screen_stack if isinstance(one, UsersScreen))
    return found.controller


async def confirm(pilot: Pilot[None], title: str) -> None:
    await until_shown(pilot, title, "y yes · n no")
    await pilot.press("y")
    await until(pilot, lambda: not isinstance(pilot.app.screen, ConfirmScreen))


async def test_user_is_disabled_and_enabled(own_server: RunningServer, admin: BeRayClient) -> None:
    email = new_address()
    user = own_server.sign_up(email)
    done(user, "!echo hello > hello.txt")
    async with users_screen(own_server, admin) as pilot:
        await select(pilot, email)
        await until_shown(pilot, "active", f"{email} · since ")
        await pilot.press("d")
        await until_shown(pilot, "Disable this user?")
        await pilot.press("n", "d")
        await confirm(pilot, "Disable this user?")
        await until_shown(pilot, "disabled")
        with pytest.raises(AuthenticationError):
            user.get_current_user()
        with pytest.raises(AuthenticationError):
            own_server.client().login(email, PASSWORD)
        await pilot.press("d")
        await until(pilot, lambda: not controller_of(pilot).users[0].get("disabled"))
        own_server.client().login(email, PASSWORD)


async def test_user_is_deleted(own_server: RunningServer, admin: BeRayClient) -> None:
    email = new_address()
    own_server.sign_up(email)
    async with users_screen(own_server, admin) as pilot:
        await select(pilot, email)
        await pilot.press("x")
        await confirm(pilot, "Delete this user?")
        await until_shown(pilot, "No address contains this.")
        await pilot.press("escape")
    assert not admin.admin.list_users(email)["users"]


async def test_temporary_password_is_shown_once_and_copied(
    own_server: RunningServer, admin: BeRayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    email = new_address()
    user = own_server.sign_up(email)
    async with users_screen(own_server, admin) as pilot:
        copied: list[str] = []
        monkeypatch.setattr(pilot.app, "copy_to_clipboard", copied.append)
        await select(pilot, email)
        await pilot.press("p")
        await confirm(pilot, "Reset the password?")
        await until(pilot, lambda: isinstance(pilot.app.screen, TemporaryPasswordScreen))
        await until_shown(pilot, "It is shown only now.", email)
        await pilot.press("c")
        await until_shown(pilot, "Sent to the clipboard of the terminal.")
        assert len(copied) == 1 and copied[0] in screen(pilot)
        await pilot.press("escape")
        await until_shown(pilot, "new password")
        assert copied[0] not in screen(pilot)
    with pytest.raises(AuthenticationError):
        user.get_current_user()
    signed_in = own_server.client().login(email, copied[0])
    assert signed_in["user"]["must_change_password"] is True


async def test_role_is_changed_and_sessions_end(
    own_server: RunningServer, admin: BeRayClient
) -> None:
    email = new_address()
    user = own_server.sign_up(email)
    async with users_screen(own_server, admin) as pilot:
        await select(pilot, email)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RoleScreen))
        await until(pilot, lambda: pilot.app.screen.query(OptionList))
        await pilot.press("down", "enter")
        await until(pilot, lambda: controller_of(pilot).users[0]["role"] == "administrator")
        assert user.get_current_user()["role"] == "administrator"
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RoleScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: controller_of(pilot).users[0]["role"] == "user")
        await pilot.press("o")
        await confirm(pilot, "End all sessions?")
        await until_notified(pilot, "1 session ended.")
    with pytest.raises(AuthenticationError):
        user.get_current_user()


@pytest.mark.parametrize("key", ["d", "x", "r"])
async def test_last_administrator_remains(
    own_server: RunningServer, admin: BeRayClient, key: str
) -> None:
    async with users_screen(own_server, admin) as pilot:
        await select(pilot, ADMIN)
        await pilot.press(key)
        if key == "r":
            await until(pilot, lambda: isinstance(pilot.app.screen, RoleScreen))
            await pilot.press("up", "enter")
        else:
            await confirm(pilot, "this user?")
        await until_notified(pilot, "is the only administrator")
        assert isinstance(pilot.app.screen, UsersScreen)
    assert admin.get_current_user()["role"] == "administrator"


async def test_administrator_who_gives_up_the_role_leaves(own_server: RunningServer) -> None:
    email = new_address()
    second = administrator(own_server, email)
    async with users_screen(own_server, second) as pilot:
        await select(pilot, email)
        await pilot.press("r")
        await until(pilot, lambda: isinstance(pilot.app.screen, RoleScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, MainScreen))
        await pilot.press("U")
        assert isinstance(pilot.app.screen, MainScreen)


async def test_invitations_are_created_and_withdrawn(
    own_server: RunningServer, admin: BeRayClient
) -> None:
    email, boss = new_address(), new_address()
    async with users_screen(own_server, admin) as pilot:
        assert not pilot.app.screen.query_one(InvitationTable).display
        await pilot.press("i")
        await until(pilot, lambda: isinstance(pilot.app.screen, InviteScreen))
        await fill(pilot, "#email", "no address")
        await until(pilot, lambda: "refused" in pilot.app.screen.query_one("#email").classes)
        await fill(pilot, "#email", ADMIN)
        await until_shown(pilot, "is already registered.")
        await fill(pilot, "#email", email)
        await until_notified(pilot, "no mail was sent")
        await until_shown(pilot, "Invitations · 1")
        await pilot.press("i")
        await until(pilot, lambda: pilot.app.screen.query(Checkbox))
        pilot.app.screen.query_one(Checkbox).value = True
        await fill(pilot, "#email", boss)
        await until_shown(pilot, "Invitations · 2", "administrator")
        invitations = {one["email"]: one for one in admin.admin.list_invitations()}
        assert invitations[boss]["role"] == "administrator"
        await pilot.press("tab")
        table = pilot.app.screen.query_one(InvitationTable)
        await until(pilot, lambda: table.rows.has_focus)
        await until_shown(pilot, "x Withdraw")
        assert table.selected == email  # the cursor stays on its row
        await pilot.press("x")
        await confirm(pilot, "Withdraw this invitation?")
        await until_shown(pilot, "Invitations · 1")
        await pilot.press("x")
        await confirm(pilot, "Withdraw this invitation?")
        await until(pilot, lambda: not table.display)
        await until(pilot, lambda: pilot.app.screen.query_one(UserTable).rows.has_focus)
    assert not admin.admin.list_invitations()


async def test_users_see_no_administration(own_server: RunningServer) -> None:
    user = own_server.sign_up()
    app = BeRayApp(Target(own_server.url, "work", access_token(user)), Profiles())
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "● online", "No tasks yet")
        await until(pilot, lambda: app.session.server.user is not None)
        await pilot.press("U")
        assert isinstance(app.screen, MainScreen)
        assert "Users" not in {one.title for one in app.get_system_commands(app.screen)}
        await pilot.press("question_mark")
        await until_shown(pilot, "This screen")
        assert "Manage the users" not in screen(pilot)


async def test_role_that_is_taken_meanwhile_is_reported(own_server: RunningServer) -> None:
    second = administrator(own_server)
    number = second.get_current_user()["id"]
    async with users_screen(own_server, second) as pilot:
        with own_server.client() as admin:
            admin.login(ADMIN, PASSWORD)
            admin.admin.change_user(int(number), role="user")
        await pilot.press("f5")
        await until_notified(pilot, "Only administrators can do this.")


async def test_every_page_is_read_at_the_end(own_server: RunningServer, admin: BeRayClient) -> None:
    prefix = "bot"
    for number in range(120):
        admin.admin.create_service_account(f"{prefix}{number:03}@bots.example.test")
    async with users_screen(own_server, admin, (120, 40)) as pilot:
        await until_shown(pilot, "Users · 50+", "Storage")
        table = pilot.app.screen.query_one(UserTable)
        await pilot.press("end")
        await until_shown(pilot, "Users · 100+")
        await pilot.press("end")
        await until(pilot, lambda: not controller_of(pilot).has_more)
        emails = [user["email"] for user in controller_of(pilot).users]
        assert len(emails) == len(set(emails)) >= 121
        await pilot.press("end")
        await until(pilot, lambda: table.selected == str(controller_of(pilot).users[-1]["id"]))
        await select(pilot, f"{prefix}007@bots.example.test")
        await until_shown(pilot, "service", "Users · 1 with “bot007@")
        await pilot.press("r", "p")  # of no use for a service account
        assert isinstance(pilot.app.screen, UsersScreen)
        await pilot.press("slash")
        await until_shown(pilot, "esc All users")
        await pilot.press("escape")
        await until_shown(pilot, "Users · 50+")


async def test_table_fits_small_terminal(own_server: RunningServer, admin: BeRayClient) -> None:
    email = f"{'a.long.name.' * 4}x@department.of.a.university.example.test"
    own_server.sign_up(email)
    for size in ((80, 24), (40, 12), (120, 40)):
        async with users_screen(own_server, admin, size) as pilot:
            await select(pilot, email)
            lines = screen(pilot).splitlines()
            assert len(lines) == size[1] and all(len(line) <= size[0] for line in lines)
            table = pilot.app.screen.query_one(UserTable)
            assert table.rows.max_scroll_x == 0
            assert table.rows.virtual_size.height == 1


async def test_buttons_of_dialogs_are_visible(
    own_server: RunningServer, admin: BeRayClient
) -> None:
    async with users_screen(own_server, admin) as pilot:
        await pilot.press("i")
        await fill(pilot, "#email", "x" * 200)
        await until(pilot, lambda: "refused" in pilot.app.screen.query_one("#email").classes)
        assert all(button.region.bottom < 24 for button in pilot.app.screen.query(Button))


# Without an application


class Administration:
    """``client.admin`` with fixed answers."""

    def __init__(self) -> None:
        self.users: list[ManagedUser] = [{"id": 1, "email": "ada@example.test", "role": "user"}]
        self.next_after: int | None = None
        self.error: Exception | None = None

    def list_users(
        self, search: str = "", after: int | None = None, limit: int | None = None
    ) -> Any:
        if self.error is not None:
            raise self.error
        return {"users": self.users, "next_after": self.next_after}

    def list_invitations(self) -> Any:
        return []

    def change_user(self, user_id: int, **changes: Any) -> Any:
        raise ConflictError("no", status_code=409, error_detail="the last administrator")


class Client:
    def __init__(self) -> None:
        self.admin = Administration()

    def close(self) -> None:
        pass


def controller(around: Surroundings) -> UsersController:
    return UsersController(
        server=around.server,
        target=around.target,
        dialogs=around.dialogs,
        notify=around.notify,
        failures=around.failures,
        on_change=around.on_change,
        on_own_role=around.on_change,
    )


def test_answers_for_earlier_search_or_client_are_ignored(tmp_path: Path) -> None:
    around = Surroundings(Client(), tmp_path)
    users = controller(around)
    users.read()
    first = around.target.next(UsersArrived)
    users.find("ada")
    users.arrived(first)
    assert not users.is_loaded
    second = around.target.next(UsersArrived)
    around.server.replace(around.server.target, Client())  # type: ignore[arg-type]
    users.arrived(second)
    users.failed(UsersFailed(second.client, "ada", 0, ConnectionFailed("late")))
    changed: ManagedUser = {"id": 1, "email": "eve@example.test", "role": "user"}
    users.user_changed(UserChanged(second.client, changed, "late"))
    assert not users.password_reset(PasswordReset(second.client, 1, "eve@example.test", "secret"))
    assert not users.is_loaded and not users.failure and not around.notices
    users.read()
    users.arrived(around.target.next(UsersArrived))
    assert users.is_loaded and users.search == "ada"


def test_page_is_read_once(tmp_path: Path) -> None:
    client = Client()
    client.admin.next_after = 1
    around = Surroundings(client, tmp_path)
    users = controller(around)
    users.read()
    users.read_more()  # the first page is being read
    page = around.target.next(UsersArrived)
    users.arrived(page)
    assert users.has_more
    client.admin.users = [{"id": 2, "email": "bob@example.test", "role": "user"}]
    client.admin.next_after = None
    users.read_more()
    users.read_more()
    users.arrived(around.target.next(UsersArrived))
    users.arrived(page)  # a second answer to an earlier request
    assert [user["id"] for user in users.users] == [1, 2] and not users.has_more


def test_failures_are_reported(tmp_path: Path) -> None:
    client = Client()
    client.admin.error = APIError("500", status_code=500, error_detail="The disk is full.")
    around = Surroundings(client, tmp_path)
    users = controller(around)
    users.read()
    users.failed(around.target.next(UsersFailed))
    assert users.failure == "The disk is full." and not around.notices
    client.admin.error = None
    users.read()
    users.arrived(around.target.next(UsersArrived))
    assert not users.failure
    client.admin.error = APIError("500", status_code=500, error_detail="The disk is full.")
    users.read()
    users.failed(around.target.next(UsersFailed))
    assert around.notices == [("Could not read the users: The disk is full.", "error")]
    around.dialogs.agrees = True
    users.set_disabled(users.users[0])
    users.action_failed(around.target.next(AdministrationFailed))
    assert "the last administrator" in around.notices[-1][0]


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (9_999, "9999"), (12_345, "12k"), (1_400_000, "1.4M"), (10**16, "huge")],
)
def test_amounts(count: int, shown: str) -> None:
    assert amount(count) == shown


def test_states_of_users() -> None:
    user: ManagedUser = {"id": 1, "email": "ada@example.test", "role": "user"}
    assert user_state(user) == "active"
    assert user_state({**user, "must_change_password": True}) == "new password"
    assert user_state({**user, "must_change_password": True, "disabled": True}) == "disabled"
    assert user_row({**user, "role": "administrator"}, stub.NOW).values[1] == "admin"


class HostileAdministration(Administration):
    """Administration of a server whose answers contain control sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.users = [{"id": 1, "email": HOSTILE, "role": HOSTILE, "created_at": HOSTILE}]

    def list_invitations(self) -> Any:
        return [{"email": HOSTILE, "role": HOSTILE, "invited_by": HOSTILE}]

    def reset_password(self, user_id: int) -> Any:
        return {"email": HOSTILE, "password": HOSTILE}


class HostileStub(stub.StubClient):
    def __init__(self) -> None:
        super().__init__()
        self.admin = HostileAdministration()

    def get_current_user(self) -> Any:
        return {"id": 7, "email": HOSTILE, "role": "administrator"}


async def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    app = stub.stub_app(HostileStub(), tmp_path)
    async with app.run_test(size=SIZE, notifications=True) as pilot:
        await until_shown(pilot, "No tasks yet")
        app.session.server.user = {"role": "administrator"}
        await pilot.press("U")
        await until_shown(pilot, "Users · 1", "Invitations · 1")
        assert_clean(screen(pilot))
        await pilot.press("p")
        await until_shown(pilot, "Reset the password?")
        assert_clean(screen(pilot))
        await pilot.press("y")
        await until_shown(pilot, "Temporary password")
        assert_clean(screen(pilot))
        await pilot.press("escape", "r")
        await until_shown(pilot, "Role")
        assert_clean(screen(pilot))


def test_user_id_finds_exact_address(own_server: RunningServer, admin: BeRayClient) -> None:
    assert user_id(admin, ADMIN) == admin.get_current_user()["id"]
