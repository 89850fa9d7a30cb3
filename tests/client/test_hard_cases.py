"""Failures of servers and callers: each ends with an error and leaks no connection."""

from __future__ import annotations

import io
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import psutil
import pytest
import requests

from beray import (
    BeRayClient,
    ConfigurationError,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidArgument,
    InvalidResponseError,
    OutcomeUnknown,
    RateLimitError,
    StreamState,
    Transfer,
    TransferCancelled,
    TransferError,
    UnprocessableEntityError,
)
from beray.http.auth import bearer_auth
from beray.http.request import ApiRequest
from beray.http.transport import Transport
from beray.testing import FaultServer, ScriptedResponse

UPLOADED = ScriptedResponse(b'{"message": "m", "path": "f", "size": 1}')
SSE = {"Content-Type": "text/event-stream"}
END = b'id: 1\ndata: {"seq": 1, "type": "TASK_STATUS", "status": "COMPLETED"}\n\n'


@pytest.fixture
def mute() -> Iterator[str]:
    """Yield the URL of a server that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def in_thread(function: Any) -> tuple[threading.Thread, list[BaseException]]:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - the test checks it
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


def test_a_silent_server_is_abandoned_at_the_deadline(mute: str) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        BeRayClient(mute, deadline=0.3, timeout=(5, 60)).list_tasks()
    assert time.monotonic() - started < 30


def test_slow_headers_are_abandoned_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        threading.Thread(target=trickle, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionFailed):
            BeRayClient(url, deadline=0.3, max_retries=0).list_tasks()
        stop.set()


def test_closing_a_stream_ends_the_wait_for_its_headers(mute: str) -> None:
    connecting = BeRayClient(mute, timeout=(60, 60)).stream_task_updates(1, idle=60)
    thread, raised = in_thread(lambda: list(connecting))
    time.sleep(0.2)  # nothing to wait for: the request is being sent, or will be
    connecting.close()
    thread.join(10)
    assert not thread.is_alive()
    assert raised == []
    assert connecting.state is StreamState.ENDED


def test_a_closed_stream_releases_its_connection() -> None:
    first = b'id: 1\ndata: {"seq": 1, "type": "X"}\n\n'
    with FaultServer([ScriptedResponse(first + END, headers=SSE, stall_at=len(first))]) as server:
        with BeRayClient(server.url).stream_task_updates(1) as updates:
            next(updates)
            assert updates.state is StreamState.LIVE
        ended: object = updates.state
        assert ended is StreamState.ENDED
        assert list(updates) == []
        port = int(server.url.rpartition(":")[2])
        ours = [c for c in psutil.Process().net_connections() if c.raddr and c.raddr.port == port]
        assert [connection for connection in ours if connection.status == "ESTABLISHED"] == []


def test_several_threads_may_share_a_stream() -> None:
    events = [b'id: %d\ndata: {"seq": %d, "type": "X"}\n\n' % (n, n) for n in range(1, 501)]
    last = END.replace(b"id: 1", b"id: 501").replace(b'"seq": 1', b'"seq": 501')
    with FaultServer([ScriptedResponse(b"".join(events) + last, headers=SSE)]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        seen: list[int] = []
        threads = [in_thread(lambda: seen.extend(e["seq"] for e in updates)) for _ in range(4)]
        for thread, raised in threads:
            thread.join(20)
            assert raised == []
        assert sorted(seen) == list(range(1, 502))


@pytest.mark.parametrize("kind", ["text/html", "application/json; charset=utf-8"])
def test_a_login_page_is_rejected_as_a_stream(kind: str) -> None:
    page = ScriptedResponse(b"<html>sign in</html>", headers={"Content-Type": kind})
    with FaultServer([page]) as server:
        with pytest.raises(InvalidResponseError, match="expected an event stream") as caught:
            next(BeRayClient(server.url).stream_task_updates(1))
        assert "sign in" in caught.value.body


@pytest.mark.parametrize(
    "data", [b'{"status": []}', b'{"status": {"a": 1}, "type": "TASK_STATUS"}']
)
def test_a_status_that_is_not_a_string(data: bytes) -> None:
    body = b"id: 0\ndata: " + data + b"\n\n" + END
    with FaultServer([ScriptedResponse(body, headers=SSE)]) as server:
        assert len(list(BeRayClient(server.url).stream_task_updates(1))) == 2


def test_non_ascii_ids_are_sent_as_utf8() -> None:
    first = "id: é事\ndata: {}\n\n".encode()
    with FaultServer(
        [
            ScriptedResponse(first, headers=SSE, drop_at=len(first)),
            ScriptedResponse(END, headers=SSE),
        ]
    ) as server:
        updates = BeRayClient(server.url).stream_task_updates(1)
        assert len(list(updates)) == 2
        assert server.requests[1].headers["last-event-id"].encode("latin-1").decode() == "é事"


def test_a_stream_resumes_after_an_id_that_is_not_a_number() -> None:
    body = b'id: b6\ndata: {"seq": 6, "type": "X"}\n\n' + END.replace(b'"seq": 1', b'"seq": 7')
    with FaultServer([ScriptedResponse(body, headers=SSE)]) as server:
        updates = BeRayClient(server.url).stream_task_updates(1, last_event_id="a5")
        assert [event["seq"] for event in updates] == [6, 7]


def test_retry_after_does_not_extend_the_reconnect_limit() -> None:
    busy = ScriptedResponse(b"{}", 503, {"Retry-After": "50"})
    with FaultServer([busy] * 9) as server:
        started = time.monotonic()
        with pytest.raises(Exception, match="503"):
            next(BeRayClient(server.url).stream_task_updates(1, reconnect=0.2))
        assert time.monotonic() - started < 30


def test_a_growing_file_is_sent_with_its_initial_length(tmp_path: Path) -> None:
    local = tmp_path / "log"
    local.write_bytes(b"x" * 3_000_000)

    def grow(*_: Any) -> None:
        with local.open("ab") as file:
            file.write(b"GET / HTTP/1.1\r\n\r\n" * 40)

    with FaultServer([UPLOADED, ScriptedResponse(b'{"message": "stopped"}')]) as server:
        client = BeRayClient(server.url)
        client.upload_path(1, local, transfer=Transfer(grow))
        assert client.stop_task(1) == {"message": "stopped"}
        assert [len(request.body) for request in server.requests] == [3_000_000, 0]


def test_a_shrinking_file_is_an_immediate_error(tmp_path: Path) -> None:
    local = tmp_path / "log"
    local.write_bytes(b"x" * 3_000_000)
    shrink = Transfer(lambda *_: os.truncate(local, 1_000_000))
    with FaultServer([UPLOADED]) as server, pytest.raises(TransferError, match="shorter"):
        BeRayClient(server.url).upload_path(1, local, transfer=shrink)


@pytest.mark.parametrize("error", [ValueError("my bug"), BrokenPipeError(), KeyboardInterrupt()])
def test_an_exception_of_a_progress_callback_is_raised(
    tmp_path: Path, error: BaseException
) -> None:
    local = tmp_path / "f"
    local.write_bytes(b"x" * 3_000_000)

    def fail(*_: Any) -> None:
        raise error

    with FaultServer([UPLOADED] * 4) as server, pytest.raises(type(error)) as caught:
        BeRayClient(server.url).upload_path(1, local, transfer=Transfer(fail))
    assert caught.value is error


def test_cancel_ends_an_upload_without_a_response(mute: str, tmp_path: Path) -> None:
    local = tmp_path / "f"
    local.write_bytes(b"x")
    sent = threading.Event()
    transfer = Transfer(lambda *_: sent.set())
    client = BeRayClient(mute)
    thread, raised = in_thread(lambda: client.upload_path(1, local, transfer=transfer))
    assert sent.wait(10)
    transfer.cancel()
    thread.join(10)
    assert [type(error) for error in raised] == [TransferCancelled]


def test_cancel_ends_the_wait_for_retry_after(tmp_path: Path) -> None:
    transfer = Transfer()
    with FaultServer([ScriptedResponse(b"{}", 503, {"Retry-After": "50"})] * 9) as server:
        client = BeRayClient(server.url)
        thread, raised = in_thread(
            lambda: client.download_file(1, "f", tmp_path / "f", transfer=transfer)
        )
        while not server.requests:
            time.sleep(0.01)
        transfer.cancel()
        thread.join(10)
    assert [type(error) for error in raised] == [TransferCancelled]


def test_a_pipe_can_be_uploaded() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    with FaultServer([ScriptedResponse(b"{}", 500)]) as server, os.fdopen(reading, "rb") as pipe:
        with pytest.raises(Exception, match="500"):
            BeRayClient(server.url).upload_file(1, "f", pipe)
        assert len(server.requests) == 1  # the body cannot be read twice
        assert server.requests[0].headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("content", [None, 5, {"a": 1}, ["x"]])
def test_invalid_content_is_rejected(content: Any) -> None:
    with FaultServer([]) as server:
        with pytest.raises(InvalidArgument):
            BeRayClient(server.url).upload_file(1, "f", content)
        with pytest.raises(InvalidArgument):
            BeRayClient(server.url).download_files_as_zip(1, "b.bin")
        with pytest.raises(InvalidArgument):
            BeRayClient(server.url).create_task("g", tools=[{"x": {"t": float("nan")}}])
        assert server.requests == []


def test_clients_that_share_a_session_keep_their_tokens_apart() -> None:
    session = requests.Session()
    session.auth = ("u", "p")
    with (
        FaultServer([ScriptedResponse(b"[]")] * 2) as one,
        FaultServer([ScriptedResponse(b"[]")] * 2) as other,
    ):
        first = BeRayClient(one.url, "token-one", session=session)
        second = BeRayClient(other.url, "token-two", session=session)
        first.list_tasks()
        second.list_tasks()
        first.set_token(None)
        first.list_tasks()
        assert one.requests[0].headers["authorization"] == "Bearer token-one"
        assert other.requests[0].headers["authorization"] == "Bearer token-two"
        assert "authorization" not in one.requests[1].headers


def test_no_exception_of_an_account_request_contains_a_secret() -> None:
    half = ScriptedResponse(b'{"access_token": ["SECRET"], "token_type": "bearer"}')
    echo = b'{"detail": [{"loc": ["body", "password"], "msg": "short", "input": "SECRET"}]}'
    with FaultServer([half, ScriptedResponse(b"SECRET"), ScriptedResponse(echo, 422)]) as server:
        client = BeRayClient(server.url)
        for kind in (InvalidResponseError, InvalidResponseError, UnprocessableEntityError):
            with pytest.raises(kind) as caught:
                client.login("e", "SECRET")
            assert b"SECRET" not in pickle.dumps(caught.value)
            assert "SECRET" not in f"{caught.value!r} {vars(caught.value)}"


def test_no_exception_references_the_request() -> None:
    with (
        FaultServer([ScriptedResponse(b"x", drop_at=0)]) as server,
        pytest.raises(OutcomeUnknown) as caught,
    ):
        BeRayClient(server.url, "SECRET").stop_task(1)
    error: BaseException | None = caught.value
    while error is not None:
        assert not hasattr(error, "request")
        error = error.__context__


def test_a_creation_whose_retry_fails_has_an_unknown_outcome() -> None:
    keys = {"X-Idempotency-Seconds": "86400"}
    script = [
        ScriptedResponse(b"[]", headers=keys),
        ScriptedResponse(b"x", drop_at=0),
        ScriptedResponse(b"{}", 500),
    ]
    with FaultServer(script) as server:
        client = BeRayClient(server.url)
        client.list_tasks()
        with pytest.raises(OutcomeUnknown):
            client.create_task("g")


def test_a_compressed_file_is_rejected(tmp_path: Path) -> None:
    import gzip

    answer = ScriptedResponse(gzip.compress(b"x" * 1000), headers={"Content-Encoding": "gzip"})
    with FaultServer([answer]) as server:
        with pytest.raises(TransferError, match="Content-Encoding"):
            BeRayClient(server.url).download_file(1, "f", tmp_path / "f")
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_verify_without_a_digest_is_an_error(tmp_path: Path) -> None:
    with (
        FaultServer([ScriptedResponse(b"x")]) as server,
        pytest.raises(TransferError, match="SHA-256"),
    ):
        BeRayClient(server.url).download_file(1, "f", tmp_path / "f", verify=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_no_proxy_is_used_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:9")
    with FaultServer([ScriptedResponse(b"[]")]) as server:
        assert BeRayClient(server.url, "tok").list_tasks() == []


def test_missing_certificates_are_reported_immediately() -> None:
    with pytest.raises(ConfigurationError, match="nonesuch"):
        BeRayClient("https://x.example", verify="/nonesuch.pem")


def test_a_broken_tls_handshake_counts_as_unsent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def cut() -> None:
            while not stop.is_set():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)

        threading.Thread(target=cut, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionFailed) as caught:
            BeRayClient(url, max_retries=1).create_task("g")
        assert not isinstance(caught.value, OutcomeUnknown)
        assert caught.value.delivered is False
        stop.set()
        with socket.create_connection(listener.getsockname()):
            pass


@pytest.mark.parametrize("given", ["client", "session"])
def test_proxies_of_the_caller_take_precedence(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with FaultServer([ScriptedResponse(b"[]")] * 2) as proxy:
        proxies = {"http": proxy.url}
        session = requests.Session() if given == "session" else None
        if session is not None:
            session.proxies = proxies
        options: Any = {"proxies": proxies} if given == "client" else {"session": session}
        for url in ("http://beray.example", "http://127.0.0.1:1"):
            assert BeRayClient(url, "tok", **options).list_tasks() == []
        assert [request.path for request in proxy.requests] == [
            "http://beray.example/api/v1/tasks/",
            "http://127.0.0.1:1/api/v1/tasks/",
        ]


def test_the_proxy_of_the_environment_is_used_for_other_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FaultServer([ScriptedResponse(b"[]")]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert BeRayClient("http://beray.example", "tok").list_tasks() == []
        assert proxy.requests[0].path == "http://beray.example/api/v1/tasks/"


class FailingPipe(io.RawIOBase):
    """File of unknown length whose second read fails."""

    def __init__(self, content: Any, then: Exception | None = None) -> None:
        self._blocks = iter([content])
        self._then = then

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> Any:
        block = next(self._blocks, b"")
        if not block and self._then is not None:
            raise self._then
        return block


def failing_pipe(content: Any, then: Exception | None = None) -> BinaryIO:
    return cast(BinaryIO, FailingPipe(content, then))


def test_an_exception_of_a_pipe_is_raised() -> None:
    with FaultServer([UPLOADED] * 2) as server:
        client = BeRayClient(server.url)
        with pytest.raises(OSError, match="Input/output error"):
            client.upload_file(
                1, "f", failing_pipe(b"x" * 100_000, OSError(5, "Input/output error"))
            )
        with pytest.raises(InvalidArgument, match="open in text mode"):
            client.upload_file(1, "f", failing_pipe("text"))
        assert client.upload_file(1, "f", failing_pipe(b"x" * 100_000))["size"] == 1
        assert server.requests[-1].body == b"x" * 100_000


def test_request_content_is_in_no_repr() -> None:
    secret = {"json": {"password": "SECRET"}, "headers": {"Authorization": "Bearer SECRET"}}
    call = ApiRequest("POST", "/auth/login", False, (1.0, 1.0), secret)
    transport = Transport("http://127.0.0.1:1")
    transport.set_token("SECRET")
    shown = f"{call!r} {call} {transport!r} {bearer_auth('SECRET')!r} {transport.session!r}"
    assert "SECRET" not in shown


def test_a_number_that_is_too_long_for_an_id() -> None:
    with pytest.raises(InvalidArgument, match="id must not have more than 4300 digits"):
        BeRayClient().get_task(10**5000)


def test_the_excerpt_of_a_large_response_is_fast() -> None:
    began = time.process_time()
    server = FaultServer([ScriptedResponse("é".encode() * 10_000_000)])
    with server, pytest.raises(InvalidResponseError) as caught:
        BeRayClient(server.url).list_tasks()
    assert caught.value.body == "é" * 2048
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("value", "calls"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 2),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 2),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 1),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 1),
        ("-5", 2),
        ("nan", 1),
        ("9" * 400, 1),
        ("soon", 1),
    ],
)
def test_retry_after_in_all_forms(value: str, calls: int) -> None:
    task = ScriptedResponse(b'{"id": 1, "goal": "g", "status": "s"}')
    with FaultServer([ScriptedResponse(b"{}", 429, {"Retry-After": value}), task]) as server:
        client = BeRayClient(server.url)
        if calls == 1:
            with pytest.raises(RateLimitError):
                client.create_task("g")
        else:
            assert client.create_task("g")["id"] == 1
        assert len(server.requests) == calls


class CannedAdapter(requests.adapters.BaseAdapter):
    """Transport adapter of a caller's session that does not use urllib3."""

    def __init__(self, *bodies: bytes) -> None:
        super().__init__()
        self._bodies = iter(bodies)

    def send(self, request: Any, *_args: Any, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.raw = io.BytesIO(next(self._bodies))
        return response

    def close(self) -> None:
        pass


def test_a_session_with_another_transport(tmp_path: Path) -> None:
    session = requests.Session()
    body = os.urandom(300_000)
    session.mount("http://", CannedAdapter(b"[]", END, body, body))
    client = BeRayClient("http://beray.example", session=session)
    assert client.list_tasks() == []
    assert len(list(client.stream_task_updates(1))) == 1
    assert client.get_file_content(1, "f").content == body
    assert client.download_file(1, "f", tmp_path / "f").read_bytes() == body
