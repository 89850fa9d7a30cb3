"""Requests about accounts to a real server, for tests of the HTTP API."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import requests

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.account_servers import ADMIN_EMAIL, ADMIN_PASSWORD, Outbox, setup_link
from tests.support import new_address


def ask(
    server: RunningServer, method: str, path: str, token: str = "", body: Any = None, **options: Any
) -> requests.Response:
    """Send a request to a path of the BeRay API, with an access token or API key if given."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.request(
        method,
        f"{server.url}/api/v1{path}",
        headers={**headers, **options.pop("headers", {})},
        json=body,
        timeout=30,
        **options,
    )


def detail(response: requests.Response) -> str:
    """Return the text of an error response; of a validation error, all messages."""
    found = response.json()["detail"]
    return found if isinstance(found, str) else "; ".join(problem["msg"] for problem in found)


def sign_up(server: RunningServer, email: str = "", password: str = PASSWORD) -> tuple[str, str]:
    """Create an account; return its address and an access token."""
    address = email or new_address()
    asked = ask(server, "POST", "/auth/request-verification-code", body={"email": address})
    assert asked.status_code == 200, asked.text
    body = {
        "email": address,
        "verification_code": server.mailed_code(address),
        "password": password,
    }
    answer = ask(server, "POST", "/auth/register", body=body)
    assert answer.status_code == 200, answer.text
    return address, str(answer.json()["access_token"])


def sign_in(server: RunningServer, email: str, password: str = PASSWORD) -> requests.Response:
    """Return the response to a sign-in."""
    return ask(server, "POST", "/auth/login", body={"email": email, "password": password})


def token_of(server: RunningServer, email: str, password: str = PASSWORD) -> str:
    """Sign in; return the access token."""
    answer = sign_in(server, email, password)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def setup_token(server: RunningServer) -> str:
    """Return the token of the newest link that creates the first administrator."""
    return setup_link(server).partition("#")[2]


def first_administrator(server: RunningServer, email: str = ADMIN_EMAIL) -> str:
    """Create the first administrator with the link of the server; return its access token."""
    body = {"token": setup_token(server), "email": email, "password": ADMIN_PASSWORD}
    answer = ask(server, "POST", "/auth/setup", body=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["user"]["role"] == "administrator"
    return str(answer.json()["access_token"])


def user_id(server: RunningServer, token: str) -> int:
    """Return the id of the user of a token."""
    return int(ask(server, "GET", "/users/me", token).json()["id"])


def api_key(server: RunningServer, token: str, *scopes: str, **options: Any) -> str:
    """Create an API key with scopes; return the key."""
    body = {"name": " ".join(scopes), "scopes": list(scopes), **options}
    answer = ask(server, "POST", "/apikeys", token, body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


def rows(server: RunningServer, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Execute a statement on the database of a server; return its rows."""
    path = server.data_dir / "beray.sqlite3"
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        return database.execute(statement, values).fetchall()


def reset_code(server: RunningServer, email: str) -> str:
    """Request a new password; return the mailed code."""
    outbox = Outbox(server, email)
    asked = ask(server, "POST", "/auth/request-password-reset", body={"email": email})
    assert asked.status_code == 200, asked.text
    return outbox.new_code()


def audit(server: RunningServer) -> list[tuple[str, str, str]]:
    """Return actor, action and object of all entries of the audit log, oldest first."""
    return [
        (str(actor), str(action), str(subject))
        for actor, action, subject in rows(
            server, "SELECT actor, action, object FROM audit ORDER BY id"
        )
    ]
