"""Messages of 422 responses: every route describes wrong input without wording of a library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pydantic import TypeAdapter, ValidationError

from beray import BeRayClient
from beray.server.api.tasks import TaskRequest
from beray.server.http.validation_errors import from_validation_error
from beray.testing import RunningServer, authorization

LIBRARY_WORDING = re.compile(
    r"Input should|should have|should match|Field required|Extra inputs|unable to parse|"
    r"Value error|valid (string|integer|number|list|dictionary|boolean)|<\w+(\[\w+\])?>|pydantic"
)
WRONG_VALUES: list[Any] = [None, 5, -1.5, "x", True, [], [5], [[]], {}, {"a": 5}, "x" * 300_000]


def schemas(document: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the object schema of a request body and those of its properties."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    yield schema


def bodies(document: dict[str, Any], operation: dict[str, Any]) -> Iterator[Any]:
    """Yield request bodies in which one value has a wrong type or size."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return
    yield from WRONG_VALUES[:-1]
    for schema in schemas(document, content["schema"]):
        for name in schema.get("properties", {}):
            for value in WRONG_VALUES:
                yield {name: value}


def messages(answer: requests.Response) -> list[str]:
    """Return the messages of an error response of either API."""
    detail = answer.json()["detail"]
    if isinstance(detail, str):
        return [detail]
    if isinstance(detail, dict):
        problems = detail.get("errors", [])
        return [detail["message"], *(problem["msg"] for problem in problems)]
    return [problem["msg"] for problem in detail]


def test_messages_of_every_route_contain_no_wording_of_a_library(
    beray_server: RunningServer, beray_client: BeRayClient
) -> None:
    document = requests.get(f"{beray_server.url}/openapi.json", timeout=30).json()
    task_id = beray_client.create_task("!true", start=False)["id"]
    token = authorization(beray_client)
    key = beray_client.create_api_key("validation", agent_id="validation")["key"]
    checked = 0
    with requests.Session() as session:
        for path, operations in document["paths"].items():
            url = beray_server.url + re.sub(
                r"\{\w+\}", "x", path.replace("{task_id}", f"{task_id}")
            )
            headers = {"X-API-Key": key} if "/internal/" in path else token
            for method, operation in operations.items():
                names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
                attempts: list[dict[str, Any]] = [
                    {"json": body} for body in bodies(document, operation)
                ]
                attempts += [
                    {"params": {name: value}} for name in names for value in ("x", "-1", "")
                ]
                for attempt in attempts:
                    answer = session.request(method, url, headers=headers, timeout=30, **attempt)
                    assert answer.status_code < 500, (method, url, attempt)
                    if answer.status_code == 422:
                        checked += 1
                        for message in messages(answer):
                            assert not LIBRARY_WORDING.search(message), (method, path, message)
    assert checked > 100


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "goal: is required"),
        ({"goal": 5}, "goal: expects a string, got a number"),
        ({"goal": "x", "start": "perhaps"}, "start: expects true or false, got a string"),
        ({"goal": "x", "tags": "one"}, "tags: expects an array, got a string"),
        ({"goal": "x", "limits": 5}, "limits: expects an object, got a number"),
        ({"goal": "x", "limits": {"tokens": -1}}, "limits.tokens: must be at least 0, got -1"),
        ({"goal": "x", "limits": {"apples": 1}}, "limits.apples: is not a known field; remove it"),
        ({"goal": "x", "tags": [""]}, "tags.0: must have at least 1 character, got 0"),
        ({"goal": "!"}, "goal: must not be empty"),
        ({"goal": "x", "model": "m" * 201}, "model: may have at most 200 characters, got 201"),
        ({"goal": "x", "tags": ["t"] * 51}, "tags: may have at most 50 items, got 51"),
    ],
)
def test_a_message_names_the_expected_value(body: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TaskRequest.model_validate(body)
    assert str(from_validation_error(caught.value.errors()[0])) == message


def test_strings_of_a_body_are_not_repeated() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python("a secret")
    error = caught.value.errors()[0]
    assert "secret" not in str(from_validation_error({**error, "loc": ("body", "number")}))
    assert "'a secret'" in str(from_validation_error({**error, "loc": ("query", "number")}))
