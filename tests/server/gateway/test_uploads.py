"""Uploads to the gateway: file names, forms, and rejected uploads."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.gateway_files import content, down, listed, up
from tests.gateway_support import Agent, refusal
from tests.support import until

MIB = 1024 * 1024


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
        ('a"b.txt', 'a"b.txt'),
        ("a\r\nb.txt", "a_b.txt"),
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
            f"POST /internal/files/upload HTTP/1.1\r\nHost: localhost\r\nX-Internal-Token: {agent.token}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9000000\r\n\r\n"
        )
        connection.sendall(head.encode() + PART + b"x" * 4 * MIB)
        until(lambda: sum(path.is_file() for path in folder.rglob("*")) == before + 1)
    until(lambda: sum(path.is_file() for path in folder.rglob("*")) == before)
    assert listed(agent) == []


def test_fields_may_stand_behind_the_file(agent: Agent) -> None:
    def field(name: str, value: str) -> bytes:
        head = f'\r\n--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'
        return head.encode()

    body = PART + field("ttl", "60") + field("session_id", "behind") + b"\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = agent.files("POST", "upload_temp", data=body, headers=headers)
    assert answer.ok, answer.text
    assert answer.json()["size"] == 4 and "/behind/" in answer.json()["s3_url"]
    late = PART + field("ttl", "never") + b"\r\n--b--\r\n"
    refused = agent.files("POST", "upload_temp", data=late, headers=headers)
    assert refused.status_code == 422
    listed = agent.files("GET", "list_temp").json()["files"]
    assert [one["s3_url"] for one in listed] == [answer.json()["s3_url"]]
