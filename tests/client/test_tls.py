"""TLS on loopback: trusted certificates, client certificates, and protection of credentials."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from beray import (
    BeRayClient,
    ConfigurationError,
    InvalidResponseError,
    StreamState,
    Transfer,
    TransferCancelled,
)
from beray.testing import FaultServer, RunningServer, ScriptedResponse
from tests.secure_server import Certificates, SecureServer

SSE = {"Content-Type": "text/event-stream"}
FIRST = b'id: 1\ndata: {"seq": 1, "type": "X"}\n\n'
LAST = b'id: 2\ndata: {"seq": 2, "type": "TASK_STATUS", "status": "COMPLETED"}\n\n'
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_an_authority_of_the_caller_is_trusted(issued: Certificates, tmp_path: Path) -> None:
    body = bytes(range(256)) * 5000
    answers = [
        ScriptedResponse(b"[]"),
        ScriptedResponse(FIRST, headers=SSE, framing="chunked", drop_at=len(FIRST)),
        ScriptedResponse(LAST, headers=SSE, framing="close"),
        ScriptedResponse(body),
        ScriptedResponse(b'{"message": "m", "path": "b", "size": 1}'),
    ]
    with SecureServer(answers, issued.server()) as server:
        client = BeRayClient(server.url, "tok", verify=issued.authority)
        assert client.list_tasks() == []
        assert [event["seq"] for event in client.stream_task_updates(1)] == [1, 2]
        local = client.download_file(1, "b", tmp_path / "b")
        assert local.read_bytes() == body
        client.upload_path(1, local)
        assert [r.headers["authorization"] for r in server.requests] == ["Bearer tok"] * 5
        assert server.requests[-1].body == body


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", ["localhost", "elsewhere.example"])
def test_an_untrusted_certificate_is_an_immediate_error(
    issued: Certificates, version: Any, name: str
) -> None:
    trusted = issued.authority if name != "localhost" else None
    with SecureServer([], issued.server(name, version=version)) as server:
        client = BeRayClient(server.url, "tok", verify=trusted)
        for call in (
            lambda: client.list_tasks(),
            lambda: client.create_task("g"),
            lambda: next(client.stream_task_updates(1)),
        ):
            with pytest.raises(InvalidResponseError, match="certificate is not trusted"):
                call()
        assert server.requests == []


def test_verification_can_be_disabled(issued: Certificates) -> None:
    server = SecureServer([ScriptedResponse(b"[]")], issued.server())
    with server, pytest.warns(match="Unverified"):
        assert BeRayClient(server.url, verify=False).list_tasks() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_certificate_is_sent_on_request(issued: Certificates, version: Any) -> None:
    context = issued.server(demand=True, version=version)
    with SecureServer(
        [ScriptedResponse(b"[]"), ScriptedResponse(FIRST + LAST, headers=SSE)] * 2, context
    ) as server:
        for cert in (issued.mine, issued.pair):
            client = BeRayClient(server.url, verify=issued.authority, cert=cert)
            assert client.list_tasks() == []
            assert len(list(client.stream_task_updates(1))) == 2


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("cert", [None, "strangers"])
def test_a_missing_client_certificate_is_an_error_without_retries(
    issued: Certificates, version: Any, cert: str | None
) -> None:
    context = issued.server(demand=True, version=version)
    with SecureServer([], context) as server:
        own = cert and issued.strangers
        client = BeRayClient(server.url, "tok", verify=issued.authority, cert=own)
        for call in (
            lambda: client.list_tasks(),
            lambda: client.create_task("g"),
            lambda: next(client.stream_task_updates(1)),
        ):
            with pytest.raises(ConfigurationError, match="client certificate"):
                call()
        assert server.requests == []


@pytest.mark.parametrize("option", ["verify", "cert"])
def test_a_file_without_a_certificate_is_reported_immediately(
    issued: Certificates, tmp_path: Path, option: str
) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=r"wrong\.pem cannot be used"):
        BeRayClient("https://x.example", **{option: str(wrong)})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot be used as a client certificate"):
        BeRayClient("https://x.example", cert=(issued.pair[0], str(wrong)))
    BeRayClient("https://x.example", verify=issued.authority, cert=issued.pair)
    BeRayClient("https://x.example", verify=str(tmp_path))


def test_certificates_of_the_environment_are_used(
    issued: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SecureServer([ScriptedResponse(b"[]")], issued.server()) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", issued.authority)
        assert BeRayClient(server.url).list_tasks() == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nonesuch.pem"))
        with pytest.raises(ConfigurationError, match=r"nonesuch\.pem"):
            BeRayClient(server.url).list_tasks()
        # Arguments take precedence over the environment.
        with pytest.raises(Exception, match="script is over"):
            BeRayClient(server.url, verify=issued.authority, max_retries=0).list_tasks()


def test_certificates_of_the_callers_session_are_used(issued: Certificates) -> None:
    session = requests.Session()
    session.verify, session.cert = issued.authority, issued.pair
    session.headers["X-Mine"] = "1"
    context = issued.server(demand=True)
    with SecureServer(
        [ScriptedResponse(b"[]"), ScriptedResponse(FIRST + LAST, headers=SSE)], context
    ) as server:
        client = BeRayClient(server.url, "tok", session=session)
        assert client.list_tasks() == []
        assert len(list(client.stream_task_updates(1))) == 2
        assert {request.headers["x-mine"] for request in server.requests} == {"1"}
        assert {request.headers["authorization"] for request in server.requests} == {"Bearer tok"}
        assert "Authorization" not in session.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_out_of_tls_is_rejected(issued: Certificates, status: int) -> None:
    with FaultServer([ScriptedResponse(b"[]")] * 9) as plain:
        away = ScriptedResponse(b"", status, {"Location": f"{plain.url}/api/v1/tasks/"})
        with SecureServer([away] * 3, issued.server()) as server:
            client = BeRayClient(server.url, "tok", verify=issued.authority)
            for call in (
                lambda: client.list_tasks(),
                lambda: client.create_task("g"),
                lambda: next(client.stream_task_updates(1)),
            ):
                with pytest.raises(InvalidResponseError, match="another server"):
                    call()
        assert plain.requests == []


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_close_wakes_a_reader_under_tls(issued: Certificates, framing: Any) -> None:
    stall = ScriptedResponse(FIRST + LAST, headers=SSE, framing=framing, stall_at=len(FIRST))
    with SecureServer([stall], issued.server()) as server:
        updates = BeRayClient(server.url, verify=issued.authority).stream_task_updates(1)
        assert next(updates)["seq"] == 1
        rest: list[Any] = []
        reader = threading.Thread(target=lambda: rest.extend(updates))
        reader.start()
        assert server.stalled.wait(10)
        updates.close()
        reader.join(10)
        assert not reader.is_alive()
        assert rest == []
        assert updates.state is StreamState.ENDED


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
def test_cancel_wakes_a_download_under_tls(
    issued: Certificates, tmp_path: Path, framing: Any
) -> None:
    transfer = Transfer()
    raised: list[Exception] = []
    stall = ScriptedResponse(b"x" * 900_000, framing=framing, stall_at=600_000)
    with SecureServer([stall], issued.server()) as server:
        client = BeRayClient(server.url, verify=issued.authority)

        def fetch() -> None:
            try:
                client.download_file(1, "b", tmp_path / "b", transfer=transfer)
            except TransferCancelled as error:
                raised.append(error)

        thread = threading.Thread(target=fetch)
        thread.start()
        assert server.stalled.wait(10)
        transfer.cancel()
        thread.join(10)
    assert len(raised) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_tls_with_a_server_that_does_not_use_it(beray_server: RunningServer) -> None:
    url = beray_server.url.replace("http://", "https://")
    with pytest.raises(InvalidResponseError, match="http://"):
        BeRayClient(url).list_tasks()
