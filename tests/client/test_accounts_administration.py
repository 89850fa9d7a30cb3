"""``client.admin`` with a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from beray import (
    APIError,
    AuthenticationError,
    BeRayClient,
    ConflictError,
    ConnectionFailed,
    NotFoundError,
    UnprocessableEntityError,
)
from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.account_servers import ADMIN_EMAIL, first_administrator, setup_link
from tests.support import FollowingThread, new_address, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("administration")) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: RunningServer) -> Iterator[BeRayClient]:
    with first_administrator(server) as client:
        yield client


def id_of(admin: BeRayClient, email: str) -> int:
    user = admin.admin.find_user(email)
    assert user is not None
    return user["id"]


def test_the_link_creates_one_administrator(server: RunningServer, admin: BeRayClient) -> None:
    assert admin.get_current_user()["role"] == "administrator"
    token = setup_link(server).partition("#")[2]
    with server.client() as second, pytest.raises(AuthenticationError, match="link"):
        second.create_first_administrator(token, new_address(), PASSWORD)


def test_accounts_are_listed_in_pages(server: RunningServer, admin: BeRayClient) -> None:
    with server.sign_up() as one, server.sign_up():
        address = one.get_current_user()["email"] or ""
    page = admin.admin.list_users(limit=1)
    assert [user["email"] for user in page["users"]] == [ADMIN_EMAIL]
    following = admin.admin.list_users(after=page["next_after"], limit=1)
    assert following["users"][0]["id"] > page["users"][0]["id"]
    everyone = [user["id"] for user in admin.admin.iter_users()]
    assert len(everyone) >= 3
    assert everyone == sorted(set(everyone))
    assert [user["email"] for user in admin.admin.iter_users(address[:12])] == [address]
    assert [user["email"] for user in admin.admin.iter_users("%")] == []
    found = admin.admin.find_user(f" {address.upper()} ")
    assert found is not None
    assert admin.admin.get_user(found["id"]) == found
    assert admin.admin.find_user(address[:12]) is None
    with pytest.raises(NotFoundError):
        admin.admin.get_user(10**9)


def test_only_administrators_have_access(server: RunningServer, admin: BeRayClient) -> None:
    with server.sign_up() as user:
        for call in (user.admin.list_users, user.admin.audit, user.admin.list_invitations):
            with pytest.raises(AuthenticationError, match="administrators") as caught:
                call()
            assert caught.value.status_code == 403


def test_an_account_is_changed_and_deleted(server: RunningServer, admin: BeRayClient) -> None:
    with server.sign_up() as user:
        address = user.get_current_user()["email"] or ""
        number = id_of(admin, address)
        assert admin.admin.change_user(number, disabled=True)["disabled"] is True
        with pytest.raises(AuthenticationError):
            user.list_tasks()
        with pytest.raises(AuthenticationError, match="disabled"):
            user.login(address, PASSWORD)
        assert admin.admin.change_user(number, disabled=False)["disabled"] is False
        user.login(address, PASSWORD)

        admin.admin.change_user(number, must_change_password=True)
        with pytest.raises(AuthenticationError, match="new password"):
            user.list_tasks()
        user.change_password(PASSWORD, "quite another passphrase")
        user.list_tasks()

        temporary = admin.admin.reset_password(number)
        with pytest.raises(AuthenticationError):
            user.list_tasks()
        session = user.login(address, temporary["password"])
        assert (session.get("user") or {}).get("must_change_password") is True
        user.change_password(temporary["password"], PASSWORD)
        assert admin.admin.revoke_sessions(number)["message"] == "1 session ended."

        assert admin.admin.change_user(number, role="administrator")["role"] == "administrator"
        assert address in admin.admin.delete_user(number)["message"]
        assert admin.admin.find_user(address) is None
        with pytest.raises(NotFoundError):
            admin.admin.delete_user(number)


def test_the_last_administrator_remains(admin: BeRayClient) -> None:
    number = id_of(admin, ADMIN_EMAIL)
    for change in (
        lambda: admin.admin.change_user(number, role="user"),
        lambda: admin.admin.change_user(number, disabled=True),
        lambda: admin.admin.delete_user(number),
    ):
        with pytest.raises(ConflictError, match="only administrator"):
            change()
    assert admin.admin.get_user(number)["role"] == "administrator"


def test_a_service_account_has_keys_only(server: RunningServer, admin: BeRayClient) -> None:
    address = new_address()
    service = admin.admin.create_service_account(address)
    assert service["role"] == "service"
    key = admin.admin.create_api_key(
        service["id"], "ci", scopes=["tasks:read"], expires_in_seconds=60
    )
    with server.client(key["key"]) as program:
        assert program.list_tasks() == []
        with pytest.raises(AuthenticationError, match="tasks:write"):
            program.create_task("!true")
        with pytest.raises(AuthenticationError):
            program.login(address, PASSWORD)
    with pytest.raises(ConflictError, match="password"):
        admin.admin.reset_password(service["id"])
    with pytest.raises(ConflictError):
        admin.admin.create_service_account(address)
    with pytest.raises(UnprocessableEntityError):
        admin.admin.create_service_account("no address")
    with pytest.raises(ConflictError, match="service account"):
        admin.admin.create_api_key(id_of(admin, ADMIN_EMAIL), "x")


def test_invitations(admin: BeRayClient) -> None:
    address = f"a/b+{new_address()}"
    invitation = admin.admin.invite(address, "administrator", expires_in_seconds=60)
    assert (invitation["role"], invitation["mailed"]) == ("administrator", False)
    assert address in [entry["email"] for entry in admin.admin.list_invitations()]
    admin.admin.withdraw_invitation(address.upper())
    assert address not in [entry["email"] for entry in admin.admin.list_invitations()]
    with pytest.raises(NotFoundError):
        admin.admin.withdraw_invitation(address)
    with pytest.raises(ConflictError):
        admin.admin.invite(ADMIN_EMAIL)
    with pytest.raises(UnprocessableEntityError):
        admin.admin.invite(address, "service")


def test_the_audit_log_is_followed(server: RunningServer, admin: BeRayClient) -> None:
    newest = admin.admin.audit(limit=1)
    last = newest[-1]["id"]
    followed = FollowingThread(lambda: admin.admin.follow_audit(last))
    with server.sign_up() as user:
        address = user.get_current_user()["email"] or ""
    until(lambda: any(entry["actor"] == address for entry in followed.seen))
    server.restart()
    with pytest.raises(AuthenticationError), server.client() as user:
        user.login(address, "not the password")
    until(lambda: any(entry["action"] == "sign-in.failed" for entry in followed.seen))
    numbers = [entry["id"] for entry in followed.seen]
    assert numbers == list(range(last + 1, last + 1 + len(numbers)))
    with pytest.raises(UnprocessableEntityError):
        admin.admin.audit(limit=0)


def test_following_ends_with_a_final_error(server: RunningServer, admin: BeRayClient) -> None:
    with server.sign_up() as user, pytest.raises(AuthenticationError):
        next(user.admin.follow_audit())


def test_following_an_unreachable_server_ends() -> None:
    seen: list[BaseException] = []

    def follow() -> None:
        try:
            next(BeRayClient("http://127.0.0.1:9").admin.follow_audit(reconnect=0))
        except (ConnectionFailed, APIError) as error:
            seen.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join(30)
    assert isinstance(seen[0], ConnectionFailed)
