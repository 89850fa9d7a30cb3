"""beray apikey."""

from __future__ import annotations

import pytest
import requests

from beray import BeRayClient
from beray.testing import RunningServer
from tests.cli.cli_support import Command, ScriptedServer


def test_a_key_from_new_to_revoke(
    beray: Command, account: BeRayClient, beray_server: RunningServer
) -> None:
    assert "no API keys" in beray("apikey", "list").err
    made = beray("apikey", "new", "laptop", "--agent", "scout")
    assert made.status == 0, made.err
    # stdout has only the key, so it can be piped; stderr does not contain it.
    key = made.out.removesuffix("\n")
    assert key.startswith("sk-")
    assert "\n" not in key
    assert key not in made.err

    def exchanged() -> int:
        return requests.post(
            f"{beray_server.url}/v1/auth/convert_to_internal_token",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        ).status_code

    assert exchanged() == 200
    (listed,) = beray("apikey", "list", "--json").json
    assert (listed["name"], listed["agent_id"]) == ("laptop", "scout")
    line = beray("apikey", "list").out
    assert line.startswith(f"{listed['id']}\t{key[:8]}…\t")
    assert key not in line
    number = str(listed["id"])
    revoked = beray("apikey", "revoke", number)
    assert (revoked.status, revoked.out, revoked.err) == (0, "", "The API key is revoked.\n")
    assert exchanged() == 401
    again = beray("apikey", "revoke", number)
    assert again.status == 1
    assert f"API key {number} does not exist" in again.err


def test_json_has_all_fields(beray: Command, account: BeRayClient) -> None:
    (made,) = beray("apikey", "new", "n", "--json").json
    assert made["key"].startswith("sk-")
    assert made["agent_id"] is None
    (answer,) = beray("apikey", "revoke", str(made["id"]), "--json").json
    assert list(answer) == ["message"]


@pytest.mark.parametrize("arguments", [["new", ""], ["new", "n", "--agent", "a/b"]])
def test_the_message_of_the_server_is_shown(
    beray: Command, account: BeRayClient, arguments: list[str]
) -> None:
    outcome = beray("apikey", *arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert len(outcome.err.splitlines()) == 1
    assert account.list_api_keys() == []


def test_control_characters_are_replaced(beray: Command, scripted: ScriptedServer) -> None:
    evil = "\x1b]0;x\x07\u202e\tname\n"
    key = {
        "id": 1, "name": evil, "agent_id": evil, "start": evil, "created_at": evil, "key": evil
    }  # fmt: skip
    scripted.answers["GET /apikeys"] = (200, [key])
    scripted.answers["POST /apikeys"] = (201, key)
    scripted.answers["DELETE /apikeys/1"] = (200, {"message": evil})
    for arguments in (["list"], ["new", "n"], ["revoke", "1"]):
        outcome = beray("apikey", *arguments)
        assert outcome.status == 0
        for bad in ("\x1b", "\x07", "\u202e"):
            assert bad not in outcome.out + outcome.err
