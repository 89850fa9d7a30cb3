"""The routes of the gateway's files, over a socket."""

from __future__ import annotations

import json
import os
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from gateway_support import Agent, refusal
from support import until

from beray.testing import RunningServer

MIB = 1024 * 1024


def up(agent: Agent, data: bytes = b"data", name: str = "a.txt") -> dict[str, Any]:
    answer = agent.files("POST", "upload", files={"file": (name, data, "text/plain")})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def up_temp(agent: Agent, data: bytes = b"data", **fields: Any) -> requests.Response:
    return agent.files("POST", "upload_temp", files={"file": ("t.txt", data)}, data=fields)


def down(agent: Agent, s3_url: str, **params: Any) -> requests.Response:
    return agent.files("GET", "download", params={"s3_url": s3_url, "mode": "presigned", **params})


def content(agent: Agent, s3_url: str) -> bytes:
    answer = down(agent, s3_url)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["presigned_url"]
    return requests.get(answer.json()["presigned_url"], timeout=30).content


def listed(agent: Agent, call: str = "list", **params: Any) -> list[str]:
    """The keys of all pages."""
    keys: list[str] = []
    token = None
    while True:
        answer = agent.files("GET", call, params=params | {"continuation_token": token}).json()
        keys += [found["key"] for found in answer["files"]]
        if "next_token" not in answer:
            return keys
        token = answer["next_token"]


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
    assert listed(agent, prefix="../") == []


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


NAMES = [
    ("../../etc/passwd", "passwd"),
    ("..\\..\\boot.ini", "boot.ini"),
    ("C:\\temp\\x.txt", "x.txt"),
    ("a\x1b[31mb.txt", "ab.txt"),
    ("a\r\nb.txt", "a_b.txt"),
    ("a\x00b.txt", "a\u2400b.txt"),
    ("a\u202egnp.exe", "a\ufffdgnp.exe"),
    ("ünï cödé 名.txt", "ünï cödé 名.txt"),
    ("a#b?c%2Fd&e+f.txt", "a#b?c%2Fd&e+f.txt"),
    ("<b>[red]'\"`$(x).txt", "<b>[red]'\"`$(x).txt"),
    ("x" * 300 + ".tar", "x" * 251 + ".tar"),
    ("ä" * 300 + ".tar", "ä" * 125 + ".tar"),
]


@pytest.mark.parametrize(("name", "kept"), NAMES)
def test_hostile_names_become_plain(agent: Agent, name: str, kept: str) -> None:
    answer = agent.files("POST", "generate_upload_url", json={"filename": name}).json()
    assert answer["s3_url"].rpartition("/")[2] == kept
    assert answer["s3_url"].startswith(f"s3://beray/agent-inputs/{agent.user_id}/")
    assert requests.put(answer["upload_url"], b"data", timeout=30).status_code == 200
    assert content(agent, answer["s3_url"]) == b"data"
    found = requests.get(down(agent, answer["s3_url"]).json()["presigned_url"], timeout=30)
    assert found.headers["Content-Disposition"].startswith("attachment; filename*=UTF-8''")
    assert found.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["", ".", "..", "a/", "a/..", "  ", "\\", "x" * 5000])
def test_what_is_no_name_is_refused(agent: Agent, name: str) -> None:
    answer = agent.files("POST", "generate_upload_url", json={"filename": name})
    assert refusal(answer) == (422, "INVALID_INPUT")


def test_names_of_forms(agent: Agent) -> None:
    for name, kept in (
        ("ünï 名.txt", "ünï 名.txt"),
        ("../x/y.txt", "y.txt"),
    ):
        assert up(agent, name=name)["filename"] == kept


def form(
    agent: Agent, body: Any, kind: str = "multipart/form-data; boundary=b"
) -> requests.Response:
    return agent.files("POST", "upload", data=body, headers={"Content-Type": kind})


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\ndata'


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"no form", 422),
        (PART, 400),
        (PART + b"\r\n--b", 400),
        (PART + b"\r\n--b\r\n", 400),
        (PART + b"\r\n" + PART + b"\r\n--b--\r\n", 422),
        (PART + b'\r\n--b\r\nContent-Disposition: form-data; name="ttl"\r\n\r\n5\r\n--b--', 422),
        (PART.replace(b'"file"', b'"other"') + b"\r\n--b--", 422),
        (PART.replace(b'; filename="x"', b"") + b"\r\n--b--", 422),
        (PART.replace(b'"x"', b'"\xff"') + b"\r\n--b--", 422),
        (PART.replace(b'"x"', b'""') + b"\r\n--b--", 422),
        (b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\n", 422),
        (b"--b\r\nX: " + b"y" * 100_000, 422),
        (b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + b"y" * 100_000, 422),
        (b"".join(b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\ny\r\n' % n for n in range(30)), 422),
    ],
)  # fmt: skip
def test_damaged_forms_leave_nothing(agent: Agent, body: bytes, status: int) -> None:
    answer = form(agent, body)
    assert answer.status_code == status, answer.text
    assert refusal(answer)[1] == ("INVALID_INPUT" if status == 422 else "CUT_OFF")
    assert listed(agent) == []
    assert form(agent, PART + b"\r\n--b--\r\n").status_code == 200


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary=" + "b" * 999]
)
def test_what_is_no_form_is_refused(agent: Agent, kind: str) -> None:
    assert refusal(form(agent, PART, kind)) == (422, "INVALID_INPUT")


def test_an_upload_that_breaks_off_leaves_nothing(agent: Agent) -> None:
    place = urlsplit(agent.server.url)
    folder = agent.server.data_dir / "objects"
    before = sum(path.is_file() for path in folder.rglob("*"))
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        head = (
            f"POST /internal/files/upload HTTP/1.1\r\nHost: x\r\nX-Internal-Token: {agent.token}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
        )
        connection.sendall(head.encode() + PART + b"x" * 4 * MIB)
        until(lambda: sum(path.is_file() for path in folder.rglob("*")) == before + 1)
    until(lambda: sum(path.is_file() for path in folder.rglob("*")) == before)
    assert listed(agent) == []


def test_agents_are_needed(beray_server: RunningServer) -> None:
    somebody = Agent.new(beray_server, None)
    calls = [
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
        {"ttl": "9" * 50}, {"session_id": "a/b"}, {"session_id": ".."}, {"session_id": "a b"},
        {"session_id": "a\n"}, {"session_id": "ä"}, {"session_id": "x" * 129},
    ],
)  # fmt: skip
def test_bad_fields_are_refused(agent: Agent, fields: dict[str, str]) -> None:
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
