"""Tests of file transfers: streaming, resuming, atomicity and secrecy of signatures."""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import logging
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import beray
from beray.gateway import (
    AgentContextRequiredError,
    AuthenticationError,
    FileTransferCancelled,
    FileTransferError,
    GatewayClient,
    GatewayError,
    InvalidAnswer,
    InvalidInput,
    ObjectNotFoundError,
    RunOutcomeUnknown,
    ServiceUnavailableError,
    Transfer,
    UploadOutcomeUnknown,
)
from beray.testing import FaultServer, RecordedRequest, ScriptedResponse
from tests.gateway.gateway_responses import json_response

BODY = os.urandom(3_000_000)
ETAG = {"ETag": '"v1"'}
SIGNATURE = "X-Amz-Signature=TOPSECRET"
S3 = "s3://bucket/agent-outputs/3/a/file.bin"
STORED = json_response({"success": True, "s3_url": S3, "filename": "f", "size": 1})


def partial_response(start: int, **headers: str) -> ScriptedResponse:
    content_range = f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"
    return ScriptedResponse(BODY[start:], 206, {"Content-Range": content_range, **ETAG, **headers})


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "home")


def presigned_response(store: FaultServer, name: str = "file.bin") -> ScriptedResponse:
    return json_response({"presigned_url": f"{store.url}/{name}?{SIGNATURE}"})


def upload_url_response(store: FaultServer) -> ScriptedResponse:
    return json_response({"upload_url": f"{store.url}/up?{SIGNATURE}", "s3_url": S3})


def parse_form(request: RecordedRequest) -> dict[str, tuple[str | None, str, bytes]]:
    """Return the parts of a form by name: file name, media type and content."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message: Any = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        head + request.body
    )
    return {
        str(part.get_param("name", header="content-disposition")): (
            part.get_filename(), part.get_content_type(), part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    }  # fmt: skip


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(BODY)
    return path


def test_an_upload_is_a_form_with_content_length(local: Path) -> None:
    progress: list[tuple[int, int | None]] = []
    with FaultServer([STORED]) as server:
        client = GatewayClient("t", server.url)
        transfer = Transfer(lambda done, total: progress.append((done, total)))
        assert client.upload_file(local, transfer=transfer) == S3
        request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/internal/files/upload")
    assert int(request.headers["content-length"]) == len(request.body)
    assert "transfer-encoding" not in request.headers
    assert parse_form(request) == {"file": ("table.csv", "text/csv", BODY)}
    assert progress[-1] == (len(BODY), len(BODY))
    assert progress == sorted(progress)


def test_fields_of_temporary_uploads(local: Path) -> None:
    with FaultServer([STORED] * 3) as server:
        client = GatewayClient("t", server.url)
        client.upload_temp_file(local)
        client.upload_temp_file(local, ttl=60, session_id="s 1", content_type="a/b")
        client.upload_temp_file(local, ttl_hours=1.5)
        forms = [parse_form(request) for request in server.requests]
    assert {request.path for request in server.requests} == {"/internal/files/upload_temp"}
    assert [fields["ttl"][2] for fields in forms] == [b"86400", b"60", b"5400"]
    assert forms[1]["session_id"][2] == b"s 1"
    assert forms[1]["file"] == ("table.csv", "a/b", BODY)
    assert "session_id" not in forms[0]


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1])
def test_files_of_every_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "f"
    path.write_bytes(BODY[:size])
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(STORED, upload_url_response(server), ScriptedResponse())
        client.upload_file(path)
        assert client.upload_input_file(path) == S3
        posted, _, put = server.requests
    assert parse_form(posted)["file"][2] == BODY[:size]
    assert put.body == BODY[:size]
    assert put.headers["content-length"] == str(size)


def test_a_missing_bucket_is_not_reported_as_a_missing_file(local: Path) -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(upload_url_response(server), ScriptedResponse(b"NoSuchBucket", 404))
        with pytest.raises(ServiceUnavailableError):
            client.upload_input_file(local)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    name=st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50
    )
)
def test_every_file_name_is_valid_in_a_form(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    from beray.transfers.upload import MultipartBody, UploadBody

    path = tmp_path_factory.mktemp("n") / "f"
    path.write_bytes(b"content")
    with path.open("rb") as file:
        body = MultipartBody(UploadBody(file, Transfer()), name, "a/b", {"ttl": "1"})
        content = body.read()
        assert len(body) == len(content)
        body.seek(0)
        assert b"".join(iter(lambda: body.read(7), b"")) == content
    boundary = body.content_type.partition("boundary=")[2].encode()
    parts = content.split(b"--" + boundary)
    assert len(parts) == 4
    head, _, file_content = parts[2].partition(b"\r\n\r\n")
    assert file_content == b"content\r\n"
    assert head.count(b"\r\n") == 2  # before and after the line with the name


def test_input_files_are_sent_directly_to_the_store_without_credentials(local: Path) -> None:
    with FaultServer([ScriptedResponse()]) as store, FaultServer([]) as server:
        server.add_responses(upload_url_response(store))
        assert GatewayClient("the-token", server.url).upload_input_file(local) == S3
        requested, put = server.requests[0], store.requests[0]
    assert requested.body == b'{"filename": "table.csv", "content_type": "text/csv"}'
    assert (put.method, put.path) == ("PUT", f"/up?{SIGNATURE}")
    assert put.headers["content-type"] == "text/csv"
    assert put.body == BODY
    assert not {"x-internal-token", "authorization", "cookie"} & set(put.headers)


def test_a_failed_put_is_retried(local: Path) -> None:
    with (
        FaultServer([ScriptedResponse(b"x", 500), ScriptedResponse()]) as store,
        FaultServer([]) as server,
    ):
        server.add_responses(upload_url_response(store))
        GatewayClient("t", server.url).upload_input_file(local)
        assert [request.body for request in store.requests] == [BODY, BODY]


def test_an_upload_that_may_have_been_delivered_is_not_retried(local: Path) -> None:
    with FaultServer([ScriptedResponse(b"x", drop_at=0, reset=True), STORED]) as server:
        with pytest.raises(UploadOutcomeUnknown) as caught:
            GatewayClient("t", server.url).upload_file(local)
        assert len(server.requests) == 1
    assert isinstance(caught.value, RunOutcomeUnknown)
    assert isinstance(caught.value, beray.OutcomeUnknown)


def test_a_download_is_complete_or_absent(tmp_path: Path) -> None:
    with FaultServer([ScriptedResponse(BODY, headers=ETAG)]) as store, FaultServer([]) as server:
        server.add_responses(presigned_response(store))
        client = GatewayClient("the-token", server.url)
        path = client.download_file(S3, tmp_path / "f")
        requested, fetched = server.requests[0], store.requests[0]
        with pytest.raises(FileExistsError) as caught:
            client.download_file(S3, tmp_path / "f", overwrite=False)
        assert isinstance(caught.value, GatewayError)
        assert len(server.requests) == 1
        server.add_responses(presigned_response(store))
        store.add_responses(ScriptedResponse(b"new"))
        client.download_file(S3, tmp_path / "f")
    assert "mode=presigned" in requested.path
    assert requested.headers["x-internal-token"] == "the-token"
    assert not {"x-internal-token", "authorization"} & set(fetched.headers)
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["f"]


def test_an_interrupted_download_resumes_with_the_same_url(tmp_path: Path) -> None:
    script = [ScriptedResponse(BODY, headers=ETAG, drop_at=1_234_567), partial_response(1_234_567)]
    with FaultServer(script) as store, FaultServer([]) as server:
        server.add_responses(presigned_response(store))
        path = GatewayClient("t", server.url).download_file(S3, tmp_path / "f")
        assert len(server.requests) == 1
        assert store.requests[1].headers["range"] == "bytes=1234567-"
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_url_that_expires_during_a_download_is_replaced(tmp_path: Path, status: int) -> None:
    script = [
        ScriptedResponse(BODY, headers=ETAG, drop_at=1000),
        ScriptedResponse(b"<Error/>", status),
        partial_response(1000),
    ]
    with FaultServer(script) as store, FaultServer([]) as server:
        server.add_responses(presigned_response(store), presigned_response(store, "again"))
        path = GatewayClient("t", server.url).download_file(S3, tmp_path / "f")
        assert [request.path.partition("?")[0] for request in store.requests] == [
            "/file.bin",
            "/file.bin",
            "/again",
        ]
        assert store.requests[2].headers["range"] == "bytes=1000-"
    assert path.read_bytes() == BODY
    assert names_in(tmp_path) == ["f"]


def test_a_later_download_resumes_with_another_url(tmp_path: Path) -> None:
    script = [
        ScriptedResponse(BODY, headers=ETAG, drop_at=5000),
        ScriptedResponse(b"", 403),
        ScriptedResponse(b"", 403),
    ]
    with FaultServer(script) as store, FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        server.add_responses(presigned_response(store), presigned_response(store))
        with pytest.raises(AuthenticationError):
            client.download_file(S3, tmp_path / "f")
        assert not (tmp_path / "f").exists()
        server.add_responses(presigned_response(store, "later"))
        store.add_responses(partial_response(5000))
        client.download_file(S3, tmp_path / "f")
        assert store.requests[-1].headers["range"] == "bytes=5000-"
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_changed_file_is_downloaded_again(tmp_path: Path) -> None:
    script = [
        ScriptedResponse(BODY, headers=ETAG, drop_at=5000),
        ScriptedResponse(b"changed", headers={"ETag": '"v2"'}),
    ]
    with FaultServer(script) as store, FaultServer([]) as server:
        server.add_responses(presigned_response(store))
        path = GatewayClient("t", server.url).download_file(S3, tmp_path / "f")
    assert path.read_bytes() == b"changed"


def test_a_missing_file(tmp_path: Path) -> None:
    with (
        FaultServer([ScriptedResponse(b"", 404)]) as store,
        FaultServer([json_response({"detail": "no"}, 404)]) as server,
    ):
        client = GatewayClient("t", server.url)
        with pytest.raises(ObjectNotFoundError) as caught:
            client.download_file(S3, tmp_path / "f")
        assert isinstance(caught.value, beray.NotFoundError)
        server.add_responses(presigned_response(store))
        with pytest.raises(ObjectNotFoundError):
            client.download_file(S3, tmp_path / "f")
    assert names_in(tmp_path) == []


def test_a_cancelled_download_leaves_nothing(tmp_path: Path) -> None:
    with (
        FaultServer([ScriptedResponse(BODY, headers=ETAG, stall_at=9999)]) as store,
        FaultServer([]) as server,
    ):
        server.add_responses(presigned_response(store))
        transfer = Transfer()

        def cancel() -> None:
            store.stalled.wait(20)
            transfer.cancel()

        threading.Thread(target=cancel).start()
        with pytest.raises(FileTransferCancelled) as caught:
            GatewayClient("t", server.url).download_file(S3, tmp_path / "f", transfer=transfer)
    assert isinstance(caught.value, (GatewayError, beray.TransferCancelled))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("method", ["upload_file", "upload_temp_file", "upload_input_file"])
def test_a_cancelled_upload_ends(method: str, local: Path) -> None:
    def cancel(done: int, total: int | None) -> None:
        transfer.cancel()

    transfer = Transfer(cancel)
    with FaultServer([]) as server:
        if method == "upload_input_file":
            server.add_responses(upload_url_response(server))
        with pytest.raises(FileTransferCancelled):
            getattr(GatewayClient("t", server.url), method)(local, transfer=transfer)


@pytest.mark.parametrize("method", ["upload_file", "upload_temp_file", "upload_input_file"])
def test_local_errors_of_uploads(method: str, tmp_path: Path, local: Path) -> None:
    def fail(done: int, total: int | None) -> None:
        raise RuntimeError("local")

    with FaultServer([]) as server:
        send = getattr(GatewayClient("t", server.url), method)
        with pytest.raises(FileNotFoundError):
            send(tmp_path / "missing")
        with pytest.raises(IsADirectoryError):
            send(tmp_path)
        with pytest.raises(InvalidInput):
            send(local, content_type="a/b\r\nX: y")
        if os.name == "posix":
            os.mkfifo(tmp_path / "pipe")
            for special in (tmp_path / "pipe", "/dev/zero"):
                with pytest.raises(InvalidInput, match="regular file"):
                    send(special)
        assert server.requests == []
        if method == "upload_input_file":
            server.add_responses(upload_url_response(server))
        with pytest.raises(RuntimeError, match="local"):
            send(local, transfer=Transfer(fail))


def test_calls_that_require_an_agent(local: Path) -> None:
    refusal = json_response(
        {"detail": {"error_code": "MISSING_AGENT_CONTEXT", "message": "no agent"}}, 400
    )
    with FaultServer([refusal] * 2) as server:
        client = GatewayClient("t", server.url)
        for call in (lambda: client.upload_file(local), client.list_files):
            with pytest.raises(AgentContextRequiredError, match="no agent"):
                call()


@pytest.mark.parametrize(
    "url",
    ["", "/relative?sig=TOPSECRET", "//host/x?sig=TOPSECRET", "file:///etc/passwd", "ftp://h/x?sig=TOPSECRET",
     "s3://b/k", "http://", "http://u:TOPSECRET@h/x", "http://h:99999/TOPSECRET", "http://h/TOPSECRET\r\nX: y",
     "http://h/a TOPSECRET", "http://h/ü?sig=TOPSECRET", "http://[bad/TOPSECRET", "http://h/x#TOPSECRET"],
)  # fmt: skip
def test_invalid_presigned_urls(url: str, local: Path, tmp_path: Path) -> None:
    with FaultServer(
        [json_response({"upload_url": url, "s3_url": S3}), json_response({"presigned_url": url})]
    ) as server:
        client = GatewayClient("t", server.url)
        for call in (
            lambda: client.upload_input_file(local),
            lambda: client.download_file(S3, tmp_path / "f"),
        ):
            with pytest.raises(InvalidAnswer) as caught:
                call()
            assert "TOPSECRET" not in text_of(caught.value)
    assert names_in(tmp_path) == ["table.csv"]


def text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)


XML = f"<Error><StringToSign>{SIGNATURE}</StringToSign></Error>".encode()


@pytest.mark.parametrize(
    ("answer", "error_class"),
    [
        (ScriptedResponse(XML, 403), AuthenticationError),
        (ScriptedResponse(XML, 503), ServiceUnavailableError),
        (ScriptedResponse(b"x", drop_at=0, reset=True), ServiceUnavailableError),
        (
            ScriptedResponse(b"", stall_at=0, headers={"Content-Length": "9"}),
            ServiceUnavailableError,
        ),
        (
            ScriptedResponse(b"", 307, {"Location": f"http://127.0.0.1:1/x?{SIGNATURE}"}),
            InvalidAnswer,
        ),
        (ScriptedResponse(b"", 302, {"Location": f"http://[bad?{SIGNATURE}"}), InvalidAnswer),
    ],
)
def test_nothing_shows_a_signature(
    answer: ScriptedResponse,
    error_class: type[Exception],
    local: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with FaultServer([answer] * 4) as store, FaultServer([]) as server:
        server.add_responses(
            upload_url_response(store), presigned_response(store), presigned_response(store)
        )
        client = GatewayClient("t", server.url, connection=(5, 0.3), deadline=0.5, max_retries=0)
        calls: list[Callable[[], Any]] = [lambda: client.upload_input_file(local)]
        if answer.status != 200:
            calls.append(lambda: client.download_file(S3, tmp_path / "f"))
        for call in calls:
            with pytest.raises(error_class) as caught:
                call()
            assert "TOPSECRET" not in text_of(caught.value)
    assert "/up" in caplog.text  # urllib3 logs the path without the query
    assert "TOPSECRET" not in caplog.text


@pytest.mark.parametrize("end", [b"", b"}"])
def test_an_invalid_response_shows_no_signature(end: bytes, local: Path, tmp_path: Path) -> None:
    answer = ScriptedResponse(f'{{"url": "http://h/x?{SIGNATURE}"}}'.encode() + end)
    with FaultServer([answer] * 3) as server:
        client = GatewayClient("t", server.url)
        for call in (
            lambda: client.upload_input_file(local),
            lambda: client.download_file(S3, tmp_path / "f"),
            lambda: client.get_presigned_url(S3),
        ):
            with pytest.raises(InvalidAnswer) as caught:
                call()
            assert "TOPSECRET" not in text_of(caught.value)


def test_partial_files_contain_no_signature(tmp_path: Path) -> None:
    with (
        FaultServer([ScriptedResponse(BODY, headers=ETAG, drop_at=5000)]) as store,
        FaultServer([]) as server,
    ):
        server.add_responses(presigned_response(store))
        with pytest.raises(GatewayError):
            GatewayClient("t", server.url, max_retries=0).download_file(S3, tmp_path / "f")
    names = names_in(tmp_path)
    assert names
    for name in names:
        assert b"TOPSECRET" not in name.encode() + (tmp_path / name).read_bytes()


def test_a_presigned_url_is_returned() -> None:
    with FaultServer([json_response({"presigned_url": "http://h/x?sig"})]) as server:
        assert (
            GatewayClient("t", server.url).get_presigned_url(S3, expires_in=60) == "http://h/x?sig"
        )
        assert "expires_in=60" in server.requests[0].path


def test_listings_come_in_pages() -> None:
    entry = {"key": "k", "size": 3, "last_modified": "2026-01-01T00:00:00Z", "s3_url": S3}
    pages = [
        json_response({"files": [entry], "next_token": "n/1"}),
        json_response({"files": []}),
        json_response({"files": [], "next_token": None}),
    ]
    with FaultServer(
        [*pages, json_response({"files": [{"key": 1}]}), json_response({"deleted_count": 4})]
    ) as server:
        client = GatewayClient("t", server.url)
        page = client.list_files()
        last = client.list_files(limit=2, continuation_token=page["next_token"], prefix="a b")
        client.list_temp_files("s&1", limit=3)
        with pytest.raises(InvalidAnswer):
            client.list_temp_files()
        assert client.cleanup_temp_files("s&1") == 4
        paths = [(request.method, request.path) for request in server.requests]
    assert page["files"] == [entry]
    assert last.get("next_token") is None
    assert paths == [
        ("GET", "/internal/files/list?limit=100"),
        ("GET", "/internal/files/list?limit=2&continuation_token=n%2F1&prefix=a+b"),
        ("GET", "/internal/files/list_temp?limit=3&session_id=s%261"),
        ("GET", "/internal/files/list_temp?limit=100"),
        ("DELETE", "/internal/files/cleanup_temp?session_id=s%261"),
    ]


def test_invalid_arguments(tmp_path: Path, local: Path) -> None:
    client = GatewayClient("t", "http://127.0.0.1:1")
    for url in ("", "http://h/x", "s3://", "s3://bucket", "s3://bucket/", "s3:///k", "/local/file", 7, None,
                "s3://b/a\nb", "s3://b/" + "k" * 1025, "s3://b/\ud800"):  # fmt: skip
        calls: list[Callable[[Any], Any]] = [
            client.get_presigned_url,
            client.delete_file,
            lambda u: client.download_file(u, tmp_path / "f"),
        ]
        for call in calls:
            with pytest.raises(InvalidInput):
                call(url)
    for ttl in (0, -1, float("nan"), float("inf"), 0.5, "x"):
        with pytest.raises(InvalidInput):
            client.upload_temp_file(local, ttl=ttl)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            client.get_presigned_url(S3, ttl)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="contradict each other"):
        client.upload_temp_file(local, ttl=60, ttl_hours=1)
    for session in ("", "a\n"):
        with pytest.raises(InvalidInput):
            client.cleanup_temp_files(session)
    assert names_in(tmp_path) == ["table.csv"]


def test_a_wrong_checksum(tmp_path: Path) -> None:
    from beray.transfers.digest import repr_digest

    wrong = {"Repr-Digest": repr_digest(hashlib.sha256(b"other").digest())}
    with FaultServer([ScriptedResponse(BODY, headers=wrong)]) as store, FaultServer([]) as server:
        server.add_responses(presigned_response(store))
        with pytest.raises(FileTransferError):
            GatewayClient("t", server.url).download_file(S3, tmp_path / "f")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "answer",
    [
        {"success": False, "s3_url": "s3://b/k"},
        {"success": True, "s3_url": ""},
        {"success": True, "s3_url": "http://x/y"},
        {"success": True, "s3_url": "s3://b"},
    ],
)
def test_invalid_responses_to_uploads(local: Path, answer: dict[str, object]) -> None:
    with FaultServer([json_response(answer)]) as server, pytest.raises(InvalidAnswer):
        GatewayClient("t", server.url).upload_file(local)


def test_presigned_urls_with_other_schemes_are_rejected(local: Path) -> None:
    response = json_response({"presigned_url": "javascript:1"})
    with FaultServer([response]) as server, pytest.raises(InvalidAnswer):
        GatewayClient("t", server.url).get_presigned_url("s3://b/k")
