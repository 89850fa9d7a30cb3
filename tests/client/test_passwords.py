"""Passwords in NFKC form, without locking out accounts whose password is in another form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import responses
from responses import matchers

from beray import AuthenticationError, BeRayClient

API = "http://localhost:8000/api/v1"
RAW = "cafe\u0301 ﬁve"  # "é" as two code points, "fi" as a ligature
NFKC = "caf\u00e9 five"
SESSION = {"access_token": "t"}
WRONG = {"detail": "wrong"}
SIGN_IN: list[tuple[str, Callable[[BeRayClient, str], Any]]] = [
    ("login", lambda c, password: c.login("e@x", password)),
    ("token", lambda c, password: c.login_with_form("e@x", password)),
]


def sent() -> list[str]:
    return [json.loads(call.request.body or b"")["password"] for call in responses.calls]


@responses.activate
def test_registration_sends_the_normalized_form() -> None:
    responses.post(f"{API}/auth/register", json=SESSION)
    BeRayClient().register("e@x", "123456", RAW)
    assert sent() == [NFKC]


@responses.activate
def test_sign_in_sends_the_normalized_form() -> None:
    responses.post(f"{API}/auth/login", json=SESSION)
    BeRayClient().login("e@x", RAW)
    assert sent() == [NFKC]


@pytest.mark.parametrize("status", [401, 422])
@responses.activate
def test_a_rejected_form_is_followed_by_the_original_one(status: int) -> None:
    responses.post(f"{API}/auth/login", json=WRONG, status=status)
    responses.post(f"{API}/auth/login", json=SESSION)
    client = BeRayClient()
    client.login("e@x", RAW)
    assert sent() == [NFKC, RAW]
    assert client.access_token == "t"


@responses.activate
def test_the_form_flow_does_the_same() -> None:
    for password, status in ((NFKC, 401), (RAW, 200)):
        form = matchers.urlencoded_params_matcher({"username": "e@x", "password": password})
        responses.post(f"{API}/auth/token", json=SESSION, status=status, match=[form])
    BeRayClient().login_with_form("e@x", RAW)
    assert len(responses.calls) == 2


@pytest.mark.parametrize(("path", "call"), SIGN_IN)
@pytest.mark.parametrize(("password", "attempts"), [("plain", 1), (NFKC, 1), (RAW, 2)])
@responses.activate
def test_a_wrong_password_is_sent_once_in_each_form(
    path: str, call: Callable[[BeRayClient, str], Any], password: str, attempts: int
) -> None:
    responses.post(f"{API}/auth/{path}", json=WRONG, status=401)
    with pytest.raises(AuthenticationError):
        call(BeRayClient(), password)
    assert len(responses.calls) == attempts
