"""beray admin, with the API of a running server."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator

import pytest

from beray import BeRayClient
from beray.config import Profiles
from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.account_servers import ADMIN_EMAIL, ADMIN_PASSWORD, first_administrator, setup_link
from tests.cli.cli_support import Command, ScriptedServer, program, use
from tests.support import new_address

OTHER = "another fine passphrase"
EVIL = "\x1b]0;x\x07\u202e\tname\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(tmp_path_factory.mktemp("admin") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def administrator(server: RunningServer) -> Iterator[BeRayClient]:
    with first_administrator(server) as client:
        yield client


@pytest.fixture
def admin(
    beray: Command, administrator: BeRayClient, monkeypatch: pytest.MonkeyPatch
) -> BeRayClient:
    use(administrator, monkeypatch)
    return administrator


@pytest.fixture
def address(server: RunningServer) -> str:
    """Address of a new account."""
    found = new_address()
    server.sign_up(found).close()
    return found


def test_the_link_creates_the_first_administrator(
    beray: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with RunningServer.start(tmp_path_factory.mktemp("setup") / "data") as server:
        link = setup_link(server)
        weak = beray("admin", "create", ADMIN_EMAIL, "--link", link, stdin="password\n")
        assert weak.status == 1
        assert "common" in weak.err
        created = beray("admin", "create", ADMIN_EMAIL, "--link", link, stdin=f"{ADMIN_PASSWORD}\n")
        assert (created.status, created.out) == (0, ""), created.err
        assert f"signed in to {server.url} as {ADMIN_EMAIL}" in created.err
        assert link.partition("#")[2] not in created.err
        assert len(Profiles().names()) == 1
        (user,) = beray("admin", "users", "--json").json
        assert (user["email"], user["role"]) == (ADMIN_EMAIL, "administrator")
        used = beray("admin", "create", "b@example.test", "--link", link, stdin=f"{PASSWORD}\n")
        assert used.status == 1
        assert "The link is wrong or was used" in used.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--link", "http://localhost:8000"], "--link expects the link"),
        (["--link", "/setup#token"], "--link expects the link"),
        (["--link", "http://x/setup#t", "--role", "service"], "creates an administrator"),
        (["--link", "http://x/setup#t", "--data-dir", "."], "creates an administrator"),
        (["--role", "user"], "--role"),
        ([], "beray admin invite a@b.test --role administrator"),
        (["--data-dir", ".", "--url", "http://x"], "without --url"),
    ],
)
def test_invalid_options_of_create(beray: Command, options: list[str], message: str) -> None:
    outcome = beray("admin", "create", "a@b.test", *options, stdin=f"{PASSWORD}\n")
    assert outcome.status == 2
    assert message in outcome.err


def test_users_are_listed(beray: Command, admin: BeRayClient, address: str) -> None:
    (found,) = beray("admin", "users", "--search", address[:14].upper(), "--json").json
    assert (found["email"], found["tasks"], found["disabled"]) == (address, 0, False)
    rows = [line.split("\t") for line in beray("admin", "users").out.splitlines()]
    assert [ADMIN_EMAIL, address] == [row[-1] for row in rows if row[-1] in (ADMIN_EMAIL, address)]
    assert beray("admin", "users", "--search", "no such address").out == ""


def test_an_account_is_disabled_and_enabled(
    beray: Command, admin: BeRayClient, server: RunningServer, address: str
) -> None:
    disabled = beray("admin", "disable", f" {address.upper()}")
    assert (disabled.status, disabled.err) == (0, f"disabled {address}\n")
    login = ["login", "--url", server.url, "--email", address]
    refused = beray(*login, stdin=f"{PASSWORD}\n")
    assert refused.status == 1
    assert "The account is disabled" in refused.err
    assert beray("admin", "enable", address, "--json").json[0]["disabled"] is False
    assert beray(*login, stdin=f"{PASSWORD}\n").status == 0


def test_a_temporary_password_has_to_be_changed(
    beray: Command,
    admin: BeRayClient,
    server: RunningServer,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome = beray("admin", "reset-password", address)
    temporary = outcome.out.strip()
    assert outcome.status == 0
    assert temporary not in outcome.err
    monkeypatch.delenv("BERAY_TOKEN")
    login = beray("login", "--email", address, stdin=f"{temporary}\n")
    assert "run `beray password change`" in login.err
    refused = beray("tasks")
    assert refused.status == 1
    assert "beray password change" in refused.err
    assert beray("password", "change", stdin=f"{temporary}\n{OTHER}\n").status == 0
    assert beray("tasks").status == 0
    use(admin, monkeypatch)
    assert beray("admin", "reset-password", address, "--keep").status == 0
    monkeypatch.delenv("BERAY_TOKEN")
    assert "beray password change" in beray("tasks").err
    use(admin, monkeypatch)
    ended = beray("admin", "revoke-sessions", address)
    assert (ended.status, ended.err) == (0, "1 session ended.\n")


def test_roles(beray: Command, admin: BeRayClient, address: str) -> None:
    promoted = beray("admin", "promote", address)
    assert promoted.err == f"{address} has the role administrator\n"
    assert beray("admin", "promote", address, "--role", "user", "--json").json[0]["role"] == "user"
    assert beray("admin", "promote", address, "--role", "king").status == 2


def test_the_last_administrator_remains(beray: Command, admin: BeRayClient) -> None:
    for arguments in (["disable"], ["promote", "--role", "user"], ["delete", "--yes"]):
        outcome = beray("admin", *arguments, ADMIN_EMAIL)
        assert (outcome.status, outcome.out) == (1, "")
        assert "is the only administrator" in outcome.err
        assert "(409)" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["disable"], ["enable"], ["promote"], ["reset-password"], ["revoke-sessions"],
        ["delete", "--yes"], ["key", "--scope", "files"],
    ],
)  # fmt: skip
def test_an_unknown_account(beray: Command, admin: BeRayClient, arguments: list[str]) -> None:
    command, *options = arguments
    names = ["a@b.test", "name"] if command == "key" else ["a@b.test"]
    outcome = beray("admin", command, *names, *options)
    assert (outcome.status, outcome.out) == (1, "")
    assert "no account has the address a@b.test" in outcome.err


def test_an_account_is_deleted(beray: Command, admin: BeRayClient, address: str) -> None:
    refused = beray("admin", "delete", address)
    assert refused.status == 2
    assert "pass --yes" in refused.err
    deleted = beray("admin", "delete", address, "--yes")
    assert deleted.status == 0
    assert address in deleted.err
    assert beray("admin", "users", "--search", address).out == ""


def test_a_service_account_has_keys_only(
    beray: Command, admin: BeRayClient, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_address()
    created = beray("admin", "create", name, "--role", "service")
    assert (created.status, created.err) == (0, f"created {name} (service)\n")
    made = beray("admin", "key", name, "ci", "--scope", "tasks:read", "--expires", "1h")
    assert made.status == 0, made.err
    key = made.out.strip()
    assert key.startswith("sk-")
    assert key not in made.err
    assert beray("admin", "reset-password", name).status == 1
    person = beray("admin", "key", ADMIN_EMAIL, "ci")
    assert person.status == 1
    assert "is not a service account" in person.err
    login = ["login", "--url", server.url, "--email", name]
    assert beray(*login, stdin=f"{PASSWORD}\n").status == 1
    reset = ["password", "reset", "--url", server.url, "--email", name]
    assert beray(*reset, stdin=f"123456\n{OTHER}\n").status == 1
    monkeypatch.setenv("BERAY_TOKEN", key)
    assert beray("tasks").status == 0
    assert "scope tasks:write" in beray("run", "!true").err
    assert "API key" in beray("admin", "users").err


def test_invitations(beray: Command, admin: BeRayClient, server: RunningServer) -> None:
    name = f"o'hara+{new_address()}"
    invited = beray("admin", "invite", name, "--role", "administrator", "--expires", "2d")
    assert invited.status == 0, invited.err
    words = shlex.split(invited.out)
    assert words == ["beray", "register", "--url", server.url, "--email", name]
    assert "no mail was sent" in invited.err
    (found,) = [line for line in beray("admin", "invitations").out.splitlines() if name in line]
    assert found.startswith("administrator\t")
    assert beray("admin", "uninvite", name).status == 0
    again = beray("admin", "uninvite", name)
    assert again.status == 1
    assert f"{name} has no valid invitation" in again.err
    for arguments in (["no address"], [ADMIN_EMAIL]):
        assert beray("admin", "invite", *arguments).status == 1
    for arguments in (["a@b.test", "--expires", "soon"], ["a@b.test", "--role", "service"]):
        assert beray("admin", "invite", *arguments).status == 2


def test_an_invited_user_registers_with_the_printed_line(
    beray: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data_dir = tmp_path_factory.mktemp("invite") / "data"
    with RunningServer.start(data_dir, BERAY_REGISTRATION="invite") as server:
        with first_administrator(server) as client:
            login = ["login", "--url", server.url, "--email", ADMIN_EMAIL]
            assert beray(*login, stdin=f"{ADMIN_PASSWORD}\n").status == 0
            client.logout()
        name = new_address()
        refused = beray("register", "--email", name, "--profile", "new", "--url", server.url)
        assert refused.status == 1
        assert "has no valid invitation" in refused.err
        line = beray("admin", "invite", name).out
        arguments = [*shlex.split(line)[1:], "--profile", "new"]
        with server.client() as probe:
            probe.request_verification_code(name)
        stdin = f"{server.mailed_code(name)}\n{OTHER}\n"
        registered = beray(*arguments, stdin=stdin)  # the code of the first request is still valid
        assert registered.status == 0, registered.err


def test_the_audit_log(
    beray: Command, admin: BeRayClient, server: RunningServer, address: str
) -> None:
    assert beray("admin", "disable", address).status == 0
    entries = beray("admin", "audit", "--limit", "5", "--json").json
    assert entries[-1]["action"] == "account.disabled"
    assert entries[-1]["actor"] == ADMIN_EMAIL
    assert entries[-1]["object"] == address
    (line,) = beray("admin", "audit", "--after", str(entries[-2]["id"])).out.splitlines()
    assert line.split("\t")[0] == str(entries[-1]["id"])
    assert address in line
    with subprocess.Popen(
        program("admin", "audit", "--follow", "--json", "--after", str(entries[-2]["id"])),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    ) as following:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline()) == entries[-1]
        assert beray("admin", "enable", address).status == 0
        assert json.loads(following.stdout.readline())["action"] == "account.enabled"
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130
        assert following.stderr is not None
        assert following.stderr.read() == b""
    assert beray("admin", "audit", "--limit", "0").status == 2


def test_other_users_are_refused(
    beray: Command, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.sign_up() as user:
        use(user, monkeypatch)
        for arguments in (["users"], ["audit"], ["audit", "--follow"], ["invite", "a@b.test"]):
            outcome = beray("admin", *arguments)
            assert outcome.status == 1
            assert "Only administrators can do this. (403)" in outcome.err


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
def test_external_text_has_no_effect_on_the_terminal(scripted: ScriptedServer) -> None:
    from tests.cli.cli_terminal import Terminal

    user = {"id": 1, "email": EVIL, "role": EVIL, "last_sign_in_at": EVIL, "storage_bytes": 2048}
    entry = {
        "id": 1, "created_at": EVIL, "actor": EVIL, "address": EVIL, "action": EVIL,
        "object": EVIL, "request_id": EVIL,
    }  # fmt: skip
    invitation = {"email": EVIL, "role": EVIL, "expires_at": EVIL, "invited_by": EVIL}
    scripted.answers |= {
        "GET /admin/users": (200, {"users": [user], "next_after": None}),
        "GET /admin/audit": (200, [entry]),
        "GET /admin/invitations": (200, [invitation]),
        "POST /admin/invitations": (201, invitation),
        "DELETE /admin/users/1": (200, {"message": EVIL}),
        "POST /admin/users/1/reset-password": (200, {"email": EVIL, "password": EVIL}),
    }
    with Terminal(
        ["admin", "users"], ["admin", "audit"], ["admin", "invitations"], ["admin", "invite", "a"],
        ["admin", "reset-password", "a"], ["admin", "delete", "a"], PYTHONUTF8="1",
    ) as terminal:  # fmt: skip
        terminal.expect("2.0 KiB")
        terminal.expect("[y/N]")
        terminal.type("y\n")
        seen = terminal.end()
    assert seen.count("<exit 0>") == 6
    assert not {"\x1b", "\x07", "\u202e"} & set(seen)
