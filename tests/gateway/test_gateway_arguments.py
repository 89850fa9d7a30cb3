"""What no gateway could take is refused before anything is sent, with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import beray
from beray.gateway import GatewayClient, InvalidInput, PrefabCall, ValidationError
from beray.gateway.arguments import checked_call
from beray.testing import FaultServer


class Colour(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


def around() -> dict[str, Any]:
    circle: dict[str, Any] = {"list": []}
    circle["list"].append(circle)
    return circle


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({"x": float("nan")}, "parameters.x: JSON has no nan"),
        ({"a": [1, {"b": float("inf")}]}, r"parameters.a\[1\].b"),
        ({"x": [10**5000]}, r"parameters.x\[0\] has more digits"),
        ({"x": b"bytes"}, "parameters.x: JSON has no bytes"),
        ({"x": {1, 2}}, "parameters.x: JSON has no set"),
        ({"x": datetime(2026, 1, 1)}, "parameters.x: JSON has no datetime"),
        ({"x": Path("a")}, "parameters.x: JSON has no"),
        ({"x": {1: 2}}, "parameters.x: a key"),
        ({1: 2}, "parameters: a key"),
        ({"x": "\ud800"}, "parameters.x is not valid text"),
        ({"\ud800": 1}, "parameters: a key"),
        ([("x", 1)], "parameters must be a dictionary, not list"),
        ("text", "parameters must be a dictionary, not str"),
        (around(), r"parameters.list\[0\] contains itself"),
        ({"x": deep()}, "nested too deeply"),
    ],
)
def test_parameters_that_are_no_json(parameters: Any, place: str) -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        for stream in (False, True):
            with pytest.raises(InvalidInput, match=place) as caught:
                client.run("p", "1", "f", parameters, stream=stream)
            assert isinstance(caught.value, ValidationError)
            assert isinstance(caught.value, (ValueError, beray.InvalidArgument))
        with pytest.raises(InvalidInput, match=r"calls\[1\]\.param"):
            client.run_batch([PrefabCall("p", "1", "f"), PrefabCall("p", "1", "f", parameters)])
        assert server.requests == []


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"in": "s3://b/k"}, r"files\['in'\] must be a list"),
        ({"in": ["s3://b/k", "/local/file"]}, r"files\['in'\]\[1\]: an s3://"),
        ({"in": ["http://h/x"]}, r"files\['in'\]\[0\]"),
        ({"in": [Path("x")]}, r"files\['in'\]\[0\]"),
        ({"in": [b"s3://b/k"]}, "not bytes"),
        ({"in": None}, r"files\['in'\] must be a list"),
        ({"in": {"s3://b/k": 1}}, r"files\['in'\] must be a list"),
        ({"": ["s3://b/k"]}, "a key is text"),
        ({7: ["s3://b/k"]}, "a key is text"),
        (["s3://b/k"], "files must be a dictionary"),
        ("s3://b/k", "files must be a dictionary"),
    ],
)
def test_files_that_are_no_s3_urls(files: Any, place: str) -> None:
    with FaultServer([]) as server:
        client = GatewayClient("t", server.url)
        with pytest.raises(InvalidInput, match=place):
            client.run("p", "1", "f", {}, files)
        with pytest.raises(InvalidInput, match=place):
            client.prefab("p", "1").stream("f", files=files)
        assert server.requests == []


@pytest.mark.parametrize("bad", ["", "  ", None, 7, "\ud800"])
def test_names_that_are_none(bad: Any) -> None:
    client = GatewayClient("t", "http://127.0.0.1:1")
    for arguments in ((bad, "1", "f"), ("p", bad, "f"), ("p", "1", bad)):
        with pytest.raises(InvalidInput, match="must be a text"):
            client.run(*arguments)


def test_a_batch_that_is_none() -> None:
    client = GatewayClient("t", "http://127.0.0.1:1")
    for calls in ([], PrefabCall("p", "1", "f"), [{"prefab_id": "p"}], ["p"]):
        with pytest.raises(InvalidInput):
            client.run_batch(calls)  # type: ignore[arg-type]


def test_what_json_can_say_is_sent() -> None:
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
def test_either_it_is_json_or_it_is_refused(value: Any) -> None:
    try:
        sent = checked_call(PrefabCall("p", "1", "f", {"x": value}))
    except beray.InvalidArgument as error:
        assert str(error).startswith("parameters")
        return
    said = json.dumps(sent, allow_nan=False).encode()
    assert json.loads(said)["inputs"]["parameters"] == {"x": value}
