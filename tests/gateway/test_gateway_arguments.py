"""Tests of validation: invalid arguments raise before a request, with their position."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

import beray
from beray.gateway import GatewayClient, InvalidInput, PrefabCall, ValidationError
from beray.gateway.exceptions import Unreachable
from beray.gateway.validation import checked_call
from beray.testing import FaultServer


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {"list": []}
    value["list"].append(value)
    return value


def deeply_nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"x": float("nan")}, "parameters.x is nan, which JSON"),
        ({"a": [1, {"b": float("inf")}]}, r"parameters.a\[1\].b"),
        ({"x": [10**5000]}, r"parameters.x\[0\] has too many digits"),
        ({"x": b"bytes"}, "parameters.x is of type bytes, which JSON"),
        ({"x": {1, 2}}, "parameters.x is of type set, which JSON"),
        ({"x": datetime(2026, 1, 1)}, "parameters.x is of type datetime, which JSON"),
        ({"x": Path("a")}, "parameters.x is of type .*Path, which JSON"),
        ({"x": {1: 2}}, "parameters.x: a key"),
        ({1: 2}, "parameters: a key"),
        ({"x": "\ud800"}, "parameters.x is not valid Unicode"),
        ({"\ud800": 1}, "parameters: a key"),
        ([("x", 1)], "parameters must be a dictionary, not list"),
        ("text", "parameters must be a dictionary, not str"),
        (cyclic(), r"parameters.list\[0\] contains itself"),
        ({"x": deeply_nested()}, "nested deeper than 200 levels"),
    ],
)
def test_parameters_that_json_cannot_represent(parameters: Any, message: str) -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        for stream in (False, True):
            with pytest.raises(InvalidInput, match=message) as caught:
                client.run("p", "1", "f", parameters, stream=stream)
            assert isinstance(caught.value, ValidationError)
            assert isinstance(caught.value, (ValueError, beray.InvalidArgument))
        with pytest.raises(InvalidInput, match=r"calls\[1\]\.param"):
            client.run_batch([PrefabCall("p", "1", "f"), PrefabCall("p", "1", "f", parameters)])
        assert server.requests == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"in": "s3://b/k"}, r"files\['in'\] must be a list"),
        ({"in": ["s3://b/k", "/local/file"]}, r"files\['in'\]\[1\] must be an s3://"),
        ({"in": ["http://h/x"]}, r"files\['in'\]\[0\]"),
        ({"in": [Path("x")]}, r"files\['in'\]\[0\]"),
        ({"in": [b"s3://b/k"]}, "not bytes"),
        ({"in": None}, r"files\['in'\] must be a list"),
        ({"in": {"s3://b/k": 1}}, r"files\['in'\] must be a list"),
        ({"": ["s3://b/k"]}, "a key must be a non-empty string"),
        ({7: ["s3://b/k"]}, "a key must be a non-empty string"),
        (["s3://b/k"], "files must be a dictionary"),
        ("s3://b/k", "files must be a dictionary"),
    ],
)
def test_files_that_are_not_s3_urls(files: Any, message: str) -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        with pytest.raises(InvalidInput, match=message):
            client.run("p", "1", "f", {}, files)
        with pytest.raises(InvalidInput, match=message):
            client.prefab("p", "1").stream("f", files=files)
        assert server.requests == []


@pytest.mark.parametrize("value", ["", "  ", None, 7, "\ud800"])
def test_invalid_names(value: Any) -> None:
    client = GatewayClient("t", "http://127.0.0.1:1")
    for arguments in ((value, "1", "f"), ("p", value, "f"), ("p", "1", value)):
        with pytest.raises(InvalidInput, match="must be a non-empty string"):
            client.run(*arguments)


def test_invalid_batches() -> None:
    client = GatewayClient("t", "http://127.0.0.1:1")
    call = PrefabCall("p", "1", "f")
    for calls in ([], call, None, 5, "p", [{"prefab_id": "p"}], ["p"]):
        with pytest.raises(InvalidInput):
            client.run_batch(calls)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"calls\[1\] must be a PrefabCall, not dict"):
        client.run_batch([call, {}])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match=r"calls\[0\]\.version must"):
        client.run_batch([PrefabCall("p", "", "f")])


def test_local_paths_get_advice_and_other_urls_are_not_shown(tmp_path: Path) -> None:
    client = GatewayClient("t", "http://127.0.0.1:1")
    secret = "https://h/x?X-Amz-Signature=TOPSECRET"
    for url in ("/local/file", secret):
        for call in (
            lambda url: client.download_file(url, tmp_path / "f"),
            client.get_presigned_url,
            client.delete_file,
            lambda url: client.run("p", "1", "f", files={"in": [url]}),
        ):
            with pytest.raises(InvalidInput, match="must be an s3://bucket/key URL") as caught:
                call(url)
            assert "TOPSECRET" not in caught.value.message
            assert ("upload local files first" in caught.value.message) is (
                "files" in caught.value.message and url != secret
            )


HUGE = 10**5000
"""Integer that Python does not convert to text."""
INVALID_STRINGS = (5, True, b"x", ["x"], "", "\ud800")
INVALID_PATHS = (5, True, None, b"x", ["x"], "a\0b", "\ud800")
INVALID_SECONDS = (None, "5", (1, 2), True, 0, -1, float("nan"), HUGE, 1j)
INVALID_COUNTS = ("5", None, True, 1.5, -1, HUGE, float("nan"))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("timeout", (*INVALID_SECONDS[1:], float("inf"))),
        ("idle", (*INVALID_SECONDS, float("inf"))),
        ("deadline", INVALID_SECONDS),
        ("connection", (None, 5, "55", (1,), (1, 2, 3), (1, None), ("1", 2), (0, 1), (1, HUGE))),
        ("max_retries", INVALID_COUNTS),
        ("session", (5, "session", object())),
        ("verify", (5, b"x", ["x"], "a\0b")),
        ("cert", (5, b"x", ("a", None), ("a", "b", "c"), True)),
        ("proxies", (5, "http://h", [("http", "h")], {1: "h"}, {"http": 5})),
        ("base_url", (5, b"http://h", ["x"])),
        ("internal_token", (5, "", b"x", True)),
        ("api_key", (5, "", b"x", True)),
        ("jwt_token", (5, "", b"x", True)),
    ],
)
def test_invalid_arguments_of_a_client(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(InvalidInput, match=name):
            GatewayClient(**{"base_url": "http://127.0.0.1:1", name: value})


def test_valid_arguments_of_a_client() -> None:
    session = Mock(spec=requests.Session, headers={}, verify=True, proxies={})
    session.request.side_effect = requests.ConnectionError
    client = GatewayClient(  # type: ignore[call-overload]
        "t", "http://127.0.0.1:1", 1, idle=Fraction(1, 2), deadline=float("inf"),
        connection=[1, 2], max_retries=0, verify=True, proxies={"http": None}, session=session,
    )  # fmt: skip
    with pytest.raises(Unreachable):
        client.list_prefabs()
    assert session.request.call_args.kwargs["timeout"] == (1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "values", "call"),
    [
        ("path", INVALID_PATHS, lambda c, _, x: c.upload_file(x)),
        ("path", INVALID_PATHS, lambda c, _, x: c.upload_temp_file(x)),
        ("path", INVALID_PATHS, lambda c, _, x: c.upload_input_file(x)),
        (
            "local_path",
            [path for path in INVALID_PATHS if path is not None],
            lambda c, _, x: c.download_file("s3://b/k", x),
        ),
        ("content_type", INVALID_STRINGS, lambda c, p, x: c.upload_file(p, x)),
        ("content_type", INVALID_STRINGS, lambda c, p, x: c.upload_input_file(p, x)),
        ("content_type", INVALID_STRINGS, lambda c, p, x: c.upload_temp_file(p, content_type=x)),
        ("transfer", (5, "x", False), lambda c, p, x: c.upload_file(p, transfer=x)),
        ("transfer", (5, "x", False), lambda c, p, x: c.upload_input_file(p, transfer=x)),
        ("transfer", (5,), lambda c, _, x: c.download_file("s3://b/k", "here", transfer=x)),
        ("ttl", ("60", *INVALID_SECONDS[1:], 0.5), lambda c, p, x: c.upload_temp_file(p, ttl=x)),
        (
            "ttl_hours",
            ("2", *INVALID_SECONDS[1:], 1e-9),
            lambda c, p, x: c.upload_temp_file(p, ttl_hours=x),
        ),
        ("session_id", (5, "", b"x"), lambda c, p, x: c.upload_temp_file(p, session_id=x)),
        ("session_id", (5, "", b"x"), lambda c, _, x: c.list_temp_files(x)),
        ("session_id", (5, "", b"x"), lambda c, _, x: c.cleanup_temp_files(x)),
        (
            "expires_in",
            ("60", *INVALID_SECONDS),
            lambda c, _, x: c.get_presigned_url("s3://b/k", x),
        ),
        ("limit", (*INVALID_COUNTS[1:], 0), lambda c, _, x: c.list_files(x)),
        ("limit", (*INVALID_COUNTS[1:], 0), lambda c, _, x: c.list_temp_files("s", x)),
        ("continuation_token", INVALID_STRINGS, lambda c, _, x: c.list_files(1, x)),
        ("prefix", (5, b"x", "\ud800"), lambda c, _, x: c.list_files(prefix=x)),
        ("s3_url", (5, None), lambda c, _, x: c.delete_file(x)),
        ("status", INVALID_STRINGS, lambda c, _, x: c.list_prefabs(x)),
        ("prefab_id", INVALID_STRINGS, lambda c, _, x: c.get_prefab_spec(x)),
        ("version", INVALID_STRINGS, lambda c, _, x: c.get_prefab_spec("p", x)),
        ("prefab_id", INVALID_STRINGS, lambda c, _, x: c.prefab(x, "1")),
        ("version", (*INVALID_STRINGS, None), lambda c, _, x: c.prefab("p", x)),
        ("archive", (5, None, "x", {"a": 1}), lambda c, _, x: c.add_prefab(x)),
        ("prefab_id", INVALID_STRINGS, lambda c, _, x: c.list_prefab_secrets(x)),
        ("name", INVALID_STRINGS, lambda c, _, x: c.set_prefab_secret("p", x, "v")),
        ("value", (5, None, b"x", "\ud800"), lambda c, _, x: c.set_prefab_secret("p", "N", x)),
        ("name", INVALID_STRINGS, lambda c, _, x: c.remove_prefab_secret("p", x)),
    ],
)
def test_invalid_arguments_of_methods(
    name: str, values: tuple[Any, ...], call: Callable[..., Any], tmp_path: Path
) -> None:
    local = tmp_path / "file"
    local.write_bytes(b"x")
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        for value in values:
            with pytest.raises(InvalidInput, match=rf"\b{name}\b") as caught:
                call(client, local, value)
            assert isinstance(caught.value, beray.InvalidArgument)
        assert server.requests == []


def test_values_that_json_can_represent_are_sent() -> None:
    parameters: Mapping[str, Any] = MappingProxyType(
        {"e": Colour.RED, "n": Number.ONE, "t": (1, None), "m": MappingProxyType({"a": True})}
    )
    shared = [1]
    sent = checked_call(
        PrefabCall("p", "1", "f", {**parameters, "s": [shared, shared]}, {"in": ()})
    )
    assert json.loads(json.dumps(sent["inputs"])) == {
        "parameters": {"e": "red", "n": 1, "t": [1, None], "m": {"a": True}, "s": [[1], [1]]},
        "files": {"in": []},
    }


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_values_are_either_sent_unchanged_or_rejected(value: Any) -> None:
    try:
        sent = checked_call(PrefabCall("p", "1", "f", {"x": value}))
    except beray.InvalidArgument as error:
        assert str(error).startswith("parameters")
        return
    body = json.dumps(sent, allow_nan=False).encode()
    assert json.loads(body)["inputs"]["parameters"] == {"x": value}
