"""Every route of the OpenAPI schema with every kind of credential.

A route without a rule fails the test, so that access to a new route is a decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
import requests

from beray.server.api.middleware import Activity
from beray.server.app import create_app
from beray.testing import RunningServer
from tests.account_servers import ADMIN_PASSWORD
from tests.server.account_requests import (
    api_key,
    ask,
    first_administrator,
    rows,
    sign_up,
    token_of,
    user_id,
)

PUBLIC: Final = "public"
SESSION: Final = "session"
PASSWORD_CHANGE: Final = "session, also before a required change of the password"
ANY: Final = "session, or API key except for the gateway"
READ: Final = "tasks:read"
WRITE: Final = "tasks:write"
FILES: Final = "files"
GATEWAY: Final = "gateway"
ADMINISTRATOR: Final = "administrator"

API: Final = "/api/v1"
RULES: Final = {
    f"POST {API}/auth/request-verification-code": PUBLIC,
    f"POST {API}/auth/register": PUBLIC,
    f"POST {API}/auth/login": PUBLIC,
    f"POST {API}/auth/token": PUBLIC,
    f"POST {API}/auth/request-password-reset": PUBLIC,
    f"POST {API}/auth/reset-password": PUBLIC,
    f"POST {API}/auth/setup": PUBLIC,
    "GET /setup": PUBLIC,
    "GET /healthz": PUBLIC,
    "GET /readyz": PUBLIC,
    f"POST {API}/auth/logout": PASSWORD_CHANGE,
    f"GET {API}/users/me": ANY,
    f"POST {API}/users/me/password": PASSWORD_CHANGE,
    f"POST {API}/users/me/request-email-change": SESSION,
    f"POST {API}/users/me/email": SESSION,
    f"POST {API}/users/me/delete": SESSION,
    f"GET {API}/users/me/export": SESSION,
    f"GET {API}/sessions": PASSWORD_CHANGE,
    f"DELETE {API}/sessions": PASSWORD_CHANGE,
    f"DELETE {API}/sessions/{{session_id}}": PASSWORD_CHANGE,
    f"GET {API}/apikeys": SESSION,
    f"POST {API}/apikeys": SESSION,
    f"DELETE {API}/apikeys/{{key_id}}": SESSION,
    f"GET {API}/admin/users": ADMINISTRATOR,
    f"POST {API}/admin/users": ADMINISTRATOR,
    f"GET {API}/admin/users/{{user_id}}": ADMINISTRATOR,
    f"PATCH {API}/admin/users/{{user_id}}": ADMINISTRATOR,
    f"DELETE {API}/admin/users/{{user_id}}": ADMINISTRATOR,
    f"POST {API}/admin/users/{{user_id}}/reset-password": ADMINISTRATOR,
    f"POST {API}/admin/users/{{user_id}}/revoke-sessions": ADMINISTRATOR,
    f"POST {API}/admin/users/{{user_id}}/apikeys": ADMINISTRATOR,
    f"GET {API}/admin/invitations": ADMINISTRATOR,
    f"POST {API}/admin/invitations": ADMINISTRATOR,
    f"DELETE {API}/admin/invitations/{{email}}": ADMINISTRATOR,
    f"GET {API}/admin/audit": ADMINISTRATOR,
    f"GET {API}/tasks/stream": READ,
    f"GET {API}/tasks/{{task_id}}/stream": READ,
    f"GET {API}/tasks/": READ,
    f"POST {API}/tasks/": WRITE,
    f"GET {API}/tasks/{{task_id}}": READ,
    f"DELETE {API}/tasks/{{task_id}}": WRITE,
    f"GET {API}/tasks/{{task_id}}/events": READ,
    f"POST {API}/tasks/{{task_id}}/start": WRITE,
    f"POST {API}/tasks/{{task_id}}/stop": WRITE,
    f"GET {API}/tasks/{{task_id}}/files/tree": FILES,
    f"GET {API}/tasks/{{task_id}}/files/content": FILES,
    f"PUT {API}/tasks/{{task_id}}/files/content": FILES,
    f"PUT {API}/tasks/{{task_id}}/files/directory": FILES,
    f"POST {API}/tasks/{{task_id}}/files/download": FILES,
    f"GET {API}/tasks/{{task_id}}/checkpoints": READ,
    f"GET {API}/tasks/{{task_id}}/diff": FILES,
    f"POST {API}/tasks/{{task_id}}/restore": FILES,
    f"PUT {API}/chats/{{chat_id}}": WRITE,
    f"GET {API}/chats/{{chat_id}}": READ,
    f"POST {API}/chats/{{chat_id}}/messages": WRITE,
    "POST /v1/auth/convert_to_internal_token": "API key for an internal token",
    "POST /internal/files/generate_upload_url": GATEWAY,
    "POST /internal/files/upload": GATEWAY,
    "POST /internal/files/upload_temp": GATEWAY,
    "GET /internal/files/download": GATEWAY,
    "GET /internal/files/list": GATEWAY,
    "GET /internal/files/list_temp": GATEWAY,
    "DELETE /internal/files/cleanup_temp": GATEWAY,
    "DELETE /internal/files": GATEWAY,
    "POST /v1/internal/run": GATEWAY,
    "POST /v1/run": GATEWAY,
    "GET /v1/prefabs": GATEWAY,
    "POST /v1/prefabs": GATEWAY,
    "GET /v1/prefabs/{prefab_id}/{version}/spec": GATEWAY,
    "GET /v1/prefabs/{prefab_id}/secrets": GATEWAY,
    "PUT /v1/prefabs/{prefab_id}/secrets/{name}": GATEWAY,
    "DELETE /v1/prefabs/{prefab_id}/secrets/{name}": GATEWAY,
}

SCOPES: Final = ("tasks:read", "tasks:write", "files", "gateway")
KEYS: Final = tuple(f"{kind} key {scope}" for kind in ("user's", "service") for scope in SCOPES)
CREDENTIALS: Final = (
    "none", "wrong", "user", "other user", "disabled", "expired", "revoked", "must change",
    "administrator", "expired key", "revoked key", "disabled key", *KEYS,
)  # fmt: skip
INVALID: Final = ("disabled", "expired", "revoked", "wrong", "expired key", "revoked key",
                  "disabled key")  # fmt: skip

SAMPLE: Final = "GET /internal/files/list"
SAMPLED: Final = ("expired key", "revoked key", "disabled key")
"""Credentials that are tried on one route of the gateway, which accepts 30 wrong keys a minute."""


def operations() -> list[str]:
    paths = create_app(Activity()).openapi()["paths"]
    return [f"{method.upper()} {path}" for path, found in paths.items() for method in found]


def admitted(rule: str, credential: str) -> bool:
    """Return True if the rule permits the credential."""
    is_key, scope = credential in KEYS, credential.rpartition(" ")[2]
    if rule == PUBLIC:
        return True
    if credential in ("none", *INVALID):
        return False
    if credential == "must change":
        return rule in (PASSWORD_CHANGE, ANY)
    if rule == ANY:
        return not is_key or scope != GATEWAY
    if rule == "API key for an internal token":
        return is_key and scope == GATEWAY
    if rule == ADMINISTRATOR:
        return credential == "administrator"
    if rule in (SESSION, PASSWORD_CHANGE):
        return not is_key
    return not is_key or scope == rule


class Site(NamedTuple):
    """Server with accounts for all credentials.

    Attributes:
        tokens: Access token or API key by the name of the credential, if it is reused.
        task: Id of a task of ``user``.
    """

    server: RunningServer
    tokens: dict[str, str]
    addresses: dict[str, str]
    task: int


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with RunningServer.start(tmp_path_factory.mktemp("matrix"), BERAY_PREFAB_AUTHORS="*") as server:
        tokens = {"none": "", "wrong": "x" * 43, "administrator": first_administrator(server)}
        addresses = {"administrator": "root@example.test"}
        admin = tokens["administrator"]
        for name in ("user", "other user", "disabled", "expired", "revoked", "must change"):
            addresses[name], tokens[name] = sign_up(server)
        tokens["disabled key"] = api_key(server, tokens["disabled"], *SCOPES)
        path = f"/admin/users/{user_id(server, tokens['disabled'])}"
        assert ask(server, "PATCH", path, admin, {"disabled": True}).ok
        expire = "UPDATE tokens SET expires_at = '2020-01-01T00:00:00.000000Z' WHERE user_id = ?"
        rows(server, expire, user_id(server, tokens["expired"]))
        assert ask(server, "POST", "/auth/logout", tokens["revoked"]).ok
        path = f"/admin/users/{user_id(server, tokens['must change'])}"
        assert ask(server, "PATCH", path, admin, {"must_change_password": True}).ok
        tokens["expired key"] = api_key(server, tokens["user"], *SCOPES)
        rows(server, "UPDATE api_keys SET expires_at = '2020-01-01T00:00:00.000000Z' WHERE user_id "
             "= ?", user_id(server, tokens["user"]))  # fmt: skip
        tokens["revoked key"] = api_key(server, tokens["user"], *SCOPES)
        newest = ask(server, "GET", "/apikeys", tokens["user"]).json()[0]["id"]
        assert ask(server, "DELETE", f"/apikeys/{newest}", tokens["user"]).ok
        made = ask(server, "POST", "/admin/users", admin, {"email": "bot@example.test"})
        for scope in SCOPES:
            tokens[f"user's key {scope}"] = api_key(server, tokens["user"], scope)
            body = {"name": scope, "scopes": [scope]}
            path = f"/admin/users/{made.json()['id']}/apikeys"
            tokens[f"service key {scope}"] = ask(server, "POST", path, admin, body).json()["key"]
        task = ask(server, "POST", "/tasks/", tokens["user"], {"goal": "!true", "start": False})
        yield Site(server, tokens, addresses, task.json()["id"])


def credential_of(site: Site, name: str) -> str:
    """Return a credential; that of a session is new, because the routes can end it."""
    if name in ("user", "other user", "must change"):
        return token_of(site.server, site.addresses[name])
    if name == "administrator":
        return token_of(site.server, site.addresses[name], ADMIN_PASSWORD)
    return site.tokens[name]


def send(site: Site, operation: str, credential: str) -> requests.Response:
    method, _, path = operation.partition(" ")
    path = path.format(
        task_id=site.task, session_id="0", user_id=999_999, email="x@example.test", chat_id="c",
        key_id=999_999, prefab_id="none", version="1.0.0", name="N",
    )  # fmt: skip
    token = credential_of(site, credential)
    is_gateway = not path.startswith(API) and "convert" not in path
    header = "X-API-Key" if is_gateway and token.startswith("sk-") else "Authorization"
    value = token if header == "X-API-Key" else f"Bearer {token}"
    # A body that no route accepts: an admitted request changes nothing.
    options: dict[str, Any] = {"json": []} if method in ("POST", "PUT", "PATCH") else {}
    if path.endswith("/files/content") and method == "PUT":
        options = {"params": {"path": "../outside"}}
    return requests.request(
        method, site.server.url + path, headers={header: value} if token else {}, timeout=30,
        stream=True, allow_redirects=False, **options,
    )  # fmt: skip


def test_each_route_has_a_rule() -> None:
    assert set(operations()) == set(RULES)


DECLARED: Final[dict[str, Any]] = {
    PUBLIC: None,
    SESSION: [{"HTTPBearer": []}],
    PASSWORD_CHANGE: [{"HTTPBearer": []}],
    ANY: [{"HTTPBearer": [READ, WRITE, FILES]}],
    READ: [{"HTTPBearer": [READ]}],
    WRITE: [{"HTTPBearer": [WRITE]}],
    FILES: [{"HTTPBearer": [FILES]}],
    ADMINISTRATOR: [{"HTTPBearer": [ADMINISTRATOR]}],
    GATEWAY: [{"InternalToken": []}, {"ApiKey": []}, {"HTTPBearer": []}],
}
"""Security requirements of the OpenAPI schema for each rule."""


def test_the_schema_declares_the_credentials_of_each_route() -> None:
    paths = create_app(Activity()).openapi()["paths"]
    for operation, rule in RULES.items():
        method, _, path = operation.partition(" ")
        assert paths[path][method.lower()].get("security") == DECLARED.get(rule), operation


@pytest.mark.parametrize("operation", RULES)
def test_access(site: Site, operation: str) -> None:
    rule = RULES[operation]
    for credential in CREDENTIALS:
        if credential in SAMPLED and rule == GATEWAY and operation != SAMPLE:
            continue
        with send(site, operation, credential) as response:
            status = response.status_code
            if admitted(rule, credential):
                assert status not in (401, 403), (credential, status, response.text)
            elif credential in ("none", *INVALID):
                assert status == 401, (credential, status)
            else:
                # An access token cannot be exchanged like an API key.
                expected = (401,) if rule.startswith("API key") and "key" not in credential else ()
                assert status in (expected or (403,)), (credential, status)
            is_own = credential == "user" or credential.startswith("user's")
            if "{task_id}" in operation and admitted(rule, credential) and not is_own:
                assert status == 404, (credential, status)
