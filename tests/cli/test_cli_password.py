"""beray password."""

from __future__ import annotations

import os

import pytest

from beray import AuthenticationError, BeRayClient
from beray.config import Profiles
from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.account_servers import Outbox
from tests.cli.cli_support import Command, Script, ScriptedServer
from tests.support import new_address, until

OTHER = "another fine passphrase"


@pytest.fixture
def address(account: BeRayClient) -> str:
    return account.get_current_user()["email"] or ""


def test_a_forgotten_password_is_replaced(
    beray: Command,
    beray_server: RunningServer,
    address: str,
    account: BeRayClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BERAY_TOKEN")
    outbox = Outbox(beray_server, address)
    outcome = beray(
        "password", "reset", "--profile", "work", stdin=Script(address, outbox.new_code, OTHER)
    )
    assert (outcome.status, outcome.out) == (0, ""), outcome.err
    assert "If the address has an account" in outcome.err
    assert OTHER not in outcome.err
    saved = Profiles().get("work")
    assert saved is not None
    assert saved.email == address
    assert beray("whoami").status == 0
    with pytest.raises(AuthenticationError):
        account.get_current_user()
    assert beray("login", "--email", address, stdin=f"{PASSWORD}\n").status == 1
    assert beray("login", "--email", address, stdin=f"{OTHER}\n").status == 0


def test_a_wrong_code_changes_nothing(beray: Command, address: str) -> None:
    outcome = beray("password", "reset", "--email", address, stdin=f"wrong\n{OTHER}\n")
    assert outcome.status == 1
    assert "(422)" in outcome.err
    assert Profiles().names() == []
    assert beray("whoami").status == 0


def test_an_unknown_address_is_not_revealed(beray: Command, account: BeRayClient) -> None:
    unknown = beray("password", "reset", "--email", new_address(), stdin=f"123456\n{OTHER}\n")
    assert unknown.status == 1
    assert "If the address has an account" in unknown.err
    assert "The code is wrong" in unknown.err


def test_a_code_that_was_sent_before_can_be_used(beray: Command, scripted: ScriptedServer) -> None:
    session = {"access_token": "t0", "token_type": "bearer", "user": {"id": 1, "email": "a@b"}}
    scripted.answers |= {
        "POST /auth/request-password-reset": (429, {"detail": "One mail a minute."}),
        "POST /auth/reset-password": (200, session),
    }
    outcome = beray("password", "reset", "--email", "a@b", "--json", stdin="123456\nlong enough\n")
    assert outcome.status == 0
    assert "One mail a minute." in outcome.err
    assert outcome.json[0]["email"] == "a@b"


def test_the_password_is_changed(beray: Command, beray_server: RunningServer, address: str) -> None:
    with beray_server.client() as other:
        other.login(address, PASSWORD)
    wrong = beray("password", "change", stdin=f"not the password\n{OTHER}\n")
    assert wrong.status == 1
    assert "The password is wrong. (403)" in wrong.err
    common = beray("password", "change", stdin=f"{PASSWORD}\npassword123\n")
    assert common.status == 1
    assert "common" in common.err
    outcome = beray("password", "change", "--json", stdin=f"{PASSWORD}\n{OTHER}\n")
    assert outcome.status == 0, outcome.err
    assert "Other sessions were ended" in outcome.json[0]["message"]
    assert len(beray("sessions", "--json").json) == 1
    assert beray("login", "--email", address, stdin=f"{OTHER}\n").status == 0


@pytest.mark.parametrize("stdin_text", ["", f"{PASSWORD}\n", "\n"])
def test_input_that_ends_too_early_is_wrong_usage(
    beray: Command, scripted: ScriptedServer, stdin_text: str
) -> None:
    outcome = beray("password", "change", stdin=stdin_text)
    assert outcome.status == 2
    assert "stdin" in outcome.err
    assert scripted.requests == []


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
def test_a_new_password_is_typed_twice_at_the_terminal(beray: Command, address: str) -> None:
    from tests.cli.cli_terminal import Terminal

    answers = [
        ("Current password:", PASSWORD), ("New password:", "one thing"),
        ("New password again:", "another thing"), ("New password:", OTHER),
        ("New password again:", OTHER),
    ]  # fmt: skip
    with Terminal(["password", "change"]) as terminal:
        for question, answer in answers:
            terminal.expect(question)
            until(lambda: not terminal.echoes())
            terminal.type(f"{answer}\n")
        terminal.expect("The password was changed.")
        terminal.expect("<exit 0>")
    assert "Passwords do not match." in terminal.seen
    assert OTHER not in terminal.seen
