"""Server with its objects in an S3 store, with sockets on both sides."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import requests

from beray.server.objects.s3 import S3ObjectStore
from beray.server.settings import Settings
from beray.testing import RunningServer
from tests.gateway_support import Agent, S3Server, pieces, refusal
from tests.support import until


@pytest.fixture
def agent(tmp_path: Path, s3_environ: dict[str, str]) -> object:
    with RunningServer.start(tmp_path / "data", s3_environ) as server:
        yield Agent.new(server)


def test_every_call(agent: Agent, s3_server: S3Server, s3_environ: dict[str, str]) -> None:
    bucket = s3_environ["BERAY_S3_BUCKET"]
    body = {"filename": "in ü.txt", "content_type": "text/plain"}
    made = agent.files("POST", "generate_upload_url", json=body).json()
    assert made["s3_url"].startswith(f"s3://{bucket}/agent-inputs/{agent.user_id}/")
    assert made["upload_url"].startswith(s3_server.url)
    assert requests.put(made["upload_url"], b"input", timeout=30).status_code == 200

    def content(url: str) -> bytes:
        params = {"s3_url": url, "mode": "presigned", "expires_in": 60}
        answer = agent.files("GET", "download", params=params)
        assert answer.status_code == 200, answer.text
        return requests.get(answer.json()["presigned_url"], timeout=30).content

    assert content(made["s3_url"]) == b"input"
    data = b"x" * 11_000_000
    answer = agent.files("POST", "upload", files={"file": ("out.bin", data)}).json()
    assert content(answer["s3_url"]) == data
    agent.files("POST", "upload", files={"file": ("two.bin", b"2")})
    page = agent.files("GET", "list", params={"limit": 1}).json()
    rest = agent.files(
        "GET", "list", params={"limit": 9, "continuation_token": page["next_token"]}
    ).json()
    assert sorted(f["size"] for f in page["files"] + rest["files"]) == [1, 11_000_000]
    assert "next_token" not in rest
    for session, ttl in (("one", "600"), ("one", "600"), ("two", "1")):
        agent.files(
            "POST", "upload_temp", files={"file": b"t"}, data={"session_id": session, "ttl": ttl}
        )
    until(lambda: len(agent.files("GET", "list_temp").json()["files"]) == 2)
    cleaned = agent.files("DELETE", "cleanup_temp", params={"session_id": "one"})
    assert cleaned.json() == {"deleted_count": 2}
    absent = {"s3_url": f"s3://{bucket}/agent-inputs/{agent.user_id}/u/x", "mode": "presigned"}
    assert refusal(agent.files("GET", "download", params=absent)) == (404, "FILE_NOT_FOUND")
    assert not (agent.server.data_dir / "objects").exists()
    assert agent.call("GET", "/internal/objects/a/1/x").status_code == 404
    assert "hush-hush" not in agent.server.log.read_text()


def test_an_upload_that_breaks_off_leaves_no_parts(
    agent: Agent, s3_server: S3Server, s3_environ: dict[str, str]
) -> None:
    client, bucket = s3_server.client, s3_environ["BERAY_S3_BUCKET"]

    def parts() -> int:
        return len(client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))

    place = agent.server.url.removeprefix("http://").split(":")
    with socket.create_connection((place[0], int(place[1]))) as connection:
        head = (
            f"POST /internal/files/upload HTTP/1.1\r\nHost: localhost\r\nX-Internal-Token: {agent.token}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 90000000\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
        )
        connection.sendall(head.encode() + b"x" * 20_000_000)
        until(lambda: parts() == 1)
    until(lambda: parts() == 0)
    assert agent.files("GET", "list").json() == {"files": []}


def test_an_unreachable_store_is_reported(tmp_path: Path, s3_server: S3Server) -> None:
    environ = s3_server.environ("no-such-bucket")
    with RunningServer.start(tmp_path / "data", environ) as server:
        agent = Agent.new(server)
        upload = agent.files("POST", "upload", files={"file": b"x"})
        for answer in (upload, agent.files("GET", "list")):
            assert refusal(answer) == (503, "STORAGE_UNAVAILABLE")
            assert "bucket" not in answer.text


async def test_errors_of_the_library_have_no_secrets(s3_environ: dict[str, str]) -> None:
    environ = {name.removeprefix("BERAY_").lower(): value for name, value in s3_environ.items()}
    store = S3ObjectStore(
        settings=Settings.model_validate(environ | {"s3_bucket": "no-such-bucket"})
    )
    assert "hush" not in repr(vars(store))
    with pytest.raises(OSError) as failed:
        await store.put("a/1/x", pieces(b"x"))
    assert "hush" not in str(failed.value)
    assert "\n" not in str(failed.value)


def test_an_unusable_bucket_is_logged_at_startup(
    tmp_path: Path, s3_environ: dict[str, str]
) -> None:
    wrong = s3_environ | {"BERAY_S3_BUCKET": "no-such-bucket"}
    with RunningServer.start(tmp_path / "wrong", wrong) as server:
        until(lambda: "cannot use the S3 bucket" in server.log.read_text())
        assert "no-such-bucket" in server.log.read_text()
    with RunningServer.start(tmp_path / "right", s3_environ) as server:
        until(lambda: "storing files in S3" in server.log.read_text())
        assert Agent.new(server).files("GET", "list").json() == {"files": []}
        assert "cannot use the S3" not in server.log.read_text()
