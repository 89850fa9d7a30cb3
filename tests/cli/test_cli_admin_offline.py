"""beray admin with the data directory of a stopped server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray import AuthenticationError
from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.account_servers import ADMIN_EMAIL, ADMIN_PASSWORD
from tests.cli.cli_support import Command, Outcome
from tests.support import new_address, until

ADDRESS = "someone@example.test"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """Stopped server with an account that has a task."""
    with RunningServer.start(tmp_path / "data") as server:
        with server.sign_up(ADDRESS) as user:
            user.run("!echo hello > hello.txt")
        server.stop()
        yield server


@pytest.fixture
def offline(beray: Command, server: RunningServer) -> Command:
    """Run ``beray admin COMMAND --data-dir DIR``."""

    def run(command: str, *arguments: str, stdin: str = "") -> Outcome:
        return beray("admin", command, *arguments, "--data-dir", str(server.data_dir), stdin=stdin)

    return run


def test_accounts_are_administered(offline: Command, server: RunningServer) -> None:
    created = offline("create", ADMIN_EMAIL, stdin=f"{ADMIN_PASSWORD}\n")
    assert (created.status, created.out) == (0, ""), created.err
    assert created.err == f"created {ADMIN_EMAIL} (administrator)\n"
    users = {user["email"]: user for user in offline("users", "--json").json}
    assert list(users) == [ADDRESS, ADMIN_EMAIL]
    assert (users[ADDRESS]["tasks"], users[ADDRESS]["role"]) == (1, "user")
    assert users[ADDRESS]["storage_bytes"] >= 6
    assert offline("disable", ADDRESS).err == f"disabled {ADDRESS}\n"
    service = new_address()
    assert offline("create", service, "--role", "service").status == 0
    key = offline("key", service, "ci", "--scope", "tasks:read").out.strip()
    actions = [entry["action"] for entry in offline("audit", "--json").json]
    assert {"account.created", "account.disabled", "apikey.created"} <= set(actions)
    operator = [entry["actor"] for entry in offline("audit", "--limit", "1", "--json").json]
    assert operator == ["operator"]

    server.restart()
    assert "setup#" not in server.log.read_text().rpartition('"serving"')[2]
    with server.client() as client:
        with pytest.raises(AuthenticationError, match="disabled"):
            client.login(ADDRESS, PASSWORD)
        client.login(ADMIN_EMAIL, ADMIN_PASSWORD)
        assert client.admin.find_user(ADDRESS) is not None
    with server.client(key) as program:
        assert program.list_tasks() == []


def test_waiting_tasks_of_a_disabled_user_do_not_run(
    offline: Command, server: RunningServer
) -> None:
    server.restart(BERAY_SLOTS="1")
    with server.client() as user:
        user.login(ADDRESS, PASSWORD)
        running = user.create_task("!sleep 1000")["id"]
        waiting = user.create_task("!echo ran")["id"]
        until(lambda: user.get_task(running)["status"] == "RUNNING")
    server.kill()
    assert offline("disable", ADDRESS).status == 0
    server.restart()
    server.stop()
    assert offline("enable", ADDRESS).status == 0
    server.restart()
    with server.client() as user:
        user.login(ADDRESS, PASSWORD)
        for number in (waiting, running):
            assert user.get_task(number)["status"] == "STOPPED"
        assert "ran" not in str(user.list_events(waiting))


def test_an_existing_account_is_promoted(offline: Command, server: RunningServer) -> None:
    assert offline("promote", ADDRESS.upper()).err == f"{ADDRESS} has the role administrator\n"
    for arguments in (["disable"], ["promote", "--role", "user"], ["delete", "--yes"]):
        outcome = offline(*arguments, ADDRESS)
        assert outcome.status == 1
        assert "is the only administrator" in outcome.err
    server.restart()
    with server.client() as client:
        client.login(ADDRESS, PASSWORD)
        assert len(client.admin.list_users()["users"]) == 1


def test_a_temporary_password(offline: Command, server: RunningServer) -> None:
    password = offline("reset-password", ADDRESS).out.strip()
    assert offline("revoke-sessions", ADDRESS).err == "0 sessions ended.\n"
    server.restart()
    with server.client() as client:
        client.login(ADDRESS, password)
        with pytest.raises(AuthenticationError, match="new password"):
            client.list_tasks()
        client.change_password(password, PASSWORD)
        assert len(client.list_tasks()) == 1


def test_a_deleted_account_is_removed_at_the_next_start(
    offline: Command, server: RunningServer
) -> None:
    deleted = offline("delete", ADDRESS, "--yes")
    assert deleted.status == 0
    assert "when it starts" in deleted.err
    assert offline("users").out == ""
    server.restart()
    with server.sign_up(ADDRESS) as user:  # the address is free
        assert user.list_tasks() == []


def test_an_invited_user_registers(offline: Command, server: RunningServer) -> None:
    name = new_address()
    invited = offline("invite", name, "--expires", "1d")
    assert invited.out == f"beray register --url URL --email {name}\n"
    assert len(offline("invitations", "--json").json) == 1
    assert offline("uninvite", new_address()).status == 1
    server.restart(BERAY_REGISTRATION="invite")
    with server.sign_up(name) as user:
        assert user.get_current_user()["email"] == name


def test_a_running_server_is_not_changed(offline: Command, server: RunningServer) -> None:
    server.restart()
    outcome = offline("disable", ADDRESS)
    assert (outcome.status, outcome.out) == (1, "")
    assert f"a server uses {server.data_dir}; stop it, or omit --data-dir" in outcome.err
    with server.client() as client:
        client.login(ADDRESS, PASSWORD)


def test_another_directory_is_not_changed(beray: Command, tmp_path: Path) -> None:
    for name in ("missing", "here"):
        folder = tmp_path / name
        outcome = beray("admin", "users", "--data-dir", str(folder))
        assert outcome.status == 1
        assert "is not the data directory of a server" in outcome.err
    assert not (tmp_path / "missing").exists()
    assert os.listdir(tmp_path / "here") == []


def test_a_damaged_database_is_reported(beray: Command, tmp_path: Path) -> None:
    (tmp_path / "here" / "beray.sqlite3").write_bytes(b"no database" * 100)
    outcome = beray("admin", "users", "--data-dir", str(tmp_path / "here"))
    assert outcome.status == 1
    assert "cannot be used" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["create", "x@example.test"], 2, "stdin has ended"),
        (["create", "no address"], 1, "is not a valid e-mail address"),
        (["create", ADDRESS], 1, "is already registered"),
        (["disable", "x@example.test"], 1, "no account has the address"),
        (["key", ADDRESS, "ci"], 1, "is not a service account"),
        (["key", ADDRESS, ""], 1, "at least 1 character"),
        (["invite", ADDRESS], 1, "is already registered"),
        (["invite", "x@example.test", "--expires", "900w"], 1, "must be at most 31622400"),
        (["audit", "--follow"], 2, "--follow needs a running server"),
    ],
)
def test_invalid_input(offline: Command, arguments: list[str], status: int, message: str) -> None:
    stdin = "" if arguments == ["create", "x@example.test"] else f"{PASSWORD}\n"
    outcome = offline(*arguments, stdin=stdin)
    assert (outcome.status, outcome.out) == (status, "")
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1
