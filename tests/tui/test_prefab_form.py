"""From a JSON Schema to fields, and from what is put into them to parameters, or problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beray.sanitize import printable
from tui.prefabs.call_draft import file_problems, problem_locations, refused_file
from tui.prefabs.form.checks import mismatch
from tui.prefabs.form.schema import MAX_FIELDS, WHOLE, FieldKind, ParameterField, fields
from tui.prefabs.form.values import NO_VALUE, InvalidFieldValue, parse_field, parse_fields
from tui.prefabs.spec import FileInput, PrefabFunction

HUGE = 10**400


def field_of(own: Any, *, required: bool = False, name: str = "x", **root: Any) -> ParameterField:
    schema = {"type": "object", "properties": {name: own}, **root}
    (field,) = fields({**schema, "required": [name] if required else []})
    return field


def value(own: Any, text: str, **more: Any) -> Any:
    return parse_field(field_of(own, **more), text)


# Schema → fields


@pytest.mark.parametrize(
    ("own", "kind"),
    [
        ({"type": "string"}, FieldKind.TEXT),
        ({"type": "string", "maxLength": 5000}, FieldKind.LONG_TEXT),
        ({"type": "string", "default": "a\nb"}, FieldKind.LONG_TEXT),
        ({"type": "string", "default": "\t"}, FieldKind.LONG_TEXT),
        ({"type": "string", "contentMediaType": "text/html"}, FieldKind.LONG_TEXT),
        ({"type": "integer"}, FieldKind.INTEGER),
        ({"type": "number"}, FieldKind.NUMBER),
        ({"type": "boolean"}, FieldKind.FLAG),
        ({"enum": ["a", 1, None]}, FieldKind.CHOICE),
        ({"const": 7}, FieldKind.CHOICE),
        ({"type": "array", "items": {"type": "integer"}}, FieldKind.LIST),
        ({"type": "array", "items": {"$ref": "#/$defs/Colour"}}, FieldKind.LIST),
        ({"$ref": "#/$defs/Colour"}, FieldKind.CHOICE),
        ({"type": "array", "items": {"type": "object"}}, FieldKind.JSON),
        ({"type": "array"}, FieldKind.JSON),
        ({"type": "object"}, FieldKind.JSON),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, FieldKind.JSON),
        ({"type": ["string", "integer"]}, FieldKind.JSON),
        ({}, FieldKind.JSON),
        (True, FieldKind.JSON),
        ("nonsense", FieldKind.JSON),
        ({"type": ["integer", "null"]}, FieldKind.INTEGER),
        ({"anyOf": [{"type": "number"}, {"type": "null"}], "default": None}, FieldKind.NUMBER),
        ({"anyOf": [{"$ref": "#/$defs/Colour"}, {"type": "null"}]}, FieldKind.CHOICE),
        ({"$ref": "#/$defs/Loop"}, FieldKind.JSON),
        ({"$ref": "https://elsewhere.example/schema"}, FieldKind.JSON),
        ({"$ref": "#/$defs/none"}, FieldKind.JSON),
        ({"$ref": 7}, FieldKind.JSON),
    ],
)
def test_how_each_schema_is_filled_in(own: Any, kind: FieldKind) -> None:
    defs = {"Colour": {"type": "string", "enum": ["red", "blue"]}, "Loop": {"$ref": "#/$defs/Loop"}}
    assert field_of(own, **{"$defs": defs}).kind is kind


def test_what_is_needed_comes_first_and_defaults_are_filled_in() -> None:
    found = fields(
        {
            "type": "object",
            "properties": {
                "rows": {"type": "integer", "default": 7, "description": "How many."},
                "word": {"type": "string"},
                "flag": {"type": "boolean", "default": True},
                "sure": {"type": "boolean"},
                "only": {"const": "v1"},
                "tags": {"type": "array", "items": {"type": "string"}, "default": ["a", "b"]},
                "note": {"type": "string", "default": ""},
                "more": {"type": "object", "default": {"ä": 1}},
            },
            "required": ["word", "sure", "only"],
        }
    )
    told = {field.name: (field.required, field.initial) for field in found}
    assert list(told) == ["word", "sure", "only", "rows", "flag", "tags", "note", "more"]
    assert told["rows"] == (False, "7") and told["word"] == (True, "")
    assert told["flag"] == (False, "true") and told["sure"] == (True, "false")
    assert told["only"] == (True, '"v1"') and told["tags"] == (False, "a\nb")
    assert told["note"] == (False, "") and told["more"] == (False, '{"ä": 1}')
    assert found[3].description == "How many."


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (None, []),
        ([], []),
        ({}, []),
        ({"type": "object"}, []),
        ({"type": "object", "properties": {}}, []),
        ({"type": "object", "properties": {}, "required": ["x"]}, [WHOLE]),
        ({"type": "object", "patternProperties": {"^x": {}}}, [WHOLE]),
        ({"properties": "nonsense", "type": "object", "oneOf": []}, [WHOLE]),
        ({"properties": {"": {"type": "string"}}}, [WHOLE]),
        ({"properties": {"a": {}}, "required": ["b"]}, [WHOLE]),
        ({"properties": {"a": {}}, "required": "nonsense"}, ["a"]),
        ({"properties": {str(n): {} for n in range(MAX_FIELDS + 1)}}, [WHOLE]),
        ({"properties": {"a": {}}, "additionalProperties": True}, ["a", WHOLE]),
    ],
)
def test_there_is_a_form_for_every_schema(parameters: Any, names: list[str]) -> None:
    assert [field.name for field in fields(parameters)] == names


ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "enum", "$ref", "anyOf", "default", "minimum",
                 "maxLength", "multipleOf", "required", "x", "const", "uniqueItems"]
            ),
            inner | st.sampled_from(["string", "integer", "array", "object", "#/properties/x"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(ODD, st.text(max_size=20))
def test_no_schema_and_no_text_is_the_end_of_a_form(own: Any, text: str) -> None:
    for parameters in (own, {"type": "object", "properties": {"x": own}}):
        found = fields(parameters)
        for texts in ({}, {field.name: text for field in found}):
            parse_fields(found, texts)
        parse_fields(found, {field.name: field.initial for field in found})


# Texts → values


@pytest.mark.parametrize(
    ("own", "text", "expected"),
    [
        ({"type": "string"}, " a b ", " a b "),
        ({"type": "string"}, '""', ""),
        ({"type": "integer"}, " +12 ", 12),
        ({"type": "integer"}, "-0", 0),
        ({"type": "number"}, "1.50", 1.5),
        ({"type": "number"}, "-.5e3", -500.0),
        ({"type": "number"}, "3", 3),
        ({"type": "boolean"}, "Yes", True),
        ({"enum": ["a", 1, None, True]}, "null", None),
        ({"enum": ["a", 1, None, True]}, "1", 1),
        ({"enum": ["a"]}, '"a"', "a"),
        ({"type": "array", "items": {"type": "integer"}}, "1, 2,3", [1, 2, 3]),
        ({"type": "array", "items": {"type": "integer"}}, "1\n\n 2 \n", [1, 2]),
        ({"type": "array", "items": {"type": "string"}}, "a, b", ["a", "b"]),
        ({"type": "array", "items": {"type": "string"}}, "a, b\nc", ["a, b", "c"]),
        ({"type": "array", "items": {"type": "string"}}, '["a\\nb", ""]', ["a\nb", ""]),
        ({"type": "array", "items": {"type": "boolean"}}, "yes,no", [True, False]),
        ({"type": "object"}, ' {"a": [1.5, null]} ', {"a": [1.5, None]}),
        ({}, '"text"', "text"),
        ({"type": ["integer", "null"]}, "", NO_VALUE),
        ({"type": "string"}, "", NO_VALUE),
        ({"type": "object"}, "  ", NO_VALUE),
    ],
)
def test_what_is_put_in_is_a_value(own: Any, text: str, expected: Any) -> None:
    found = value(own, text)
    assert found == expected and type(found) is type(expected)


def test_what_must_not_be_left_out_is_null_where_that_is_a_value() -> None:
    assert value({"type": ["integer", "null"]}, "", required=True) is None
    assert value({"type": ["string", "null"], "enum": ["a", None]}, "", required=True) is None


@pytest.mark.parametrize(
    ("own", "text", "said"),
    [
        ({"type": "integer"}, "1.5", "a whole number"),
        ({"type": "integer"}, "1_000", "a whole number"),
        ({"type": "integer"}, "١٢", "a whole number"),
        ({"type": "integer"}, "9" * 5000, "a whole number"),
        ({"type": "integer", "minimum": 1}, "0", "at least 1"),
        ({"type": "integer", "maximum": 1000000}, "1000001", "at most 1,000,000"),
        ({"type": "integer", "multipleOf": 5}, "12", "a multiple of 5"),
        ({"type": "number"}, "NaN", "a number"),
        ({"type": "number"}, "Infinity", "a number"),
        ({"type": "number"}, "1e9999", "too large"),
        ({"type": "number"}, "1,5", "a number"),
        ({"type": "number", "exclusiveMinimum": 0}, "0", "more than 0"),
        ({"type": "number", "exclusiveMaximum": 0.5}, "0.5", "less than 0.5"),
        ({"type": "number", "multipleOf": 0.1}, "0.25", "a multiple of 0.1"),
        ({"type": "number", "maximum": HUGE}, "1" * 401, "a number"),
        ({"type": "boolean"}, "maybe", "true or false"),
        ({"type": "string", "minLength": 3}, "ab", "at least 3"),
        ({"type": "string", "maxLength": 3}, "abcd", "at most 3"),
        ({"enum": ["a", "b"]}, '"c"', 'one of "a", "b"'),
        ({"enum": [1]}, "true", "one of 1"),
        ({"type": "array", "items": {"type": "integer"}}, "1, x", "x: The value must be a whole"),
        ({"type": "array", "items": {"type": "integer", "maximum": 5}}, "1, 9", "item 2"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, "a", "at least 2"),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "a,a", "Duplicate"),
        ({"type": "array", "items": {"type": "string", "enum": ["a"]}}, "a,b", "item 2"),
        ({"type": "array", "items": {"type": "string"}}, "[1]", "item 1: The value must be a string"),
        ({"type": "object"}, "[1]", "an object"),
        ({"type": "object"}, "{'a': 1}", "Invalid JSON"),
        ({"type": "object"}, '{\n"a": }', "line 2"),
        ({"type": "object"}, '{"a": NaN}', "NaN is not valid JSON"),
        ({"type": "object"}, '{"a": 1e999}', "too large"),
        ({"type": "object"}, '{"a": "\\ud800"}', "cannot be encoded"),
        ({"type": "object"}, "[" * 100_000, "too deeply"),
        ({"type": "object"}, "9" * 5000, "JSON"),
        ({"type": "object", "required": ["k"]}, "{}", "k is missing"),
        ({"type": "object", "properties": {"k": {"type": "integer"}}}, '{"k": "1"}', "k: The value must"),
        ({"type": "object", "properties": {}, "additionalProperties": False}, '{"k": 1}', "k is not"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_with_the_reason(own: Any, text: str, said: str) -> None:
    with pytest.raises(InvalidFieldValue, match=said):
        value(own, text)


@pytest.mark.parametrize("kind", ["string", "integer", "number", "object", "array"])
def test_what_is_needed_cannot_be_left_out(kind: str) -> None:
    with pytest.raises(InvalidFieldValue, match="is required"):
        value({"type": kind}, "", required=True)


LETTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | LETTERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(LETTERS, inner, max_size=3),
    max_leaves=8,
)
SCALARS = {
    "string": LETTERS,
    "integer": st.integers(-(10**20), 10**20),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
}


@pytest.mark.parametrize("kind", SCALARS)
def test_every_default_is_read_as_what_it_is(kind: str) -> None:
    @given(SCALARS[kind], st.lists(SCALARS[kind], max_size=4))
    def check(default: Any, items: list[Any]) -> None:
        if default != '""':
            field = field_of({"type": kind, "default": default}, required=True)
            assert parse_field(field, field.initial) == default
        listed = field_of({"type": "array", "items": {"type": kind}, "default": items})
        assert parse_field(listed, listed.initial) == items

    check()


@given(JSON)
@example(["\x7f\x85\u202e\u2028"])
def test_every_json_default_is_read_as_what_it_is(default: Any) -> None:
    field = field_of({"default": default})
    assert printable(field.initial) == field.initial
    if default is not None and default != "":
        assert parse_field(field, field.initial) == default
    choice = field_of({"enum": [default]}, required=True)
    assert parse_field(choice, choice.initial or "null") == default


def test_all_that_is_wrong_is_said_at_once_and_by_field() -> None:
    found = fields(
        {
            "properties": {"a": {"type": "integer"}, "b": {"type": "string"}, "c": {"type": "number"}},
            "required": ["b"],
            "additionalProperties": {},
        }
    )  # fmt: skip
    parameters, problems = parse_fields(found, {"a": "x", "b": "", "c": "2.5", WHOLE: '{"c": 1}'})
    assert set(problems) == {"a", "b", WHOLE} and "c has its own field" in problems[WHOLE]
    parameters, problems = parse_fields(found, {"b": "word", "c": "2.5", WHOLE: '{"d": null}'})
    assert not problems and parameters == {"b": "word", "c": 2.5, "d": None}
    assert parse_fields([], {}) == ({}, {})


def test_all_parameters_can_be_given_as_one_object() -> None:
    many = {"properties": {f"p{n}": {"type": "integer"} for n in range(99)}, "required": ["p7"]}
    found = fields(many)
    assert parse_fields(found, {WHOLE: '{"p7": 1}'}) == ({"p7": 1}, {})
    assert "p7 is missing" in parse_fields(found, {WHOLE: "{}"})[1][WHOLE]
    assert "p8: The value must" in parse_fields(found, {WHOLE: '{"p7": 1, "p8": "x"}'})[1][WHOLE]
    assert "required" in parse_fields(found, {})[1][WHOLE]


def test_a_check_never_follows_a_schema_without_end() -> None:
    loop = {"$ref": "#/$defs/n", "$defs": {"n": {"items": {"$ref": "#/$defs/n"}}}}
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    assert mismatch(deep, loop) == ""
    assert mismatch(1, {"type": ["made up", "string"]}) == ""
    assert mismatch({"a": 1}, {"additionalProperties": False, "patternProperties": {"a": {}}}) == ""
    assert mismatch(HUGE, {"multipleOf": 0.1}) == "" and mismatch(5, {"multipleOf": 0}) == ""
    assert mismatch(1, {"minimum": "nonsense", "enum": "nonsense", "type": []}) == ""


# Files


FILES = PrefabFunction(
    "f",
    inputs=(
        FileInput("one", required=True, types=(".pdf", ".tar.gz")),
        FileInput("many", many=True),
    ),
)


def test_files_have_their_number_and_their_types() -> None:
    pdf, other = Path("/x/A.PDF"), Path("/x/a.txt")
    assert file_problems(FILES, {"one": [pdf], "many": [pdf, other]}) == {}
    assert file_problems(FILES, {}) == {"one": "Add a file."}
    assert "Only one file" in file_problems(FILES, {"one": [pdf, Path("/x/b.pdf")]})["one"]
    assert ".pdf or .tar.gz" in file_problems(FILES, {"one": [other]})["one"]
    one, many = FILES.inputs
    assert refused_file(one, Path("x.tar.gz"), ()) == "" != refused_file(one, Path("gz"), ())
    assert "already" in refused_file(many, other, [other])
    assert "same name" in refused_file(many, Path("/y/a.txt"), [other])


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        (
            [{"loc": ["calls", 0, "inputs", "parameters", "x"], "msg": "too small"},
             {"loc": ["calls", 0, "inputs", "parameters", "y", "z", 1], "msg": "odd"},
             {"loc": ["calls", 0, "inputs", "files", "doc", 0], "msg": "gone"},
             {"loc": ["calls", 0, "inputs", "parameters"], "msg": "x is missing"},
             {"loc": ["calls", 0, "function_name"], "msg": "no"}],
            [("parameters", "x", "too small"), ("parameters", "y", "z.1: odd"),
             ("files", "doc", "0: gone"), ("parameters", "", "x is missing"), ("", "", "no")],
        ),
        (None, []), ("text", []), ([7, {}, {"msg": 7}], []),
        ([{"msg": "m"}, {"msg": "n", "loc": "inputs"}], [("", "", "m"), ("", "", "n")]),
    ],
)  # fmt: skip
def test_where_a_refusal_of_the_server_belongs(errors: Any, found: Any) -> None:
    assert problem_locations(errors) == found
    assert problem_locations(json.loads(json.dumps(errors))) == found
