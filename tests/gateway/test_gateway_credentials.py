"""Tests of credentials: tokens, API keys, the environment, and their secrecy."""

from __future__ import annotations

import gc
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

import beray
from beray.gateway import (
    AuthenticationError,
    GatewayClient,
    GatewayConfigurationError,
    GatewayError,
    InvalidAnswer,
    InvalidInput,
    ServiceUnavailableError,
    Unreachable,
)
from beray.http.connection import shared_session
from beray.testing import FaultServer, ScriptedResponse
from tests.gateway.gateway_responses import (
    DONE,
    START,
    json_response,
    run_response,
    stream_response,
    success_result,
)
from tests.secure_server import Certificates, SecureServer
from tests.support import until

EXCHANGE = "/v1/auth/convert_to_internal_token"


def sent_credentials(server: FaultServer) -> list[tuple[str, str | None, str | None]]:
    return [
        (
            request.path,
            request.headers.get("x-internal-token"),
            request.headers.get("authorization"),
        )
        for request in server.requests
    ]


def token_response(value: str) -> ScriptedResponse:
    return json_response({"internal_token": value})


EXPIRED = json_response({"detail": "the token has expired"}, 401)


def test_each_kind_of_credentials_and_none() -> None:
    with FaultServer(
        [json_response({"prefabs": []})] * 3 + [token_response("T"), json_response({"prefabs": []})]
    ) as server:
        GatewayClient("internal", server.url).list_prefabs()
        GatewayClient(base_url=server.url, jwt_token="jwt").list_prefabs()
        GatewayClient(base_url=server.url).list_prefabs()
        GatewayClient(base_url=server.url, api_key="sk-1").list_prefabs()
        assert sent_credentials(server) == [
            ("/v1/prefabs", "internal", None),
            ("/v1/prefabs", None, "Bearer jwt"),
            ("/v1/prefabs", None, None),
            (EXCHANGE, None, "Bearer sk-1"),
            ("/v1/prefabs", "T", None),
        ]


def test_an_api_key_is_exchanged_when_it_is_first_needed_and_kept() -> None:
    with FaultServer([]) as server:
        client = GatewayClient(base_url=server.url, api_key="sk-1")
        assert server.requests == []
        server.add_responses(
            token_response("T"), json_response({"prefabs": []}), json_response({"prefabs": []})
        )
        client.list_prefabs()
        client.list_prefabs()
        assert [path for path, *_ in sent_credentials(server)] == [
            EXCHANGE,
            "/v1/prefabs",
            "/v1/prefabs",
        ]


def test_from_api_key_exchanges_at_once() -> None:
    with FaultServer([token_response("T"), json_response({"detail": "bad key"}, 401)]) as server:
        GatewayClient.from_api_key("sk-1", base_url=server.url)
        assert len(server.requests) == 1
        with pytest.raises(AuthenticationError) as caught:
            GatewayClient.from_api_key(f"sk-{'bad'}", server.url)
    assert isinstance(caught.value, beray.AuthenticationError)
    assert "sk-bad" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(Unreachable):
        GatewayClient.from_api_key("sk-1", server.url)


def test_an_expired_token_is_exchanged_once_more_also_for_runs() -> None:
    with FaultServer(
        [token_response("1"), EXPIRED, token_response("2"), run_response(success_result())]
    ) as server:
        client = GatewayClient(base_url=server.url, api_key="sk-1")
        assert client.run("p", "1", "f").is_success()
        server.add_responses(EXPIRED, token_response("3"), stream_response(START, DONE))
        assert len(list(client.run("p", "1", "f", stream=True))) == 2
        run = "/v1/internal/run"
        assert [(path, sent) for path, sent, _ in sent_credentials(server)] == [
            (EXCHANGE, None), (run, "1"), (EXCHANGE, None), (run, "2"), (run, "2"), (EXCHANGE, None), (run, "3"),
        ]  # fmt: skip
        server.add_responses(EXPIRED, token_response("4"), EXPIRED)
        with pytest.raises(AuthenticationError):
            client.run("p", "1", "f")
        # A revoked key.
        server.add_responses(EXPIRED, json_response({"detail": "revoked"}, 401))
        with pytest.raises(AuthenticationError, match="convert_to_internal_token"):
            client.run("p", "1", "f")
        server.add_responses(token_response("5"), run_response(success_result()))
        assert client.run("p", "1", "f").is_success()


def test_a_file_is_sent_again_whole_with_the_new_token(tmp_path: Path) -> None:
    local = tmp_path / "f"
    local.write_bytes(os.urandom(2_500_000))
    with FaultServer(
        [token_response("1"), EXPIRED, token_response("2"), json_response({"s3_url": "s3://b/k"})]
    ) as server:
        client = GatewayClient(base_url=server.url, api_key="sk-1")
        assert client.upload_file(local) == "s3://b/k"
        first, second = (request for request in server.requests if request.path.endswith("/upload"))
    assert first.body == second.body
    assert local.read_bytes() in second.body


def test_403_and_a_fixed_token_are_not_exchanged() -> None:
    with FaultServer(
        [token_response("1"), json_response({"detail": "no"}, 403), EXPIRED]
    ) as server:
        with pytest.raises(AuthenticationError):
            GatewayClient(base_url=server.url, api_key="sk-1").run("p", "1", "f")
        with pytest.raises(AuthenticationError):
            GatewayClient("fixed", server.url).run("p", "1", "f")
        assert len(server.requests) == 3


def test_a_failed_exchange_reports_that_the_run_was_not_sent() -> None:
    with FaultServer([ScriptedResponse(b"x", drop_at=0, reset=True)]) as server:
        client = GatewayClient(base_url=server.url, api_key="sk-1", max_retries=0)
        with pytest.raises(Unreachable) as caught:
            client.run("p", "1", "f")
        assert not caught.value.delivered
        # With retries, the exchange is repeated, because that has no additional effect.
        server.add_responses(
            ScriptedResponse(b"x", drop_at=0, reset=True),
            token_response("T"),
            run_response(success_result()),
        )
        assert GatewayClient(base_url=server.url, api_key="sk-1").run("p", "1", "f").is_success()


@pytest.mark.parametrize(
    "answer",
    [
        json_response({}),
        json_response({"internal_token": 7}),
        json_response({"internal_token": "a\r\nb"}),
        json_response({"internal_token": ""}),
    ],
)
def test_invalid_tokens_in_responses(answer: ScriptedResponse) -> None:
    with FaultServer([answer]) as server, pytest.raises(InvalidAnswer):
        GatewayClient.from_api_key("sk-1", server.url)


def test_a_broken_exchange_shows_no_token() -> None:
    answer = ScriptedResponse(b'{"internal_tokem": "TOPSECRET"}')
    with FaultServer([answer, ScriptedResponse(b"TOPSECRET {")]) as server:
        for _ in range(2):
            with pytest.raises(InvalidAnswer) as caught:
                GatewayClient.from_api_key(f"sk-{'key'}", server.url)
            shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.__dict__)
            assert "TOPSECRET" not in shown
            assert "sk-key" not in shown


class _Gateway(BaseHTTPRequestHandler):
    """Gateway that accepts only the newest token; each exchange creates a new one."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    exchanges = 0
    valid = "none"
    first_round: threading.Barrier

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        cls = type(self)
        with cls.lock:
            cls.exchanges += 1
            cls.valid = f"token-{cls.exchanges}"
            body = json.dumps({"internal_token": cls.valid}).encode()
        self._respond(200, body)

    def do_GET(self) -> None:
        sent = self.headers.get("X-Internal-Token")
        if sent == "token-1" and type(self).valid == "expired":
            self.first_round.wait(20)  # until all requests have the expired token
        with type(self).lock:
            good = sent == type(self).valid
        self._respond(200 if good else 401, b'{"prefabs": []}' if good else b'{"detail": "no"}')

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write no log."""


@pytest.fixture
def gateway() -> Iterator[tuple[str, type[_Gateway]]]:
    handler = type("Handler", (_Gateway,), {"lock": threading.Lock()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()


def test_threads_whose_token_expires_together_exchange_it_once(
    gateway: tuple[str, type[_Gateway]],
) -> None:
    url, handler = gateway
    client = GatewayClient(base_url=url, api_key="sk-1")
    client.list_prefabs()
    assert handler.exchanges == 1
    count = 16
    handler.first_round = threading.Barrier(count)
    handler.valid = "expired"
    outcome: Counter[str] = Counter()

    def call() -> None:
        try:
            client.list_prefabs()
            outcome["good"] += 1
        except GatewayError as error:
            outcome[repr(error)] += 1

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome == {"good": count}
    assert handler.exchanges == 2


class CountingLock:
    """Lock that counts the threads waiting for it."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self.release = lock.release
        self.waiting = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        self.waiting += 1
        try:
            return self._lock.acquire(blocking, timeout)
        finally:
            self.waiting -= 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_threads_that_wait_for_an_exchange_fail_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FaultServer([ScriptedResponse(b"x", stall_at=0)])
    with server:
        new_lock, locks = threading.Lock, list[CountingLock]()

        def counting() -> CountingLock:
            locks.append(CountingLock(new_lock()))
            return locks[-1]

        with monkeypatch.context() as patch:
            patch.setattr(threading, "Lock", counting)
            client = GatewayClient(base_url=server.url, api_key="sk-1", max_retries=0)
        failures: list[BaseException] = []

        def call() -> None:
            with pytest.raises(Unreachable) as caught:
                client.list_prefabs()
            failures.append(caught.value)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: any(lock.waiting == 7 for lock in locks))
        assert server.stalled.wait(10)
    for thread in threads:  # the server is closed
        thread.join(30)
    assert len(failures) == 8
    assert len(server.requests) == 1


def test_the_environment_supplies_missing_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GatewayClient().base_url == "http://localhost:8000"
    monkeypatch.setenv("BERAY_URL", "http://127.0.0.1:1")
    assert GatewayClient().base_url == "http://127.0.0.1:1"
    with FaultServer(
        [json_response({"prefabs": []})] * 6 + [token_response("T"), json_response({"prefabs": []})]
    ) as server:
        monkeypatch.setenv("BERAY_GATEWAY_URL", server.url)
        monkeypatch.setenv("X_INTERNAL_TOKEN", "from-env")
        GatewayClient().list_prefabs()
        GatewayClient("given").list_prefabs()
        GatewayClient(jwt_token="jwt").list_prefabs()
        GatewayClient(base_url=server.url + "/").list_prefabs()
        # The token belongs to the server of BERAY_GATEWAY_URL, and is sent to no other.
        monkeypatch.setenv("BERAY_GATEWAY_URL", "http://127.0.0.1:1")
        GatewayClient(base_url=server.url).list_prefabs()
        monkeypatch.delenv("BERAY_GATEWAY_URL")
        GatewayClient(base_url=server.url).list_prefabs()
        GatewayClient(base_url=server.url, api_key="sk-1").list_prefabs()
        assert [(token, bearer) for _, token, bearer in sent_credentials(server)] == [
            ("from-env", None), ("given", None), (None, "Bearer jwt"), ("from-env", None), (None, None),
            ("from-env", None), (None, "Bearer sk-1"), ("T", None),
        ]  # fmt: skip


@pytest.mark.parametrize("bad", ["", " ", "a b", "a\r\nX: y", "ü", "a\0"])
def test_tokens_with_characters_that_are_invalid_in_a_header(bad: str) -> None:
    bad_options: list[Any] = [{"internal_token": bad}, {"api_key": bad}, {"jwt_token": bad}]
    for options in bad_options:
        with pytest.raises(InvalidInput) as caught:
            GatewayClient(**options, base_url="http://127.0.0.1:1")
        assert isinstance(caught.value, beray.InvalidArgument)


def test_an_empty_key_is_not_replaced_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([]) as server:
        monkeypatch.setenv("BERAY_GATEWAY_URL", server.url)
        monkeypatch.setenv("X_INTERNAL_TOKEN", "from-env")
        for key in (None, ""):
            with pytest.raises(InvalidInput, match="api_key is empty"):
                GatewayClient.from_api_key(key)  # type: ignore[arg-type]
        empty: list[Any] = [{"internal_token": ""}, {"api_key": ""}, {"jwt_token": ""}]
        for options in empty:
            with pytest.raises(InvalidInput, match=f"{next(iter(options))} is empty"):
                GatewayClient(**options)
        assert server.requests == []


def test_arguments_that_contradict_each_other() -> None:
    with pytest.raises(InvalidInput, match="internal_token and api_key"):
        GatewayClient("SECRET", api_key="sk-1")
    with pytest.raises(GatewayConfigurationError):
        GatewayClient("t", "ftp://host")
    with pytest.raises(GatewayConfigurationError):
        GatewayClient("t", verify="/nowhere/ca.pem")
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InvalidInput):
            GatewayClient("t", timeout=seconds)


def test_nothing_shows_a_credential(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ("INTERNAL", "sk-KEY", "JWT", "EXCHANGED")
    with FaultServer(
        [json_response({"prefabs": []})] * 2
        + [token_response("EXCHANGED"), json_response({"prefabs": []})]
    ) as server:
        clients = [
            GatewayClient("INTERNAL", server.url, max_retries=0),
            GatewayClient(base_url=server.url, jwt_token="JWT", max_retries=0),
            GatewayClient(base_url=server.url, api_key="sk-KEY", max_retries=0),
        ]
        for client in clients:
            client.list_prefabs()
    errors: list[BaseException] = []
    for client in clients:
        with pytest.raises(ServiceUnavailableError) as caught:
            client.run("p", "1", "f")
        errors.append(caught.value)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(client)
    shown = caplog.text + repr(
        [
            [
                vars(client),
                *(vars(part) for part in vars(client).values() if hasattr(part, "__dict__")),
            ]
            for client in clients
        ]
    )
    shown += "".join("".join(traceback.format_exception(error)) for error in errors)
    shown += repr([pickle.dumps(error) for error in errors]) + repr(shared_session().headers)
    assert not [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_to_other_servers_are_not_followed(status: int) -> None:
    with FaultServer([json_response({})] * 9) as other, FaultServer([]) as server:
        away = ScriptedResponse(b"", status, {"Location": other.url + "/v1/internal/run"})
        client = GatewayClient("t", server.url)
        for call in (
            lambda: client.run("p", "1", "f"),
            lambda: list(client.run("p", "1", "f", stream=True)),
            client.list_prefabs,
        ):
            server.add_responses(away)
            with pytest.raises(InvalidAnswer, match="another server"):
                call()
        server.add_responses(away)
        with pytest.raises(InvalidAnswer):
            GatewayClient.from_api_key("sk-1", server.url)
        assert other.requests == []


def test_netrc_and_cookies_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password NETRC\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    cookie = json_response({"prefabs": []}, 200, **{"Set-Cookie": "session=1"})
    with FaultServer([cookie, json_response({"prefabs": []})]) as server:
        client = GatewayClient(base_url=server.url)
        client.list_prefabs()
        client.list_prefabs()
        assert all("authorization" not in request.headers for request in server.requests)
        assert all("cookie" not in request.headers for request in server.requests)


def test_clients_share_connections_and_nothing_else() -> None:
    with FaultServer([json_response({"prefabs": []})] * 20) as server:
        for number in range(20):
            with GatewayClient(f"t{number}", server.url) as client:
                client.list_prefabs()
        gc.collect()
        assert server.connection_count == 1
        assert [sent for _, sent, _ in sent_credentials(server)] == [
            f"t{number}" for number in range(20)
        ]
        shared_session().get(server.url, timeout=30)
        assert server.connection_count == 1
    assert "X-Internal-Token" not in shared_session().headers


def test_a_custom_session_is_used_and_closed() -> None:
    session = requests.Session()
    session.headers["X-Mine"] = "1"
    with FaultServer([json_response({"prefabs": []})]) as server:
        with GatewayClient("t", server.url, session=session) as client:
            client.list_prefabs()
        assert server.requests[0].headers["x-mine"] == "1"
    assert "X-Internal-Token" not in session.headers


def test_a_client_for_each_request_makes_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    shared_session()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("creating a session is too slow for each request")

    monkeypatch.setattr(requests.Session, "__init__", refuse)
    assert GatewayClient("t", "http://127.0.0.1:1").base_url == "http://127.0.0.1:1"
    GatewayClient(base_url="http://127.0.0.1:1", api_key="sk-1").close()


FORKS = """
import os, sys
from beray.gateway import GatewayClient
client = GatewayClient("t", sys.argv[1])
client.list_prefabs()
child = os.fork()
client.list_prefabs()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_its_own_connections() -> None:
    with FaultServer([json_response({"prefabs": []})] * 3) as server:
        subprocess.run([sys.executable, "-c", FORKS, server.url], check=True, timeout=60)
        assert len(server.requests) == 3
        assert server.connection_count == 2


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_connections_are_shared_only_between_clients_with_the_same_verification(
    tmp_path: Path,
) -> None:
    certificates = Certificates(tmp_path)
    answers = [json_response({"prefabs": []}) for _ in range(4)]
    with SecureServer(answers, certificates.server()) as server:
        GatewayClient("t", server.url, verify=False).list_prefabs()
        with pytest.raises(InvalidAnswer, match="certificate is not trusted"):
            GatewayClient("t", server.url).list_prefabs()
        assert len(server.requests) == 1
        GatewayClient("t", server.url, verify=certificates.authority).list_prefabs()
        assert server.connection_count == 3


def test_a_client_certificate_stays_with_its_server(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    context = certificates.server(demand=True)
    options = {"verify": certificates.authority, "cert": certificates.mine}
    with (
        SecureServer([ScriptedResponse(b"x")], context) as store,
        SecureServer([], context) as server,
    ):
        urls = (
            json_response({"presigned_url": f"{store.url}/f?s"}),
            json_response({"presigned_url": f"{server.url}/f?s"}),
        )
        server.add_responses(*urls, ScriptedResponse(b"mine"))
        client = GatewayClient("t", server.url, **options)  # type: ignore[call-overload]
        with pytest.raises(GatewayError):
            client.download_file("s3://b/k", tmp_path / "f")
        assert store.requests == []
        assert client.download_file("s3://b/k", tmp_path / "f").read_bytes() == b"mine"
        # Nor does a client without a certificate use a connection opened with it.
        with pytest.raises(GatewayError):
            GatewayClient("t", server.url, verify=certificates.authority).list_prefabs()
        assert len(server.requests) == 3


@pytest.mark.filterwarnings("ignore:Unverified HTTPS")
def test_presigned_urls_use_the_certificates_of_the_session(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    trusting, unverified = requests.Session(), requests.Session()
    trusting.verify, unverified.verify = certificates.authority, False
    with (
        SecureServer([ScriptedResponse(b"x")] * 2, certificates.server()) as store,
        FaultServer([]) as server,
    ):
        for session in (trusting, unverified):
            server.add_responses(json_response({"presigned_url": f"{store.url}/f?s"}))
            client = GatewayClient("t", server.url, session=session)
            client.download_file("s3://b/k", tmp_path / "f", overwrite=True)
        server.add_responses(json_response({"presigned_url": f"{store.url}/f?s"}))
        with pytest.raises(InvalidAnswer, match="certificate is not trusted"):
            GatewayClient("t", server.url).download_file("s3://b/k", tmp_path / "g")
