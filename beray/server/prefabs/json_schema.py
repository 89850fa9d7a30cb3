"""JSON Schemas of prefabs: which are taken, and whether a value fits one.

They come from the authors of prefabs, and are checked in the server. So nothing of them
may reach out or take without an end: references stay inside, patterns are matched in
linear time, and the following of references has an end.

Source: JSON Schema 2020-12, core and validation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from itertools import count
from typing import Any, Final
from urllib.parse import unquote

from pydantic_core import SchemaError, SchemaValidator, core_schema

from beray.server.http.validation_errors import InputLocation, InputProblem
from beray.server.storage.json_values import MAX_DEPTH, check_json

Schema = dict[str, Any]

MOST_PROBLEMS: Final = 20
"""That are told of one value."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MESSAGE_CHARACTERS: Final = 300
_MOST_STEPS: Final = 10_000
"""References that are followed for one value."""
_REFUSED: Final = {
    "$id": "is not taken: references stay inside of the schema",
    "$anchor": "is not taken: name the place, as in #/$defs/name",
    "$dynamicRef": "is not taken; use $ref",
    "$dynamicAnchor": "is not taken; use $ref",
    "patternProperties": "is not taken; name the properties",
    "unevaluatedProperties": "is not taken; use additionalProperties",
    "unevaluatedItems": "is not taken; use items",
}
_VALUES: Final = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data, not schemas."""
_NAMED: Final = frozenset({"properties", "$defs", "dependentSchemas", "dependentRequired"})
"""Keywords whose keys are names, not keywords."""


class TooFar(Exception):
    """References were followed too often."""


_steps: ContextVar[Iterator[int]] = ContextVar("_steps")
"""Counts the references that are followed for the value that is checked."""


def schema_problems(schema: object, *, of_object: bool = True) -> list[InputProblem]:
    """Why ``schema`` cannot be used, with the place in it; nothing where it can.

    Args:
        of_object: it has to be the schema of an object.
    """
    if not isinstance(schema, dict):
        return [InputProblem((), "is no JSON Schema: give an object")]
    try:
        check_json(schema)
    except (ValueError, TypeError) as error:
        return [InputProblem((), f"is no JSON: {error}")]
    problems = list(_refused(schema, ()))
    if of_object and schema.get("type", "object") != "object":
        problems.append(InputProblem(("type",), "must be 'object'"))
    if schema.get("$schema", _DIALECT) != _DIALECT:
        problems.append(InputProblem(("$schema",), f"must be {_DIALECT}"))
    if problems:
        return problems[:MOST_PROBLEMS]
    from jsonschema import Draft202012Validator

    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    problems = _told(found) or list(_broken_references(schema))
    problems = problems or list(_wrong_defaults(schema))
    if not problems:
        try:
            completed(schema, {})
        except TooFar:
            return [InputProblem((), "its defaults fill one another in, again and again")]
    return problems


def value_problems(schema: Schema, value: object) -> list[InputProblem]:
    """Why ``value``, which is JSON, does not fit; the places are those in the value."""
    return _problems(_validator(schema), value)


def _problems(validator: Any, value: object) -> list[InputProblem]:
    counting = _steps.set(count(1))
    try:
        return _told(validator.iter_errors(value))
    except (TooFar, RecursionError):
        return [InputProblem((), "cannot be checked: the schema refers to itself too often")]
    except ArithmeticError:
        return [InputProblem((), "holds a number that cannot be checked")]
    finally:
        _steps.reset(counting)


def completed(schema: Schema, value: Any) -> Any:
    """``value`` as a function of that schema expects it.

    It has the defaults of the properties that are not given, and 5.0 is 5 where an integer is
    wanted; at any depth: also in what a default fills in, in the items of lists, and where a
    reference leads.

    Raises:
        TooFar: the defaults fill one another in, again and again.
    """
    return _Completion(schema).of(schema, value, MAX_DEPTH)


class _Completion:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MOST_STEPS

    def of(self, schema: object, value: Any, depth: int, *, is_made: bool = False) -> Any:
        """``is_made``: the value is a default, and no caller's, which has what he likes."""
        # What refers to itself has an end as well.
        if not isinstance(schema, dict) or depth == 0:
            return value
        if "$ref" in schema:
            referred = _referred(self._root, schema["$ref"])
            value = self.of(referred, value, depth - 1, is_made=is_made)
        match value:
            case list():
                items = schema.get("items")
                return [self.of(items, item, depth - 1, is_made=is_made) for item in value]
            case dict():
                return self._with_defaults(schema, value, depth, is_made)
            case float() if _is_integer(schema) and value.is_integer():
                return int(value)
        return value

    def _with_defaults(
        self, schema: Schema, value: Mapping[str, Any], depth: int, is_made: bool
    ) -> dict[str, Any]:
        filled = dict(value)
        for name, inner in schema.get("properties", {}).items():
            fills = name not in filled and isinstance(inner, dict) and "default" in inner
            if fills:
                self._left -= is_made
                if self._left < 0:
                    raise TooFar
                filled[name] = copy.deepcopy(inner["default"])
            if name in filled:
                made = is_made or fills
                filled[name] = self.of(inner, filled[name], depth - 1, is_made=made)
        return filled


def _is_integer(schema: Schema) -> bool:
    types = schema.get("type")
    if isinstance(types, list):
        return "integer" in types and "number" not in types
    return types == "integer"


def _referred(root: Schema, reference: str) -> object:
    found: Any = root
    for part in _pointed(reference) or ():
        found = found[int(part) if isinstance(found, list) else part]
    return found


def _pointed(reference: str) -> tuple[str, ...] | None:
    """Where ``#/…`` leads (RFC 6901, 6); ``None`` where it is no such pointer."""
    first, *parts = unquote(reference.removeprefix("#")).split("/")
    if first:
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _told(errors: Iterator[Any]) -> list[InputProblem]:
    problems = []
    for error in errors:
        problems.append(InputProblem(tuple(error.absolute_path), _words(error)))
        if len(problems) == MOST_PROBLEMS:
            break
    return problems


def _words(error: Any) -> str:
    """What is wrong, without more of the value than can be read."""
    message = str(error.message)
    if len(message) > _MESSAGE_CHARACTERS:
        return f"does not fit {error.validator!r} of its schema"
    return message


def _schemas_in(
    schema: object, at: InputLocation
) -> Iterator[tuple[dict[str, Any], InputLocation]]:
    """A schema and all that are in it."""
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from _schemas_in(item, (*at, number))
    if not isinstance(schema, dict):
        return
    yield schema, at
    for key, inner in schema.items():
        if key in _VALUES:
            continue
        if key in _NAMED and isinstance(inner, dict):
            for name, one in inner.items():
                yield from _schemas_in(one, (*at, key, name))
        else:
            yield from _schemas_in(inner, (*at, key))


def _refused(schema: Schema, at: InputLocation) -> Iterator[InputProblem]:
    for one, place in _schemas_in(schema, at):
        for key, why in _REFUSED.items():
            if key in one:
                yield InputProblem((*place, key), why)
        reference, pattern = one.get("$ref", "#"), one.get("pattern")
        if not (isinstance(reference, str) and reference.startswith("#")):
            yield InputProblem(
                (*place, "$ref"), "leads out of the schema; only # and #/… are followed"
            )
        if isinstance(pattern, str) and (problem := _pattern_problem(pattern)):
            yield InputProblem((*place, "pattern"), problem)


def _broken_references(schema: Schema) -> Iterator[InputProblem]:
    # Not any place: what is data, such as a default, was looked at by nobody as a schema.
    schemas = list(_schemas_in(schema, ()))
    known = {tuple(map(str, place)) for _, place in schemas}
    for one, place in schemas:
        if "$ref" in one and _pointed(one["$ref"]) not in known:
            yield InputProblem((*place, "$ref"), "names no schema that is in the schema")


def _wrong_defaults(schema: Schema) -> Iterator[InputProblem]:
    validator = _validator(schema)
    for one, place in _schemas_in(schema, ()):
        if "default" in one:
            for problem in _problems(validator.evolve(schema=one), one["default"]):
                yield InputProblem((*place, "default"), problem.msg)


# The validator


@lru_cache(1024)
def _linear(pattern: str) -> SchemaValidator:
    """Matches as JSON Schema wants it, anywhere in a text, and without backtracking."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _pattern_problem(pattern: str) -> str | None:
    try:
        _linear(pattern)
    except SchemaError:
        return "is no regular expression that can be matched in linear time"
    return None


def _pattern(_: Any, pattern: str, value: object, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not _linear(pattern).isinstance_python(value):
        yield ValidationError(f"does not match {pattern!r}")


def _unique(_: Any, wanted: bool, value: object, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if wanted and isinstance(value, list) and len({_key(item) for item in value}) < len(value):
        yield ValidationError("holds something twice")


def _key(value: object) -> object:
    """Equal for values that JSON Schema takes for equal: 1 and 1.0, but not 1 and true."""
    match value:
        case dict():
            return "object", frozenset((name, _key(inner)) for name, inner in value.items())
        case list():
            return "array", tuple(map(_key, value))
        case bool() | None:
            return repr(value)
        case str():
            return "text", value
    return "number", value


def _validator(schema: Schema) -> Any:
    from referencing import Registry

    return _checker()(schema, registry=Registry())  # which fetches nothing


@cache
def _checker() -> Any:
    """The class of our validators: to make one takes longer than most values do."""
    from jsonschema import Draft202012Validator, validators

    follow: Any = Draft202012Validator.VALIDATORS["$ref"]

    def reference(validator: Any, where: str, value: object, inside: Any) -> Iterator[Any]:
        if next(_steps.get()) > _MOST_STEPS:
            raise TooFar
        yield from follow(validator, where, value, inside)

    keywords: dict[str, Any] = {"pattern": _pattern, "uniqueItems": _unique, "$ref": reference}
    extend: Any = validators.extend
    return extend(Draft202012Validator, keywords)
