"""Validation of ``prefab.toml``, JSON schemas and versions."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest

from beray.server.prefabs import json_schema, manifest
from beray.server.prefabs.manifest import ManifestError, Version, newest_first

GOOD = """
[prefab]
id = "word-count"
version = "1.0.0"
title = "Word count"
module = "word_count"
[functions.count]
[functions.count.parameters.properties.unit]
enum = ["words", "lines"]
default = "words"
[functions.count.files.inputs.document]
types = [".txt"]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ManifestError) as raised:
        manifest.parse(text.encode("utf-8", "surrogateescape"))
    return [str(problem) for problem in raised.value.problems]


def with_schema(schema: str) -> str:
    return GOOD + f"\n[functions.other.parameters]\n{schema}\n"


def test_omitted_keys_have_defaults() -> None:
    read = manifest.parse(GOOD.encode())
    spec = manifest.spec(read, ["1.0.0"])
    (function,) = spec["functions"]
    assert (spec["id"], spec["name"], spec["status"]) == ("word-count", "Word count", "deployed")
    assert function["parameters"]["additionalProperties"] is False
    assert function["files"]["inputs"]["document"] == {
        "description": "", "required": True, "many": False, "types": [".txt"],
    }  # fmt: skip
    assert (function["seconds"], function["memory_bytes"]) == (60.0, 1024**3)


def test_all_problems_are_reported_at_once_with_their_places() -> None:
    text = GOOD.replace('"word-count"', '"Word Count"').replace('"1.0.0"', '"1.0"')
    text = text.replace("[functions.count]\n", "[functions.count]\nstreming = true\nseconds = -1\n")
    found = problems(text + '[functions.class]\ndescription = "a keyword"\n')
    assert {problem.partition(":")[0] for problem in found} == {
        "prefab.id", "prefab.version", "functions.count.streming", "functions.count.seconds",
        "functions.class",
    }  # fmt: skip
    assert "functions.count.streming: is not a known key" in found


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("type = 'array'", "must be 'object'"),
        ("type = 'objekt'", "must be 'object'"),
        ("'$ref' = 'https://example.com/schema'", "must stay inside the schema"),
        ("properties.x.'$ref' = 'file:///etc/passwd'", "must stay inside the schema"),
        ("properties.x.'$ref' = '#/$defs/none'", "does not exist"),
        (
            "properties.x.'$ref' = '#/properties/y/default'\nproperties.y.default = {}",
            "does not exist",
        ),
        ("properties.x.'$ref' = '#/required/0'\nrequired = ['x']", "does not exist"),
        ("properties.x.'$ref' = '#/required/y'\nrequired = ['x']", "does not exist"),
        ("properties.x.'$ref' = '#anchor'", "does not exist"),
        ("'$id' = 'https://example.com/'", "is not supported"),
        ("properties.x.type = 'strnig'", "strnig"),
        ("properties.x.minimum = 'a'", 'must be a number, got "a"'),
        ("properties.x.minimum = inf", "not finite"),
        ("properties.x.default = 2000-01-01", "not valid JSON"),
        ("properties.x = { type = 'integer', default = 'a' }", "default"),
        ("properties.x.pattern = '(?<=a)b'", "linear time"),
        ("patternProperties.a = {}", "is not supported"),
        ("properties.'no name' = {}", "Python parameter"),
        ("required = ['y']", "not one of the properties"),
        ("'$schema' = 'http://json-schema.org/draft-07/schema#'", "2020-12"),
    ],
)
def test_a_schema_that_cannot_be_used_is_named(schema: str, said: str) -> None:
    found = problems(with_schema(schema))
    assert any("functions.other.parameters" in one and said in one for one in found), found


@pytest.mark.parametrize(
    "text",
    ["", "[prefab", "\udcff", "a = " + "[" * 100_000, "prefab = 3"],
    ids=lambda text: text[:8],
)
def test_invalid_manifests_are_rejected(text: str) -> None:
    assert problems(text)


def test_control_characters_of_a_manifest_are_escaped() -> None:
    found = problems(GOOD + '\n["\\u001b[31m"]\na = 1\n')
    assert found and not any("\x1b" in one for one in found)


def fits(schema: dict[str, Any], value: object) -> bool:
    assert json_schema.schema_problems(schema, of_object=False) == []
    return not json_schema.value_problems(schema, value)


def test_a_pattern_that_backtracks_takes_linear_time() -> None:
    assert not fits({"type": "string", "pattern": "(a+)+$"}, "a" * 100_000 + "!")
    assert fits({"type": "string", "pattern": "b"}, "abc")


def test_references_that_explode_come_to_an_end() -> None:
    defs: dict[str, Any] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(64)
    }
    bomb = {"$defs": {**defs, "d64": {}}, "$ref": "#/$defs/d0"}
    assert "too often" in json_schema.value_problems(bomb, 1)[0].msg
    assert "too often" in json_schema.value_problems({"$ref": "#"}, 1)[0].msg
    nested: dict[str, Any] = {"$ref": "#"}
    for _ in range(28):
        nested = {"not": {"allOf": [nested]}}
    assert "too often" in json_schema.value_problems(nested, 1)[0].msg


def test_references_of_each_level_of_a_value_are_followed() -> None:
    tree = {"type": ["array", "null"], "items": {"$ref": "#"}}
    value: list[Any] | None = None
    for _ in range(31):
        value = [value]
    assert fits(tree, value)
    assert not fits(tree, [value, [1]])


@pytest.mark.parametrize("free", range(40, 200))
def test_a_recursion_that_ends_in_a_library_is_reported(free: int) -> None:
    nested: dict[str, Any] = {"$ref": "#"}
    for _ in range(28):
        nested = {"not": {"allOf": [nested]}}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + free)
    try:
        found = json_schema.value_problems(nested, 1)
    finally:
        sys.setrecursionlimit(limit)
    assert "too often" in found[0].msg


def test_uniqueness_is_json_schemas() -> None:
    unique = {"type": "array", "uniqueItems": True}
    assert fits(unique, [1, True, "1", None, [1], {"a": 1}])
    assert not fits(unique, [1, 1.0])
    assert not fits(unique, [{"a": 1, "b": [2]}, {"b": [2], "a": 1.0}])
    assert fits(unique, [[n % 2 == 0, n] for n in range(100_000)])


def test_places_of_a_value_and_defaults_at_any_depth() -> None:
    schema = {
        "properties": {
            "n": {"type": "integer"},
            "inner": {"properties": {"x": {"default": [1]}, "y": {"type": "string"}}},
        }
    }
    (problem,) = json_schema.value_problems(schema, {"inner": {"y": 3}})
    assert problem.loc == ("inner", "y")
    given: dict[str, Any] = {"inner": {}}
    assert json_schema.apply_defaults(schema, given) == {"inner": {"x": [1]}}
    assert given == {"inner": {}}


def test_parameters_are_completed_as_the_schema_describes() -> None:
    whole = {"type": ["integer", "null"]}
    schema = {
        "properties": {
            "n": {"type": "integer"},
            "inner": {"default": {}, "properties": {"a": {"default": 7}}},
            "list": {"items": {"properties": {"b": {"default": 8}}}},
            "there": {"$ref": "#/$defs/node", "default": {}},
            "x": {"type": "number"},
            "whole": {"items": whole},
        },
        "$defs": {
            "node": {"properties": {"next": {"$ref": "#/$defs/node"}, "c": {"default": 9}}},
        },
    }
    given = {"n": 5.0, "x": 5.0, "list": [{}, 3], "whole": [1e3, None, 2.5]}
    completed = json_schema.apply_defaults(schema, given | {"there": {"next": {}}})
    assert repr(completed["n"]) == "5" and repr(completed["x"]) == "5.0"
    assert repr(completed["whole"]) == "[1000, None, 2.5]"
    assert completed["inner"] == {"a": 7} and completed["list"] == [{"b": 8}, 3]
    assert completed["there"] == {"next": {"c": 9}, "c": 9}
    assert json_schema.apply_defaults(schema, {})["there"] == {"c": 9}


def test_defaults_that_multiply_are_rejected() -> None:
    schema = {"properties": {name: {"$ref": "#", "default": {}} for name in "abcdefghij"}}
    (problem,) = json_schema.schema_problems(schema)
    assert "without end" in problem.msg
    with pytest.raises(json_schema.ReferenceLimitExceeded):
        json_schema.apply_defaults(schema, {"a": {}})


def test_values_of_callers_are_not_limited_in_number() -> None:
    schema = {"properties": {"list": {"items": {"properties": {"b": {"default": 8}}}}}}
    completed = json_schema.apply_defaults(schema, {"list": [{}] * 50_000})
    assert completed["list"][-1] == {"b": 8}


def test_a_default_that_holds_itself_has_an_end() -> None:
    schema = {"properties": {"again": {"$ref": "#", "default": {}}}}
    value, depth = json_schema.apply_defaults(schema, {}), 0
    while value := value.get("again"):
        depth += 1
    assert 1 < depth < 64


def test_versions_are_in_the_order_of_semver() -> None:
    # The example of Semantic Versioning 2.0.0, 11.4.4.
    order = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11"
    wanted = [*order.split(), "1.0.0-rc.1", "1.0.0", "1.10.0"]
    versions = [Version.parse(text) for text in wanted[::-1]]
    assert [one.text for one in sorted(versions)] == wanted
    assert newest_first([*versions, Version.parse("2.0.0-rc.1")])[0].text == "1.10.0"
    for wrong in ("1.0", "01.0.0", "1.0.0-01", "v1.0.0", "1.0.0-", "1.0.0+", "١.0.0", "9" * 99):
        with pytest.raises(ValueError):
            Version.parse(wrong)
