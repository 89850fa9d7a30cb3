"""The routes of the gateway's files, over a socket."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from typing import Any

import pytest
import requests

from beray.testing import RunningServer
from tests.gateway_files import content, down, listed, removed, up, up_temp
from tests.gateway_support import Agent, refusal

MIB = 1024 * 1024


def test_an_upload_url_takes_a_file(agent: Agent) -> None:
    body = {"filename": "in put.pdf", "content_type": "application/pdf"}
    answer = agent.files("POST", "generate_upload_url", json=body).json()
    assert sorted(answer) == ["s3_url", "upload_url"]
    assert answer["s3_url"].startswith(f"s3://beray/agent-inputs/{agent.user_id}/")
    assert answer["s3_url"].endswith("/in put.pdf")
    assert refusal(down(agent, answer["s3_url"])) == (404, "FILE_NOT_FOUND")
    sent = requests.put(
        answer["upload_url"], b"%PDF", headers={"Content-Type": "application/pdf"}, timeout=30
    )
    assert sent.status_code == 200
    found = requests.get(down(agent, answer["s3_url"]).json()["presigned_url"], timeout=30)
    assert (found.content, found.headers["Content-Type"]) == (b"%PDF", "application/pdf")


def test_an_upload_is_kept_and_listed(agent: Agent) -> None:
    data = os.urandom(3 * MIB + 7)
    answer = up(agent, data, "out.bin")
    assert answer == {
        "success": True, "s3_url": answer["s3_url"], "filename": "out.bin", "size": len(data)
    }  # fmt: skip
    assert answer["s3_url"].startswith(f"s3://beray/agent-outputs/{agent.user_id}/scout/")
    assert content(agent, answer["s3_url"]) == data
    (found,) = agent.files("GET", "list").json()["files"]
    assert sorted(found) == ["key", "last_modified", "s3_url", "size"]
    assert found["s3_url"] == answer["s3_url"] == f"s3://beray/{found['key']}"
    assert found["size"] == len(data)
    assert found["last_modified"].endswith("Z")


def test_listing_by_pages(agent: Agent) -> None:
    for number in range(7):
        up(agent, b"", f"{number}.txt")
    everything = listed(agent)
    assert len(everything) == 7
    assert everything == sorted(everything)
    for limit in (1, 2, 6, 7, 8):
        assert listed(agent, limit=limit) == everything
    folder = f"agent-outputs/{agent.user_id}/scout/"
    prefix = everything[3].removeprefix(folder)[:8]
    assert listed(agent, prefix=prefix) == [
        key for key in everything if key.startswith(folder + prefix)
    ]
    assert listed(agent, prefix=everything[3]) == [everything[3]]
    assert listed(agent, prefix="../") == []
    up_temp(agent, session_id="one")
    assert len(listed(agent, "list_temp", prefix="on")) == 1
    assert listed(agent, "list_temp", prefix="two/") == []


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_files_by_pages(agent: Agent, count: int) -> None:
    folder = f"agent-outputs/{agent.user_id}/scout/"
    keys = [f"{folder}{number:06}/x" for number in range(count)]
    row = "INSERT INTO objects VALUES (?, ?, 1, '', NULL, '2026-01-01T00:00:00.000000Z')"
    with closing(sqlite3.connect(agent.server.data_dir / "beray.sqlite3", timeout=30)) as database:
        with database:
            database.executemany(row, [(key, key) for key in keys])
        assert listed(agent, limit=1000) == keys
        assert listed(agent, limit=1000, prefix="0029") == keys[2_900:3_000]
        with database:
            database.execute("DELETE FROM objects WHERE key LIKE ?", (f"{folder}%",))


@pytest.mark.parametrize("call", ["list", "list_temp"])
@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"limit": -1},
        {"continuation_token": ""}, {"continuation_token": "x"}, {"continuation_token": "////"},
        {"continuation_token": "YWdlbnQtb3V0cHV0cy8x"}, {"continuation_token": "ä" * 9},
        {"continuation_token": "A" * 5000},
    ],
)  # fmt: skip
def test_bad_pages_are_refused(agent: Agent, call: str, params: dict[str, Any]) -> None:
    answer = agent.files("GET", call, params=params)
    assert refusal(answer) == (422, "INVALID_INPUT")
    (problem,) = answer.json()["detail"]["errors"]
    assert problem["loc"][-1] in params


def test_another_agents_token_is_none_here(agent: Agent) -> None:
    other = Agent.of(agent.server, agent.account, "other")
    for _ in range(2):
        up(agent)
        up(other)
    token = agent.files("GET", "list", params={"limit": 1}).json()["next_token"]
    answer = other.files("GET", "list", params={"continuation_token": token})
    assert refusal(answer) == (422, "INVALID_INPUT")
    assert len(listed(other)) == 2


def test_a_file_is_removed(agent: Agent, beray_server: RunningServer) -> None:
    urls = [up(agent)["s3_url"], up_temp(agent).json()["s3_url"]]
    made = agent.files("POST", "generate_upload_url", json={"filename": "x"}).json()
    requests.put(made["upload_url"], b"y", timeout=30)
    another = Agent.of(agent.server, agent.account, "another")
    stranger = Agent.new(beray_server)
    for url in urls:
        assert refusal(removed(another, url)) == (403, "FORBIDDEN")
    for url in (*urls, made["s3_url"]):
        assert removed(stranger, url).json() == {"deleted_count": 0}
        assert down(agent, url).status_code == 200
        assert removed(agent, url).json() == {"deleted_count": 1}
        assert removed(agent, url).json() == {"deleted_count": 0}
        assert refusal(down(agent, url)) == (404, "FILE_NOT_FOUND")
    assert refusal(removed(agent, "s3://beray")) == (422, "INVALID_INPUT")
    assert refusal(agent.call("DELETE", "/internal/files")) == (422, "INVALID_INPUT")


def test_strangers_find_nothing(agent: Agent, beray_server: RunningServer) -> None:
    url = up(agent)["s3_url"]
    temporary = up_temp(agent, session_id="s").json()["s3_url"]
    stranger = Agent.new(beray_server)
    absent = down(stranger, url.replace(str(agent.user_id), str(stranger.user_id)))
    for wanted in (url, temporary):
        answer = down(stranger, wanted)
        assert refusal(answer) == (404, "FILE_NOT_FOUND")
        # Not even whether it is there.
        assert answer.json() == absent.json()
    assert listed(stranger) == listed(stranger, "list_temp") == []
    cleaned = stranger.files("DELETE", "cleanup_temp", params={"session_id": "s"})
    assert cleaned.json() == {"deleted_count": 0}
    assert content(agent, temporary) == b"data"


@pytest.mark.parametrize(
    ("s3_url", "status"),
    [
        ("", 422), ("https://example.test/x", 422), ("s3://", 422), ("s3://beray", 422),
        ("s3://other/agent-inputs/1/x", 422), ("s3://beray/agent-inputs/{me}/../{me}/x", 422),
        ("s3://beray//agent-inputs/{me}/x", 422), ("s3://beray/agent-inputs/{me}/x\x00", 422),
        ("s3://beray/agent-inputs/{me}/" + "x" * 1100, 422), ("S3://beray/agent-inputs/{me}/x", 422),
        ("s3://beray/agent-inputs/{me}", 404), ("s3://beray/{me}/{me}/{me}", 404),
        ("s3://beray/agent-inputs/{me}/%2e%2e/x", 404), ("s3://beray/agent-inputs/ {me}/x", 404),
    ],
)  # fmt: skip
def test_bad_urls_are_refused(agent: Agent, s3_url: str, status: int) -> None:
    answer = down(agent, s3_url.replace("{me}", str(agent.user_id)))
    assert answer.status_code == status, answer.text
    assert refusal(answer)[1] == ("INVALID_INPUT" if status == 422 else "FILE_NOT_FOUND")


@pytest.mark.parametrize(
    "params",
    [{"mode": "direct"}, {"expires_in": 0}, {"expires_in": 604801}, {"expires_in": "soon"}],
)
def test_bad_downloads_are_refused(agent: Agent, params: dict[str, Any]) -> None:
    assert refusal(down(agent, up(agent)["s3_url"], **params)) == (422, "INVALID_INPUT")


def test_agents_are_needed(beray_server: RunningServer) -> None:
    somebody = Agent.new(beray_server, None)
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "upload", {"files": {"file": b"x"}}),
        ("POST", "upload_temp", {"files": {"file": b"x"}}),
        ("GET", "list", {}),
        ("GET", "list_temp", {}),
        ("GET", "list_temp", {"params": {"session_id": "s"}}),
        ("DELETE", "cleanup_temp", {"params": {"session_id": "s"}}),
    ]
    for method, call, options in calls:
        answer = somebody.files(method, call, **options)
        assert refusal(answer) == (400, "MISSING_AGENT_CONTEXT"), call
    made = somebody.files("POST", "generate_upload_url", json={"filename": "x"})
    assert requests.put(made.json()["upload_url"], b"y", timeout=30).status_code == 200
    assert content(somebody, made.json()["s3_url"]) == b"y"


def test_nobody_gets_anything(beray_server: RunningServer) -> None:
    calls = [
        ("POST", "generate_upload_url"), ("POST", "upload"), ("POST", "upload_temp"),
        ("GET", "download"), ("GET", "list"), ("GET", "list_temp"), ("DELETE", "cleanup_temp"),
    ]  # fmt: skip
    for method, call in calls:
        answer = requests.request(method, f"{beray_server.url}/internal/files/{call}", timeout=30)
        assert refusal(answer) == (401, "NOT_AUTHENTICATED")


def test_sessions_are_cleaned(agent: Agent) -> None:
    one = up_temp(agent, session_id="one", ttl="60").json()
    up_temp(agent, session_id="one")
    two = up_temp(agent, session_id="one.more").json()
    none = up_temp(agent).json()
    assert sorted(one) == ["filename", "s3_url", "size", "success"]
    folder = f"agent-workspace/{agent.user_id}/scout"
    assert one["s3_url"].startswith(f"s3://beray/{folder}/one/")
    assert none["s3_url"].startswith(f"s3://beray/{folder}/-/")
    assert len(listed(agent, "list_temp")) == 4
    assert len(listed(agent, "list_temp", session_id="one", limit=1)) == 2
    assert listed(agent) == []
    cleaned = agent.files("DELETE", "cleanup_temp", params={"session_id": "one"})
    assert (cleaned.status_code, cleaned.json()) == (200, {"deleted_count": 2})
    cleaned = agent.files("DELETE", "cleanup_temp", params={"session_id": "one"})
    assert cleaned.json() == {"deleted_count": 0}
    assert refusal(down(agent, one["s3_url"])) == (404, "FILE_NOT_FOUND")
    assert content(agent, two["s3_url"]) == content(agent, none["s3_url"]) == b"data"


@pytest.mark.parametrize(
    "fields",
    [
        {"ttl": "0"}, {"ttl": "-1"}, {"ttl": "1.5"}, {"ttl": "x"}, {"ttl": "٣"}, {"ttl": "2592001"},
        {"ttl": "9" * 50}, {"ttl": "000000001999999999999"}, {"ttl": "1" + "0" * 4000}, {"session_id": "a/b"}, {"session_id": ".."}, {"session_id": "a b"},
        {"session_id": "a\n"}, {"session_id": "ä"}, {"session_id": "x" * 129},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(agent: Agent, fields: dict[str, Any]) -> None:
    answer = up_temp(agent, **fields)
    assert refusal(answer) == (422, "INVALID_INPUT")
    assert answer.json()["detail"]["errors"][0]["loc"] == list(fields)
    assert listed(agent, "list_temp") == []
    if "session_id" in fields:
        for method, call in (("GET", "list_temp"), ("DELETE", "cleanup_temp")):
            refused = agent.files(method, call, params=fields)
            assert refusal(refused) == (422, "INVALID_INPUT")


def test_bodies_that_are_no_json_are_refused(agent: Agent) -> None:
    for body in ("", "{", "[]", "null", json.dumps({"filename": 1}), '{"filename": NaN}'):
        answer = agent.files("POST", "generate_upload_url", data=body)
        assert refusal(answer) == (422, "INVALID_INPUT"), body
