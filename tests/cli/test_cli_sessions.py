"""beray sessions."""

from __future__ import annotations

import os

import pytest

from beray import AuthenticationError, BeRayClient
from beray.config import Profiles
from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.cli.cli_support import Command, ScriptedServer

EVIL = "\x1b]0;x\x07\u202e\tdevice\n"


def test_sessions_are_listed_and_revoked(
    beray: Command, beray_server: RunningServer, account: BeRayClient
) -> None:
    address = account.get_current_user()["email"] or ""
    with beray_server.client() as second, beray_server.client() as third:
        second.login(address, PASSWORD)
        third.login(address, PASSWORD)
        listed = beray("sessions", "--json").json
        assert [entry["current"] for entry in listed].count(True) == 1
        rows = [line.split("\t") for line in beray("sessions").out.splitlines()]
        assert len(rows) == 3
        assert {row[0] for row in rows} == {entry["id"] for entry in listed}
        assert {row[1] for row in rows} == {"current", ""}
        (own,) = [entry["id"] for entry in second.list_sessions() if entry["current"]]
        revoked = beray("sessions", "revoke", own)
        assert (revoked.status, revoked.err) == (0, "The session was ended.\n")
        with pytest.raises(AuthenticationError):
            second.get_current_user()
        missing = beray("sessions", "revoke", own)
        assert missing.status == 1
        assert f"Session {own} does not exist. (404)" in missing.err
        assert beray("sessions", "revoke", "--others", "--json").json == [
            {"message": "1 session ended."}
        ]
        with pytest.raises(AuthenticationError):
            third.get_current_user()
    assert beray("whoami").status == 0


@pytest.mark.parametrize("which", ["--all", "ID"])
def test_the_profile_forgets_its_revoked_session(
    beray: Command, beray_server: RunningServer, which: str
) -> None:
    with beray_server.sign_up() as client:
        address = client.get_current_user()["email"] or ""
    url = beray_server.url
    assert beray("login", "--url", url, stdin=f"{address}\n{PASSWORD}\n").status == 0
    (name,) = Profiles().names()
    if which == "ID":
        (which,) = [entry["id"] for entry in beray("sessions", "--json").json if entry["current"]]
    assert beray("sessions", "revoke", which).status == 0
    saved = Profiles().get(name)
    assert saved is not None
    assert (saved.email, saved.token) == (address, None)
    outcome = beray("sessions")
    assert outcome.status == 1
    assert "beray login" in outcome.err


@pytest.mark.parametrize(
    "arguments", [[], ["a", "--all"], ["--others", "--all"], ["a", "--others"]]
)
def test_one_of_id_others_and_all_is_required(
    beray: Command, scripted: ScriptedServer, arguments: list[str]
) -> None:
    outcome = beray("sessions", "revoke", *arguments)
    assert outcome.status == 2
    assert "pass one of ID, --others and --all" in outcome.err
    assert scripted.requests == []


def test_options_before_the_subcommand_are_used(
    beray: Command, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BERAY_URL")
    scripted.answers["DELETE /sessions"] = (200, {"message": "2 sessions ended."})
    outcome = beray("sessions", "--url", scripted.url, "revoke", "--others")
    assert outcome.status == 0, outcome.err
    assert scripted.requests[0].query == "others=true"
    assert beray("sessions", "--json", "revoke", "--others").status == 2


def test_an_api_key_is_not_a_session(
    beray: Command, account: BeRayClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = beray("apikey", "new", "script", "--scope", "tasks:read", "--expires", "12h", "--json")
    (key,) = made.json
    assert key["scopes"] == ["tasks:read"]
    assert key["expires_at"] > key["created_at"]
    monkeypatch.setenv("BERAY_TOKEN", key["key"])
    assert beray("tasks").status == 0
    assert beray("whoami").status == 0
    refused = beray("sessions")
    assert refused.status == 1
    assert "an API key does not permit it" in refused.err
    assert "scope tasks:write" in beray("run", "!true").err


@pytest.mark.skipif(os.name != "posix", reason="pseudo terminals are POSIX")
def test_external_text_has_no_effect_on_the_terminal(scripted: ScriptedServer) -> None:
    from tests.cli.cli_terminal import Terminal

    scripted.answers["GET /sessions"] = (
        200,
        [{"id": EVIL, "current": True, "device": EVIL, "address": EVIL, "last_used_at": EVIL}],
    )
    with Terminal(["sessions"], PYTHONUTF8="1") as terminal:
        seen = terminal.end()
    assert "<exit 0>" in seen
    assert "current" in seen
    assert not {"\x1b", "\x07", "\u202e"} & set(seen)
