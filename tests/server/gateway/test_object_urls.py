"""Presigned URLs of the local store: one method on one object for a limited time."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import stat
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests

from beray.server.objects.signing import (
    InvalidSignature,
    SignatureExpired,
    UrlSigner,
    load_or_create_secret,
)
from beray.testing import RunningServer
from tests.gateway_support import Agent, refusal
from tests.support import WITHOUT_BUBBLEWRAP, until

DATA = bytes(range(256)) * 40


def put_url(agent: Agent, name: str = "x.bin") -> tuple[str, str]:
    answer = agent.files("POST", "generate_upload_url", json={"filename": name}).json()
    return answer["upload_url"], answer["s3_url"]


def get_url(agent: Agent, s3_url: str, expires_in: int = 60) -> str:
    params = {"s3_url": s3_url, "mode": "presigned", "expires_in": expires_in}
    return str(agent.files("GET", "download", params=params).json()["presigned_url"])


@pytest.fixture
def uploaded(agent: Agent) -> str:
    url, s3_url = put_url(agent)
    assert requests.put(url, DATA, timeout=30).status_code == 200
    return s3_url


def test_a_url_is_good_for_one_method(agent: Agent, uploaded: str) -> None:
    url = get_url(agent, uploaded)
    assert requests.get(url, timeout=30).content == DATA
    for method in ("PUT", "DELETE", "POST", "PATCH", "OPTIONS"):
        for changed in (url, url.replace("method=GET", f"method={method}")):
            answer = requests.request(method, changed, data=b"x", timeout=30)
            assert refusal(answer) == (403, "INVALID_SIGNATURE"), method
    # A URL for GET does not permit HEAD.
    assert requests.head(url, timeout=30).status_code == 403
    assert requests.get(url, timeout=30).content == DATA
    upload, target = put_url(agent)
    assert requests.put(upload, b"first", timeout=30).status_code == 200
    for changed in (upload, upload.replace("method=PUT", "method=GET")):
        assert refusal(requests.get(changed, timeout=30)) == (403, "INVALID_SIGNATURE")
    for changed in (upload.replace("method=PUT", "method=GET"), upload.replace("method=PUT&", "")):
        answer = requests.put(changed, b"second", timeout=30)
        assert refusal(answer) == (403, "INVALID_SIGNATURE")
    assert requests.get(get_url(agent, target), timeout=30).content == b"first"


def tampered(url: str, other_key: str) -> list[str]:
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    fields = dict(field.split("=") for field in parts.query.split("&"))
    signature, expires = fields["signature"], fields["expires"]
    last = "0" if signature[-1] != "0" else "1"

    def with_fields(**changes: str) -> str:
        query = "&".join(f"{name}={value}" for name, value in (fields | changes).items())
        return f"{base}{parts.path}?{query}"

    return [
        f"{base}{parts.path}",
        with_fields(signature=""),
        with_fields(signature=signature[:-1] + last),
        with_fields(signature=signature[:-1]),
        with_fields(signature=signature + "0"),
        with_fields(signature=signature.upper()),
        with_fields(signature="%C3%A4" * 64),
        with_fields(signature="%FF%00"),
        with_fields(expires=str(int(expires) + 1)),
        with_fields(expires="9" * 12),
        with_fields(expires="9" * 5000),
        with_fields(expires="0" + expires),
        with_fields(expires="+" + expires),
        with_fields(expires=""),
        with_fields(expires="never"),
        url.replace(parts.path, parts.path + "x"),
        url.replace(parts.path, parts.path + "/"),
        url.replace(parts.path, parts.path + "%001"),
        url.replace(parts.path, parts.path.replace("/objects/", "/objects//")),
        url.replace(parts.path, "/internal/objects/" + quote(other_key)),
        url.replace(parts.path, "/internal/objects/%2e%2e%2fberay.sqlite3"),
        url.replace(parts.path, "/internal/objects/"),
        url + "&expires=" + str(int(expires) + 9),
    ]


def test_a_tampered_url_is_rejected(agent: Agent, uploaded: str) -> None:
    _, other = put_url(agent)
    for url in tampered(get_url(agent, uploaded), other.removeprefix("s3://beray/")):
        assert refusal(requests.get(url, timeout=30)) == (403, "INVALID_SIGNATURE"), url
    for url in tampered(put_url(agent)[0], uploaded.removeprefix("s3://beray/")):
        answer = requests.put(url, b"evil", timeout=30)
        assert refusal(answer) == (403, "INVALID_SIGNATURE"), url
    assert requests.get(get_url(agent, uploaded), timeout=30).content == DATA


def test_a_url_expires(agent: Agent, uploaded: str) -> None:
    url = get_url(agent, uploaded, 1)
    until(lambda: requests.get(url, timeout=30).status_code == 403)
    assert refusal(requests.get(url, timeout=30)) == (403, "URL_EXPIRED")
    assert requests.get(get_url(agent, uploaded), timeout=30).content == DATA


def test_credentials_do_not_replace_a_signature(agent: Agent, uploaded: str) -> None:
    path = "/internal/objects/" + uploaded.removeprefix("s3://beray/")
    assert refusal(agent.call("GET", path)) == (403, "INVALID_SIGNATURE")


def test_an_interrupted_download_is_resumed(agent: Agent, uploaded: str) -> None:
    url = get_url(agent, uploaded)
    whole = requests.get(url, headers={"Want-Repr-Digest": "sha-256=1"}, timeout=30)
    etag = whole.headers["ETag"]
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert whole.headers["Repr-Digest"] == f"sha-256=:{digest}:"
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Length"] == str(len(DATA))

    def ask(**headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.get(url, headers=named, timeout=30)

    rest = ask(Range="bytes=100-", If_Range=etag)
    assert (rest.status_code, rest.content) == (206, DATA[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{len(DATA) - 1}/{len(DATA)}"
    assert (ask(Range="bytes=-5").content, ask(Range="bytes=3-4").content) == (DATA[-5:], DATA[3:5])
    assert ask(Range="bytes=100-", If_Range='"other"').status_code == 200
    assert ask(If_None_Match=etag).status_code == 304
    behind = ask(Range=f"bytes={len(DATA)}-")
    assert refusal(behind) == (416, "INVALID_RANGE")
    assert behind.headers["Content-Range"] == f"bytes */{len(DATA)}"


def test_removed_objects_are_not_found(agent: Agent) -> None:
    answer = agent.files(
        "POST", "upload_temp", files={"file": ("t", b"x")}, data={"session_id": "s"}
    )
    url = get_url(agent, answer.json()["s3_url"])
    agent.files("DELETE", "cleanup_temp", params={"session_id": "s"})
    assert refusal(requests.get(url, timeout=30)) == (404, "FILE_NOT_FOUND")


def test_too_large_bodies_are_rejected(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_GATEWAY_OBJECT_BYTES="1000") as server:
        agent = Agent.new(server)
        url, s3_url = put_url(agent)
        assert requests.put(url, b"x" * 1000, timeout=30).status_code == 200
        for body in (b"y" * 1001, iter([b"y" * 900] * 2)):
            assert refusal(requests.put(url, body, timeout=30)) == (413, "TOO_LARGE")
        for call in ("upload", "upload_temp"):
            answer = agent.files("POST", call, files={"file": b"y" * 1001})
            assert refusal(answer) == (413, "TOO_LARGE")
        assert requests.get(get_url(agent, s3_url), timeout=30).content == b"x" * 1000
        assert agent.files("GET", "list").json() == {"files": []}
        assert sum(path.is_file() for path in (tmp_path / "data" / "objects").rglob("*")) == 1


def test_an_interrupted_body_keeps_the_existing_object(agent: Agent) -> None:
    url, s3_url = put_url(agent)
    requests.put(url, b"before", timeout=30)
    folder = agent.server.data_dir / "objects"
    count = sum(path.is_file() for path in folder.rglob("*"))
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 2_000_000)
        until(lambda: sum(path.is_file() for path in folder.rglob("*")) == count + 1)
    until(lambda: sum(path.is_file() for path in folder.rglob("*")) == count)
    assert requests.get(get_url(agent, s3_url), timeout=30).content == b"before"


def test_a_crash_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "objects"

    def files() -> int:
        return sum(path.is_file() for path in folder.rglob("*"))

    with RunningServer.start(tmp_path / "data") as server:
        agent = Agent.new(server)
        url, s3_url = put_url(agent)
        assert requests.put(url, b"before", timeout=30).status_code == 200
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
            head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n"
            connection.sendall(head.encode() + b"x" * 2_000_000)
            until(lambda: files() == 2)
            server.kill()
        assert files() == 2
        server.restart()
        until(lambda: files() == 1)
        assert requests.get(get_url(agent, s3_url), timeout=30).content == b"before"


def test_large_objects_do_not_fill_memory(agent: Agent) -> None:
    url, s3_url = put_url(agent)
    block = os.urandom(1024 * 1024)
    digest = hashlib.sha256()
    for _ in range(64):
        digest.update(block)
    assert requests.put(url, iter([block] * 64), timeout=60).status_code == 200
    found = hashlib.sha256()
    with requests.get(get_url(agent, s3_url), stream=True, timeout=60) as answer:
        for piece in answer.iter_content(1024 * 1024):
            found.update(piece)
    assert found.digest() == digest.digest()


def test_a_url_begins_as_the_owner_says(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", WITHOUT_BUBBLEWRAP, BERAY_PUBLIC_URL="https://beray.example/x/"
    ) as server:
        agent = Agent.new(server)
        url, _ = put_url(agent)
        assert url.startswith("https://beray.example/x/internal/objects/agent-inputs/")
        local = url.replace("https://beray.example/x", server.url)
        assert requests.put(local, b"x", timeout=30).status_code == 200


def test_urls_outlive_a_restart_but_not_their_secret(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        agent = Agent.new(server)
        url, _ = put_url(agent)
        secret = tmp_path / "data" / "objects.key"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        server.restart()
        assert requests.put(url, b"x", timeout=30).status_code == 200
        secret.write_text("damaged")
        server.restart()
        assert refusal(requests.put(url, b"x", timeout=30)) == (403, "INVALID_SIGNATURE")
        assert "damaged secret was replaced" in server.log.read_text()


def test_the_signature_covers_method_key_and_expiry(tmp_path: Path) -> None:
    signer = UrlSigner(load_or_create_secret(tmp_path / "key"), "bucket")
    assert load_or_create_secret(tmp_path / "key") == load_or_create_secret(tmp_path / "key")

    def fields(url: str) -> dict[str, str]:
        return dict(field.split("=") for field in urlsplit(url).query.split("&"))

    url = signer.url("http://x/", "GET", "a/1/ü ?#%", 60)
    assert url.startswith("http://x/internal/objects/a/1/%C3%BC%20%3F%23%25?")
    good = fields(url)
    assert 59 <= int(good["expires"]) - time.time() <= 61
    signer.check("GET", "a/1/ü ?#%", good["expires"], good["signature"])
    for elsewhere in (
        UrlSigner(b"other" * 8, "bucket"),
        UrlSigner(load_or_create_secret(tmp_path / "key"), "else"),
    ):
        with pytest.raises(InvalidSignature):
            elsewhere.check("GET", "a/1/ü ?#%", good["expires"], good["signature"])
    old = fields(signer.url("http://x", "GET", "a/1/x", -1))
    with pytest.raises(SignatureExpired):
        signer.check("GET", "a/1/x", old["expires"], old["signature"])
