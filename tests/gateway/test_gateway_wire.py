"""Tests of the client against BeRay's server: every row of the Gateway wire page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray.gateway import (
    AgentContextRequiredError,
    AuthenticationError,
    GatewayClient,
    MissingSecretError,
    ObjectNotFoundError,
    PrefabCall,
    PrefabNotFoundError,
    QuotaExceededError,
    StreamEventType,
    ValidationError,
)
from beray.testing import RunningServer, access_token
from tests.network_support import needs_own_network
from tests.shared_servers import ServerPool


@pytest.fixture
def server(probe_server: RunningServer) -> RunningServer:
    return probe_server


def person(server: RunningServer, account: Any) -> GatewayClient:
    token = access_token(account)
    return GatewayClient(base_url=server.url, jwt_token=token)


@pytest.fixture
def client(server: RunningServer) -> Iterator[GatewayClient]:
    """Client of an agent of a new account, with an API key."""
    with server.sign_up() as account:
        key = account.create_api_key("rows", agent_id="scout")["key"]
        with GatewayClient.from_api_key(key, base_url=server.url) as client:
            yield client


@pytest.fixture
def poem(tmp_path: Path) -> Path:
    path = tmp_path / "poem.txt"
    path.write_text("one two three\n")
    return path


def test_a_run_with_files_in_and_out(client: GatewayClient, poem: Path, tmp_path: Path) -> None:
    document = client.upload_input_file(poem)
    result = client.run("probe", "1.0.0", "count", {"unit": "words"}, {"document": [document]})
    assert result.is_success() and result.status == "SUCCESS" and result.job_id
    assert result.get_function_result() == {"count": 3, "note": "none"}
    (url,) = result.get_file_urls()
    assert result.get_files() == {"copy": [url]}
    assert client.download_file(url, tmp_path / "copy.txt").read_bytes() == poem.read_bytes()
    same = client.prefab("probe", "latest").call(
        "count", files={"document": [document]}, unit="words"
    )
    assert same.get_function_result() == result.get_function_result()


def test_a_streamed_run(client: GatewayClient) -> None:
    with client.run("probe", "latest", "tell", {"times": 3}, stream=True) as stream:
        events = list(stream)
    kinds = [event.type for event in events]
    assert kinds == ["start", *["content", "progress"] * 3, "done"]
    assert [event.data for event in events if event.type == StreamEventType.CONTENT] == [
        "piece 0", "piece 1", "piece 2",
    ]  # fmt: skip
    for event in client.run("probe", "latest", "tell", {"times": 1000}, stream=True):
        if event.type == "content":
            break
    assert client.run("probe", "latest", "tell").get("content") == ["piece 0", "piece 1"]


def test_a_batch_keeps_its_order_and_failures_apart(client: GatewayClient) -> None:
    calls = [
        PrefabCall("probe", "latest", "tell", {"times": 1}),
        PrefabCall("probe", "latest", "wrong", {}),
        PrefabCall("nothing", "latest", "x", {}),
        PrefabCall("probe", "latest", "tell", {"times": 2}),
    ]
    batch = client.run_batch(calls)
    assert [result.is_success() for result in batch.results] == [True, False, False, True]
    assert not batch.all_success()
    assert [result.error["code"] for result in batch.get_failed()] == [
        "INVALID_OUTPUT", "PREFAB_NOT_FOUND",
    ]  # fmt: skip


def test_files_are_kept_listed_and_cleaned(client: GatewayClient, poem: Path) -> None:
    uploaded = {client.upload_file(poem) for _ in range(3)}
    listed, token = set(), None
    while True:
        page = client.list_files(limit=2, continuation_token=token)
        listed |= {file["s3_url"] for file in page["files"]}
        if (token := page.get("next_token")) is None:
            break
    assert listed == uploaded
    assert all(url.startswith("s3://beray/agent-outputs/") for url in uploaded)
    assert [client.delete_file(url) for url in uploaded] == [True] * 3
    assert not client.delete_file(uploaded.pop())
    first = client.upload_temp_file(poem, ttl=60, session_id="s1")
    other = client.upload_temp_file(poem, ttl_hours=1)
    assert [file["s3_url"] for file in client.list_temp_files("s1")["files"]] == [first]
    assert len(client.list_temp_files()["files"]) == 2
    assert client.cleanup_temp_files("s1") == 1
    assert [file["s3_url"] for file in client.list_temp_files()["files"]] == [other]
    with pytest.raises(ObjectNotFoundError):
        client.get_presigned_url(first)
    assert client.get_presigned_url(other, expires_in=60).startswith("http://127.0.0.1:")


def test_prefabs_and_their_specs(client: GatewayClient) -> None:
    listed = {prefab.prefab_id: prefab for prefab in client.list_prefabs(status="deployed")}
    assert {"document-text", "image", "probe", "table"} <= listed.keys()
    assert listed["table"].is_official and listed["probe"].requires_secrets
    assert client.get_prefab_spec("probe")["version"] == "1.0.0"


def test_error_responses(server: RunningServer, client: GatewayClient) -> None:
    with pytest.raises(AuthenticationError):
        GatewayClient.from_api_key("sk-wrong", base_url=server.url)
    with pytest.raises(AuthenticationError):
        GatewayClient(base_url=server.url).list_prefabs()
    with pytest.raises(PrefabNotFoundError) as unknown:
        client.run("probe", "9.0.0", "count", {})
    assert (unknown.value.prefab_id, unknown.value.version) == ("probe", "9.0.0")
    with pytest.raises(ValidationError, match=r"parameters\.unit"):
        client.run("probe", "latest", "count", {"unit": "miles"})
    with pytest.raises(MissingSecretError) as missing:
        client.run("probe", "latest", "whisper", {})
    assert (missing.value.prefab_id, missing.value.secret_name) == ("probe", "API_KEY")
    assert missing.value.instructions == "Get one at example.com"
    account = server.sign_up()
    with account, person(server, account) as somebody, pytest.raises(AgentContextRequiredError):
        somebody.list_files()


def test_the_daily_limit_of_calls(tmp_path: Path, poem: Path) -> None:
    with (
        RunningServer.start(tmp_path / "data", BERAY_DAILY_PREFAB_CALLS="1") as server,
        server.sign_up() as account,
        person(server, account) as client,
    ):
        files = {"documents": [client.upload_input_file(poem)]}
        assert client.run("document-text", "latest", "info", files=files).is_success()
        with pytest.raises(QuotaExceededError) as spent:
            client.run("document-text", "latest", "info", files=files)
    error = spent.value
    assert (error.limit, error.used, error.quota_type) == (1, 1, "daily_calls")


@needs_own_network
def test_an_allowed_address_needs_no_credentials(
    server_pool: ServerPool, tmp_path: Path, poem: Path
) -> None:
    server = server_pool.server(BERAY_GATEWAY_ALLOW="127.0.0.1")
    with GatewayClient(base_url=server.url) as client:
        files = {"documents": [client.upload_input_file(poem)]}
        (url,) = client.run("document-text", "latest", "extract", files=files).get_file_urls()
        assert client.download_file(url, tmp_path / "text").read_text() == "one two three\n"
