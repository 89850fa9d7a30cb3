"""Authentication of the gateway: tokens, API keys, addresses."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
import requests
from sqlalchemy import update

from beray import BeRayClient
from beray.exceptions import ConflictError, NotFoundError, UnprocessableEntityError
from beray.server.http.client_address import in_networks
from beray.server.storage.api_keys import MAX_API_KEYS, NewApiKey, TooManyKeys
from beray.server.storage.digests import secret_digest
from beray.server.storage.internal_tokens import ApiKeyRevoked
from beray.server.storage.tables import GatewayUsage, InternalToken
from beray.server.storage.times import utc_now
from beray.testing import RunningServer, access_token, raw_request
from tests.gateway_support import Agent, exchange, refusal
from tests.network_support import needs_own_network
from tests.repositories import Repositories, opened
from tests.shared_servers import ServerPool
from tests.support import WITHOUT_BUBBLEWRAP, until

LIST = "/internal/files/list"
UPLOAD_URL = "/internal/files/generate_upload_url"


def ask(server: RunningServer, **headers: str) -> requests.Response:
    """Send a request that requires authentication, but no agent."""
    return requests.post(
        f"{server.url}{UPLOAD_URL}",
        json={"filename": "a.txt", "content_type": "text/plain"},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        timeout=30,
    )


def test_a_key_is_exchanged_for_a_token_of_its_user_and_agent(agent: Agent) -> None:
    answer = exchange(agent.server, agent.api_key)
    assert answer.status_code == 200
    assert list(answer.json()) == ["internal_token"]
    url = agent.files("POST", "generate_upload_url", json={"filename": "a"}).json()["s3_url"]
    assert url.startswith(f"s3://beray/agent-inputs/{agent.user_id}/")
    assert agent.files("GET", "list").status_code == 200


def test_a_request_without_a_credential_is_401(beray_server: RunningServer) -> None:
    answer = ask(beray_server)
    assert refusal(answer) == (401, "NOT_AUTHENTICATED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("place", ["X_Internal_Token", "Authorization"])
@pytest.mark.parametrize("what", ["", "Bearer", "Basic dTpw", "Bearer \xe9", "sk-x", "x" * 5000])
def test_an_invalid_credential_is_rejected(
    beray_server: RunningServer, place: str, what: str
) -> None:
    assert refusal(ask(beray_server, **{place: what})) == (401, "INVALID_TOKEN")


def test_each_credential_is_valid_in_its_own_header_only(agent: Agent) -> None:
    token = access_token(agent.account)
    server = agent.server
    assert ask(server, Authorization=f"Bearer {token}").status_code == 200
    assert ask(server, X_Internal_Token=agent.token).status_code == 200
    for wrong, status in ((agent.token, 401), (agent.api_key, 403)):
        assert refusal(ask(server, Authorization=f"Bearer {wrong}"))[0] == 401
        me = requests.get(
            f"{server.url}/api/v1/users/me", headers={"Authorization": f"Bearer {wrong}"}, timeout=9
        )
        assert me.status_code == status
    for wrong in (token, agent.api_key, f"Bearer {agent.token}"):
        assert refusal(ask(server, X_Internal_Token=wrong))[0] == 401
    for wrong in (token, agent.token):
        assert refusal(exchange(server, wrong)) == (401, "INVALID_API_KEY")
    # A wrong one is not made good by a right one in another place.
    both = ask(server, X_Internal_Token="wrong", Authorization=f"Bearer {token}")
    assert refusal(both) == (401, "INVALID_TOKEN")


def test_a_person_has_no_agent(agent: Agent) -> None:
    answer = raw_request(agent.account, "GET", LIST)
    assert refusal(answer) == (400, "MISSING_AGENT_CONTEXT")


def test_a_revoked_key_takes_its_tokens_with_it(agent: Agent) -> None:
    second = Agent.of(agent.server, agent.account, "other")
    first_key, second_key = sorted(key["id"] for key in agent.account.list_api_keys())
    agent.account.revoke_api_key(first_key)
    assert refusal(agent.files("GET", "list")) == (401, "INVALID_TOKEN")
    assert refusal(exchange(agent.server, agent.api_key)) == (401, "INVALID_API_KEY")
    assert second.files("GET", "list").status_code == 200
    with pytest.raises(NotFoundError):
        agent.account.revoke_api_key(first_key)
    assert [key["id"] for key in agent.account.list_api_keys()] == [second_key]


def test_a_key_of_another_user_is_404(agent: Agent, beray_client: BeRayClient) -> None:
    (key,) = agent.account.list_api_keys()
    with pytest.raises(NotFoundError):
        beray_client.revoke_api_key(key["id"])
    assert beray_client.list_api_keys() == []
    assert agent.files("GET", "list").status_code == 200


def test_a_key_is_returned_once_and_not_stored(agent: Agent) -> None:
    (listed,) = agent.account.list_api_keys()
    assert "key" not in listed
    assert agent.api_key.startswith(listed["start"])
    assert len(listed["start"]) == 8
    assert agent.api_key.startswith("sk-")
    for path in agent.server.data_dir.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            assert agent.api_key.encode() not in kept
            assert agent.token.encode() not in kept


@pytest.mark.parametrize(
    ("name", "agent_id"),
    [("", "a"), ("  ", "a"), ("n" * 101, "a"), ("n\0", "a"), ("n", ""), ("n", "."), ("n", ".."),
     ("n", "-"), ("n", "a/b"), ("n", "a b"), ("n", "ä"), ("n", "a\n"), ("n", "a" * 129)],
)  # fmt: skip
def test_an_invalid_name_of_a_key_is_rejected(
    beray_client: BeRayClient, name: str, agent_id: str
) -> None:
    with pytest.raises(UnprocessableEntityError):
        beray_client.create_api_key(name, agent_id)
    assert beray_client.list_api_keys() == []


def test_the_number_of_keys_per_user_is_limited(
    beray_client: BeRayClient, repositories: Repositories
) -> None:
    user_id, keys = repositories.user_id(), repositories.api_keys
    for number in range(MAX_API_KEYS):
        keys.create(user_id, NewApiKey(f"{number}", None))
    with pytest.raises(TooManyKeys):
        keys.create(user_id, NewApiKey("one more", None))
    for number in range(MAX_API_KEYS):
        beray_client.create_api_key(f"{number}")
    with pytest.raises(ConflictError, match="Revoke one"):
        beray_client.create_api_key("one more")


def whose(token: InternalToken | None) -> tuple[int, str | None]:
    assert token is not None
    return token.user_id, token.agent_id


def test_tokens_end(repositories: Repositories) -> None:
    user_id, tokens = repositories.user_id(), repositories.internal_tokens
    short = tokens.create(user_id, "a", 0.0)
    long = tokens.create(user_id, "a", 60.0)
    other = tokens.create(user_id, None, 60.0)
    assert tokens.find(short) is None
    assert whose(tokens.find(long)) == (user_id, "a")
    assert whose(tokens.find(other)) == (user_id, None)
    tokens.delete(long)
    tokens.delete(long)
    assert tokens.find(long) is None
    assert whose(tokens.find(other)) == (user_id, None)


def test_a_use_extends_a_token(repositories: Repositories) -> None:
    user_id, tokens = repositories.user_id(), repositories.internal_tokens
    key, _ = repositories.api_keys.create(user_id, NewApiKey("k", "a"))
    token = tokens.create(user_id, "a", 60.0, api_key_id=key.id)

    def expiry(idle_seconds: float | None) -> str:
        assert tokens.find(token, idle_seconds) is not None
        found = tokens.find(token)
        assert found is not None
        return found.expires_at

    issued = expiry(None)
    assert expiry(30.0) == issued, "it is not shortened"
    extended = expiry(3600.0)
    assert utc_now(3600.0) < extended <= utc_now(3660.0)
    assert expiry(3600.0) == extended, "each use would be a write"
    assert expiry(3660.0) > extended
    repositories.api_keys.delete(user_id, key.id)
    assert tokens.find(token, 3600.0) is None
    with pytest.raises(ApiKeyRevoked):
        tokens.create(user_id, "a", 60.0, api_key_id=key.id)


def test_a_token_that_cannot_be_extended_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "beray.sqlite3"
    with opened(path, lock_seconds=0.05) as repositories:
        user_id, tokens = repositories.user_id(), repositories.internal_tokens
        key, _ = repositories.api_keys.create(user_id, NewApiKey("k", "a"))
        token = tokens.create(user_id, "a", 60.0, api_key_id=key.id)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            found = tokens.find(token, 3600.0)
            assert found is not None
            other.execute("ROLLBACK")
        again = tokens.find(token)
    assert again is not None and again.expires_at == found.expires_at < utc_now(60.0)


def test_tokens_of_runs_live_until_they_are_ended(repositories: Repositories) -> None:
    user_id, tokens = repositories.user_id(), repositories.internal_tokens
    key, _ = repositories.api_keys.create(user_id, NewApiKey("k", "a"))
    run, ended = tokens.create(user_id, "task-1"), tokens.create(user_id, "task-2")
    other = tokens.create(user_id, "a", 60.0, api_key_id=key.id)
    tokens.delete(ended)
    found = tokens.find(run, 1.0)
    assert found is not None and found.expires_at > utc_now(100 * 365 * 24 * 3600.0)
    assert tokens.find(ended) is None
    tokens.delete_of_runs()
    assert tokens.find(run) is None and tokens.find(other) is not None


def test_a_use_extends_a_token_to_24_hours(agent: Agent) -> None:
    path = agent.server.data_dir / "beray.sqlite3"
    which = (secret_digest(agent.token),)
    with closing(sqlite3.connect(path, isolation_level=None)) as opened:
        change = "UPDATE internal_tokens SET expires_at = ? WHERE digest = ?"
        opened.execute(change, (utc_now(60.0), *which))
        used_at = utc_now(24 * 3600.0)
        assert agent.files("GET", "list").status_code == 200
        (expiry,) = opened.execute(
            "SELECT expires_at FROM internal_tokens WHERE digest = ?", which
        ).fetchone()
        assert used_at < expiry < utc_now(24 * 3600.0 + 120)
        opened.execute(change, (utc_now(), *which))
    assert agent.files("GET", "list").status_code == 401


def test_a_killed_server_leaves_no_token_of_a_run(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        agent = Agent.new(server)
        server.kill()
        with opened(server.data_dir / "beray.sqlite3") as repositories:
            run = repositories.internal_tokens.create(agent.user_id, "task-1")
        server.restart()
        assert ask(server, X_Internal_Token=run).status_code == 401
        assert agent.files("GET", "list").status_code == 200


def expired(server: RunningServer) -> bool:
    """Return True if all tokens have expired. Asking the server would be a use."""
    with closing(sqlite3.connect(server.data_dir / "beray.sqlite3")) as opened:
        (last,) = opened.execute("SELECT max(expires_at) FROM internal_tokens").fetchone()
    return bool(last < utc_now())


def test_a_token_expires_and_is_swept(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data", BERAY_INTERNAL_TOKEN_SECONDS="1") as server:
        agent = Agent.new(server)
        until(lambda: expired(server))
        assert refusal(agent.files("GET", "list")) == (401, "INVALID_TOKEN")
        again = exchange(server, agent.api_key).json()["internal_token"]
        assert ask(server, X_Internal_Token=again).status_code == 200


def test_a_token_outlives_a_restart(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        agent = Agent.new(server)
        server.kill()
        server.restart()
        assert agent.files("GET", "list").status_code == 200


def test_guessing_has_an_end(tmp_path: Path) -> None:
    with RunningServer.start(tmp_path / "data") as server:
        key = server.sign_up().create_api_key("k")["key"]
        assert [exchange(server, f"sk-{n}").status_code for n in range(30)] == [401] * 30
        for guess in ("sk-30", key):
            answer = exchange(server, guess)
            assert refusal(answer) == (429, "TOO_MANY_TRIES")
            assert 0 < int(answer.headers["Retry-After"]) <= 60


def test_right_keys_are_not_counted(agent: Agent) -> None:
    for _ in range(40):
        assert exchange(agent.server, agent.api_key).status_code == 200


@needs_own_network
def test_an_allowed_address_is_let_in_as_nobody(tmp_path: Path) -> None:
    with RunningServer.start(
        tmp_path / "data", BERAY_GATEWAY_ALLOW="10.0.0.0/8, 127.0.0.1"
    ) as server:
        answer = ask(server)
        assert answer.status_code == 200
        assert answer.json()["s3_url"].startswith("s3://beray/agent-inputs/whitelisted/")
        listed = requests.get(f"{server.url}{LIST}", timeout=30)
        assert refusal(listed) == (400, "MISSING_AGENT_CONTEXT")
        removed = requests.delete(
            f"{server.url}/internal/files", params={"s3_url": answer.json()["s3_url"]}, timeout=30
        )
        assert refusal(removed) == (403, "FORBIDDEN")
        # A wrong credential is not ignored.
        assert refusal(ask(server, X_Internal_Token="wrong")) == (401, "INVALID_TOKEN")
        assert refusal(ask(server, Authorization="Bearer wrong")) == (401, "INVALID_TOKEN")
        agent = Agent.new(server)
        assert agent.files("GET", "list").status_code == 200


@needs_own_network
def test_a_page_in_a_browser_is_not_let_in_by_its_address(server_pool: ServerPool) -> None:
    server = server_pool.server(BERAY_GATEWAY_ALLOW="127.0.0.1")
    url = f"{server.url}/internal/files/generate_upload_url"
    page = {"Origin": "https://evil.example"}
    assert requests.post(url, json={"filename": "a"}, headers=page).status_code == 401
    assert requests.post(url, json={"filename": "a"}).status_code == 200


@pytest.mark.parametrize("forged", ["10.1.2.3", "10.1.2.3, 10.1.2.3", "::ffff:10.1.2.3"])
def test_a_forged_header_of_an_unlisted_peer_changes_nothing(
    server_pool: ServerPool, forged: str
) -> None:
    headers = {"X_Forwarded_For": forged, "X_Real_IP": forged, "Forwarded": f"for={forged}"}
    for proxies in ("", "192.0.2.1"):
        environ = {
            "BERAY_GATEWAY_ALLOW": "10.0.0.0/8",
            "BERAY_TRUSTED_PROXIES": proxies,
            "BERAY_PUBLIC_URL": "https://beray.example.test",
        }
        environ |= WITHOUT_BUBBLEWRAP
        server = server_pool.server(**environ)
        assert refusal(ask(server, **headers)) == (401, "NOT_AUTHENTICATED")


def test_a_listed_proxy_says_who_a_client_is(tmp_path: Path) -> None:
    environ = {
        "BERAY_GATEWAY_ALLOW": "10.0.0.0/8,127.0.0.1",
        "BERAY_TRUSTED_PROXIES": "127.0.0.1",
        **WITHOUT_BUBBLEWRAP,
    }
    with RunningServer.start(tmp_path / "data", environ) as server:
        assert ask(server, X_Forwarded_For="10.1.2.3").status_code == 200
        assert ask(server, X_Forwarded_For="::ffff:10.1.2.3").status_code == 200
        assert refusal(ask(server, X_Forwarded_For="11.1.2.3"))[0] == 401
        # What a client wrote stands in front of what the proxy knows.
        assert refusal(ask(server, X_Forwarded_For="10.1.2.3, 11.1.2.3"))[0] == 401
        assert refusal(ask(server, X_Forwarded_For="10.1.2.3 or so"))[0] == 401


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("::ffff:10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "::ffff:10.0.0.0/104", True),
        ("::ffff:10.1.2.3", "::ffff:10.1.2.3", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("2001:db8::1", "10.0.0.0/8,2001:db8::/32", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("::10.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "", False),
        ("", "0.0.0.0/0,::/0", False),
        ("localhost", "0.0.0.0/0", False),
        ("10.1.2.3", "::/0", False),
    ],
)
def test_networks(address: str, networks: str, allowed: bool) -> None:
    assert in_networks(address, networks) is allowed


def test_calls_are_counted_by_subject_and_day(repositories: Repositories) -> None:
    calls = repositories.prefab_calls
    assert [calls.count("user:1", 3) for _ in range(5)] == [1, 2, 3, 4, 4]
    assert calls.count("address:10.0.0.1", 3) == 1
    assert calls.count("user:1", None) == 4
    # Of several at once, all or none.
    assert calls.count("user:2", 3, calls=2) == 2
    assert calls.count("user:2", 3, calls=2) == 4
    assert calls.count("user:2", 3) == 3
    with repositories.database.writing() as session:
        session.execute(update(GatewayUsage).values(day="2026-01-01"))
    assert calls.count("user:1", 3) == 1
    with repositories.database.reading() as session:
        assert session.query(GatewayUsage).count() == 1


def test_calls_side_by_side_are_all_counted(repositories: Repositories) -> None:
    calls = repositories.prefab_calls
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(calls.count("user:1", 10)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [*range(1, 11), *[11] * 10]
