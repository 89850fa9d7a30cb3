"""beray register, login, logout, whoami and server."""

from __future__ import annotations

import json
import os
import secrets
import zipfile
from pathlib import Path

import pytest

from beray.config import Profiles
from beray.exceptions import AuthenticationError
from beray.testing import RunningServer
from tests.account_servers import Outbox
from tests.cli.cli_support import Command, Script, ScriptedServer
from tests.support import until

PASSWORD = "a very private password"


@pytest.fixture
def address() -> str:
    return f"someone-{secrets.token_hex(6)}@example.test"


def test_an_account_from_register_to_logout(
    beray: Command, beray_server: RunningServer, address: str, own_home: Path
) -> None:
    url = beray_server.url
    stdin = Script(address, lambda: beray_server.mailed_code(address), PASSWORD)
    outcome = beray("register", "--url", url, "--profile", "work", stdin=stdin)
    assert outcome.status == 0, outcome.err
    assert outcome.out == ""
    assert PASSWORD not in outcome.err

    saved = Profiles().get("work")
    assert saved is not None
    assert (saved.url, saved.email) == (url, address)
    (me,) = beray("whoami", "--json").json
    assert me == {"email": address, "server": url, "profile": "work"}
    assert beray("tasks").status == 0

    outcome = beray("logout")
    assert outcome.status == 0
    assert saved.token is not None
    assert saved.token not in outcome.err
    with beray_server.client(saved.token) as old, pytest.raises(AuthenticationError):
        old.get_current_user()
    assert beray("whoami", "--url", url).status == 1
    still = Profiles().get("work")
    assert still is not None
    assert (still.email, still.token) == (address, None)

    outcome = beray("login", "--email", address, stdin=f"{PASSWORD}\n")
    assert outcome.status == 0, outcome.err
    again = Profiles().get("work")
    assert again is not None
    assert again.token not in (None, saved.token)
    if os.name == "posix":
        assert (own_home / "beray" / "profiles.json").stat().st_mode & 0o777 == 0o600


def test_logout_ends_the_session_on_the_server(
    beray: Command, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BERAY_TOKEN")
    scripted.answers |= {
        "POST /auth/login": (
            200,
            {"access_token": "t0", "token_type": "bearer", "user": {"id": 1, "email": "a@b"}},
        ),
        "POST /auth/logout": (200, {"message": "bye"}),
    }
    outcome = beray("login", stdin="a@b\nsecret word\n")
    assert outcome.status == 0
    assert json.loads(scripted.requests[0].body) == {"email": "a@b", "password": "secret word"}
    assert "t0" not in outcome.err + outcome.out
    assert beray("logout").status == 0
    assert scripted.requests[-1].headers["Authorization"] == "Bearer t0"
    assert beray("logout").status == 0
    assert scripted.calls() == ["POST /auth/login", "POST /auth/logout"]


def test_logout_removes_the_session_if_the_server_is_unreachable(
    beray: Command, scripted: ScriptedServer
) -> None:
    session = {"access_token": "t0", "token_type": "bearer", "user": {"id": 1, "email": "a@b"}}
    scripted.answers |= {
        "POST /auth/login": (200, session),
        "POST /auth/logout": (500, {"detail": "oh"}),
    }
    assert beray("login", "--profile", "p", stdin="a@b\nsecret word\n").status == 0
    outcome = beray("logout", "--profile", "p")
    assert outcome.status == 1
    assert "the session was removed here" in outcome.err
    profile = Profiles().get("p")
    assert profile is not None
    assert profile.token is None


def test_a_wrong_password_is_an_error_of_the_server(
    beray: Command, beray_server: RunningServer, address: str
) -> None:
    stdin = f"{address}\nwrong password\n"
    outcome = beray("login", "--url", beray_server.url, stdin=stdin)
    assert outcome.status == 1
    assert "401" in outcome.err
    assert "beray login" not in outcome.err
    assert "wrong password" not in outcome.err
    assert Profiles().names() == []


@pytest.mark.parametrize("stdin_text", ["", "a@b", "a@b\n", "\n"])
def test_input_that_ends_too_early_is_wrong_usage(
    beray: Command, scripted: ScriptedServer, stdin_text: str
) -> None:
    outcome = beray("login", stdin=stdin_text)
    assert outcome.status == 2
    assert "stdin" in outcome.err
    assert scripted.requests == []


def test_a_code_that_was_sent_before_can_be_used(beray: Command, scripted: ScriptedServer) -> None:
    session = {"access_token": "t0", "token_type": "bearer", "user": {"id": 1, "email": "a@b"}}
    scripted.answers |= {
        "POST /auth/request-verification-code": (429, {"detail": "One mail a minute."}),
        "POST /auth/register": (200, session),
    }
    outcome = beray("register", "--email", "a@b", "--json", stdin="123456\nlong enough\n")
    assert outcome.status == 0
    assert "One mail a minute." in outcome.err
    assert outcome.json[0]["email"] == "a@b"
    body = json.loads(scripted.requests[-1].body)
    assert body == {"email": "a@b", "verification_code": "123456", "password": "long enough"}
    assert "Authorization" not in scripted.requests[-1].headers


def test_the_profile_of_the_local_server_is_reserved(
    beray: Command, scripted: ScriptedServer
) -> None:
    outcome = beray("login", "--profile", "local")
    assert outcome.status == 2
    assert "local" in outcome.err


def test_a_password_is_never_an_argument(beray: Command, scripted: ScriptedServer) -> None:
    for command in ("login", "register"):
        for option in ("--password", "--code"):
            assert beray(command, option, "x").status == 2
    assert scripted.requests == []


@pytest.fixture
def signed_in(beray: Command, beray_server: RunningServer, address: str) -> str:
    """Return the address of a new account that the command is signed in to, in a profile."""
    with beray_server.sign_up(address, PASSWORD):
        outcome = beray(
            "login", "--url", beray_server.url, "--profile", "me", "--email", address,
            stdin=f"{PASSWORD}\n",
        )  # fmt: skip
    assert outcome.status == 0, outcome.err
    return address


def test_the_address_is_changed(
    beray: Command, beray_server: RunningServer, signed_in: str
) -> None:
    new = f"new-{signed_in}"
    boxes = Outbox(beray_server, signed_in), Outbox(beray_server, new)
    wrong = beray("account", "email", new, stdin="wrong password\n")
    assert (wrong.status, wrong.out) == (1, "")
    assert "The password is wrong. (403)" in wrong.err
    stdin = Script(PASSWORD, boxes[0].new_code, boxes[1].new_code)
    changed = beray("account", "email", new, "--json", stdin=stdin)
    assert changed.status == 0, changed.err
    assert changed.json[0]["email"] == new
    assert PASSWORD not in changed.err
    saved = Profiles().get("me")
    assert saved is not None
    assert saved.email == new
    assert beray("whoami", "--json").json[0]["email"] == new


def test_a_wrong_code_does_not_change_the_address(
    beray: Command, beray_server: RunningServer, signed_in: str
) -> None:
    stdin = Script(PASSWORD, "wrong", "code")
    outcome = beray("account", "email", f"new-{signed_in}", stdin=stdin)
    assert outcome.status == 1
    assert "(422)" in outcome.err
    assert beray("whoami", "--json").json[0]["email"] == signed_in


def test_the_data_is_exported(beray: Command, signed_in: str) -> None:
    assert beray("run", "!echo hello > hello.txt").status == 0
    (saved,) = beray("account", "export", "--json").json
    assert saved["local"] == "beray-export.zip"
    with zipfile.ZipFile("beray-export.zip") as archive:
        assert [n for n in archive.namelist() if n.endswith("files/hello.txt")]
    again = beray("account", "export")
    assert again.status == 1
    assert "--force" in again.err
    assert beray("account", "export", "--force", "-o", "beray-export.zip").status == 0
    for target, status in (("-", 2), ("no/such/folder", 1)):
        assert beray("account", "export", "-o", target).status == status
    assert os.listdir() == ["beray-export.zip"]


def test_an_account_is_deleted(beray: Command, signed_in: str) -> None:
    refused = beray("account", "delete", stdin=f"{PASSWORD}\n")
    assert refused.status == 2
    assert "stdin is not a terminal; pass --yes" in refused.err
    wrong = beray("account", "delete", "--yes", stdin="wrong password\n")
    assert wrong.status == 1
    assert "(403)" in wrong.err
    assert beray("account", "delete", "--yes").status == 2  # no password
    assert beray("whoami").status == 0
    deleted = beray("account", "delete", "--yes", stdin=f"{PASSWORD}\n")
    assert (deleted.status, deleted.out) == (0, "")
    assert "deleted" in deleted.err
    saved = Profiles().get("me")
    assert saved is not None
    assert (saved.email, saved.token) == (signed_in, None)
    assert beray("login", stdin=f"{signed_in}\n{PASSWORD}\n").status == 1


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
def test_a_deletion_is_confirmed_at_the_terminal(beray: Command, signed_in: str) -> None:
    from tests.cli.cli_terminal import Terminal

    with Terminal(["account", "delete"], ["account", "delete"]) as terminal:
        terminal.expect(f"Delete {signed_in} on")
        terminal.expect("[y/N]")
        terminal.type("n\n")
        terminal.expect("nothing was deleted")
        terminal.expect("<exit 1>")
        terminal.expect("[y/N]")
        terminal.type("y\n")
        terminal.expect("Password:")
        until(lambda: not terminal.echoes())
        terminal.type(f"{PASSWORD}\n")
        terminal.expect("<exit 0>")
    assert PASSWORD not in terminal.seen
    assert beray("whoami").status == 1


def test_commands_of_the_account_need_a_server_with_accounts(beray: Command) -> None:
    for arguments in (
        ["account", "delete", "--yes"], ["account", "email", "a@b"], ["password", "change"],
        ["password", "reset"], ["sessions"], ["sessions", "revoke", "--all"], ["admin", "users"],
    ):  # fmt: skip
        outcome = beray(*arguments)
        assert outcome.status == 2
        assert "no server configured" in outcome.err
