"""Validation of the JSON Schemas in manifests, and of values against them.

The schemas come from authors of prefabs and are evaluated in the server, so evaluation must
neither load anything nor run without a limit: references stay inside the schema, patterns are
matched in linear time, and the number of followed references is limited.

Source: JSON Schema 2020-12, core and validation.
"""

from __future__ import annotations

import copy
import json
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

MAX_PROBLEMS: Final = 20
"""Maximum number of problems that are reported for one value."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MESSAGE_CHARACTERS: Final = 300
_VALUE_CHARACTERS: Final = 100
"""Characters of a value in a message."""
_MAX_REFERENCES: Final = 10_000
"""Maximum number of references that are followed for one value."""
_MAX_NESTED_REFERENCES: Final = 2 * MAX_DEPTH
"""Maximum number of references that are followed while others are: values of at most ``MAX_DEPTH``
levels need about one for each level."""
_UNSUPPORTED_KEYWORDS: Final = {
    "$id": "is not supported; references must stay inside the schema",
    "$anchor": "is not supported; use a JSON pointer such as #/$defs/name",
    "$dynamicRef": "is not supported; use $ref",
    "$dynamicAnchor": "is not supported; use $ref",
    "patternProperties": "is not supported; list the properties",
    "unevaluatedProperties": "is not supported; use additionalProperties",
    "unevaluatedItems": "is not supported; use items",
}
_DATA_KEYWORDS: Final = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data, not schemas."""
_NAME_MAPS: Final = frozenset({"properties", "$defs", "dependentSchemas", "dependentRequired"})
"""Keywords whose keys are names, not keywords."""
_TYPE_NAMES: Final = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


class ReferenceLimitExceeded(Exception):
    """The references of a schema were followed too often."""


_references: ContextVar[Iterator[int]] = ContextVar("_references")
"""Counter of the references that were followed for the current value."""
_nested_references: ContextVar[int] = ContextVar("_nested_references", default=0)
"""Number of the references that are being followed."""


def schema_problems(schema: object, *, of_object: bool = True) -> list[InputProblem]:
    """Return the problems of a schema, with their places in it; empty if it is valid.

    Args:
        schema: Schema of a manifest.
        of_object: Whether the schema must describe an object.
    """
    if not isinstance(schema, dict):
        return [InputProblem((), "must be an object: a JSON Schema")]
    try:
        check_json(schema)
    except (ValueError, TypeError) as error:
        return [InputProblem((), f"is not valid JSON: {error}")]
    problems = list(_unsupported(schema, ()))
    if of_object and schema.get("type", "object") != "object":
        problems.append(InputProblem(("type",), "must be 'object'"))
    if schema.get("$schema", _DIALECT) != _DIALECT:
        problems.append(InputProblem(("$schema",), f"must be {_DIALECT}"))
    if problems:
        return problems[:MAX_PROBLEMS]
    from jsonschema import Draft202012Validator

    found = Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema)
    problems = _to_problems(found) or list(_broken_references(schema))
    problems = problems or list(_invalid_defaults(schema))
    if not problems:
        try:
            apply_defaults(schema, {})
        except ReferenceLimitExceeded:
            return [InputProblem((), "the defaults refer to each other without end")]
    return problems


def value_problems(schema: Schema, value: object) -> list[InputProblem]:
    """Return the problems of a JSON value, with their places in the value."""
    return _problems(_validator(schema), value)


def _problems(validator: Any, value: object) -> list[InputProblem]:
    counting = _references.set(count(1))
    try:
        return _to_problems(validator.iter_errors(value))
    except (ReferenceLimitExceeded, RecursionError):
        return [_too_many_references()]
    except ArithmeticError:
        return [InputProblem((), "contains a number that is too large to check")]
    except BaseException as error:
        # A recursion that ends inside rpds, which jsonschema uses, is not a RecursionError but an
        # exception of the Rust runtime without a public type.
        if type(error).__name__ != "PanicException":
            raise
        return [_too_many_references()]
    finally:
        _references.reset(counting)


def _too_many_references() -> InputProblem:
    return InputProblem((), "cannot be checked: the schema refers to itself too often")


def apply_defaults(schema: Schema, value: Any) -> Any:
    """Return ``value`` as it is passed to a function with this schema.

    Missing properties get their defaults, and floats such as 5.0 become integers if the schema
    requires an integer. This applies at any depth, including the values of defaults, the items
    of lists and the targets of references.

    Raises:
        ReferenceLimitExceeded: The defaults refer to each other without end.
    """
    return _DefaultsFiller(schema).fill(schema, value, MAX_DEPTH)


class _DefaultsFiller:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._left = _MAX_REFERENCES

    def fill(self, schema: object, value: Any, depth: int, *, from_default: bool = False) -> Any:
        """Return ``value`` with its defaults.

        Args:
            schema: Schema of the value.
            value: Value to complete.
            depth: Maximum number of levels, for schemas that refer to themselves.
            from_default: Whether the value is a default. Only these are limited in number.
        """
        if not isinstance(schema, dict) or depth == 0:
            return value
        if "$ref" in schema:
            target = _resolve(self._root, schema["$ref"])
            value = self.fill(target, value, depth - 1, from_default=from_default)
        match value:
            case list():
                items = schema.get("items")
                return [
                    self.fill(items, item, depth - 1, from_default=from_default) for item in value
                ]
            case dict():
                return self._with_defaults(schema, value, depth, from_default)
            case float() if _is_integer(schema) and value.is_integer():
                return int(value)
        return value

    def _with_defaults(
        self, schema: Schema, value: Mapping[str, Any], depth: int, from_default: bool
    ) -> dict[str, Any]:
        filled = dict(value)
        for name, inner in schema.get("properties", {}).items():
            fills = name not in filled and isinstance(inner, dict) and "default" in inner
            if fills:
                self._left -= from_default
                if self._left < 0:
                    raise ReferenceLimitExceeded
                filled[name] = copy.deepcopy(inner["default"])
            if name in filled:
                made = from_default or fills
                filled[name] = self.fill(inner, filled[name], depth - 1, from_default=made)
        return filled


def _is_integer(schema: Schema) -> bool:
    types = schema.get("type")
    if isinstance(types, list):
        return "integer" in types and "number" not in types
    return types == "integer"


def _resolve(root: Schema, reference: str) -> object:
    found: Any = root
    for part in _parse_pointer(reference) or ():
        found = found[int(part) if isinstance(found, list) else part]
    return found


def _parse_pointer(reference: str) -> tuple[str, ...] | None:
    """Return the parts of the JSON pointer ``#/…`` (RFC 6901, section 6), or None if invalid."""
    first, *parts = unquote(reference.removeprefix("#")).split("/")
    if first:
        return None
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)


def _to_problems(errors: Iterator[Any]) -> list[InputProblem]:
    problems = []
    for error in errors:
        problems.append(InputProblem(tuple(error.absolute_path), _message(error)))
        if len(problems) == MAX_PROBLEMS:
            break
    return problems


def _message(error: Any) -> str:
    """Return a message of bounded length for an error of jsonschema."""
    message = _reason(error)
    if len(message) > _MESSAGE_CHARACTERS:
        return f"does not match {error.validator!r} of its schema"
    return message


def _reason(error: Any) -> str:
    value, expected = error.instance, error.validator_value
    match error.validator:
        case "type":
            types = expected if isinstance(expected, list) else [expected]
            allowed = " or ".join(_TYPE_NAMES.get(name, str(name)) for name in types)
            return f"must be {allowed}, got {_shown(value)}"
        case "required":
            return f"{error.message.removesuffix(' is a required property')} is missing"
        case "additionalProperties" if expected is False:
            known = error.schema.get("properties", {})
            unknown = ", ".join(repr(name) for name in value if name not in known)
            names = ", ".join(known) or "none"
            return f"unknown: {unknown}; the known properties are: {names}"
        case "enum":
            return f"must be one of {', '.join(map(_shown, expected))}, got {_shown(value)}"
        case "const":
            return f"must be {_shown(expected)}, got {_shown(value)}"
        case "minimum":
            return f"must be at least {expected}, got {_shown(value)}"
        case "maximum":
            return f"must be at most {expected}, got {_shown(value)}"
        case "exclusiveMinimum":
            return f"must be greater than {expected}, got {_shown(value)}"
        case "exclusiveMaximum":
            return f"must be less than {expected}, got {_shown(value)}"
        case "multipleOf":
            return f"must be a multiple of {expected}, got {_shown(value)}"
        case "minLength":
            return f"must have at least {expected} characters, got {len(value):,}"
        case "maxLength":
            return f"must have at most {expected} characters, got {len(value):,}"
        case "minItems":
            return f"must have at least {expected} items, got {len(value):,}"
        case "maxItems":
            return f"must have at most {expected} items, got {len(value):,}"
        case "minProperties":
            return f"must have at least {expected} properties, got {len(value):,}"
        case "maxProperties":
            return f"must have at most {expected} properties, got {len(value):,}"
        case "anyOf" | "oneOf" if error.context:
            return _alternatives(error)
        case "oneOf":
            return "matches several alternatives of the schema; exactly one must match"
        case "not":
            return f"is not allowed by the schema: {_shown(value)}"
        case "contains" | "minContains":
            return "has too few items of the kind that the schema requires"
        case "maxContains":
            return "has too many items of a kind that the schema limits"
        case "dependentRequired":
            name, _, other = error.message.partition(" is a dependency of ")
            return f"{name} is missing; {other} requires it"
        case None:
            return "is not allowed by the schema"
    return str(error.message)


def _alternatives(error: Any) -> str:
    """Return a message for a value that matches none of several schemas."""
    if any(inner.relative_path for inner in error.context):
        return "matches none of the alternatives of the schema"
    return " or ".join(dict.fromkeys(map(_message, error.context)))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[: _VALUE_CHARACTERS - 1]}…"


def _schemas_in(
    schema: object, at: InputLocation
) -> Iterator[tuple[dict[str, Any], InputLocation]]:
    """Yield a schema and all schemas in it, with their places."""
    if isinstance(schema, list):
        for number, item in enumerate(schema):
            yield from _schemas_in(item, (*at, number))
    if not isinstance(schema, dict):
        return
    yield schema, at
    for key, inner in schema.items():
        if key in _DATA_KEYWORDS:
            continue
        if key in _NAME_MAPS and isinstance(inner, dict):
            for name, named in inner.items():
                yield from _schemas_in(named, (*at, key, name))
        else:
            yield from _schemas_in(inner, (*at, key))


def _unsupported(schema: Schema, at: InputLocation) -> Iterator[InputProblem]:
    for inner, place in _schemas_in(schema, at):
        for key, reason in _UNSUPPORTED_KEYWORDS.items():
            if key in inner:
                yield InputProblem((*place, key), reason)
        reference, pattern = inner.get("$ref", "#"), inner.get("pattern")
        if not (isinstance(reference, str) and reference.startswith("#")):
            yield InputProblem((*place, "$ref"), "must stay inside the schema: # or #/…")
        if isinstance(pattern, str) and (problem := _pattern_problem(pattern)):
            yield InputProblem((*place, "pattern"), problem)


def _broken_references(schema: Schema) -> Iterator[InputProblem]:
    # References to data, such as a default, are broken: data was not checked as a schema.
    schemas = list(_schemas_in(schema, ()))
    known = {tuple(map(str, place)) for _, place in schemas}
    for inner, place in schemas:
        if "$ref" in inner and _parse_pointer(inner["$ref"]) not in known:
            yield InputProblem((*place, "$ref"), "refers to a schema that does not exist")


def _invalid_defaults(schema: Schema) -> Iterator[InputProblem]:
    validator = _validator(schema)
    for inner, place in _schemas_in(schema, ()):
        if "default" in inner:
            for problem in _problems(validator.evolve(schema=inner), inner["default"]):
                yield InputProblem((*place, "default"), problem.msg)


# The validator


@lru_cache(1024)
def _linear_matcher(pattern: str) -> SchemaValidator:
    """Return a validator that searches ``pattern`` in a string, without backtracking."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


def _pattern_problem(pattern: str) -> str | None:
    try:
        _linear_matcher(pattern)
    except SchemaError:
        return "is not a regular expression that can be matched in linear time"
    return None


def _pattern(_: Any, pattern: str, value: object, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not _linear_matcher(pattern).isinstance_python(value):
        yield ValidationError(f"must match the pattern {pattern!r}, got {_shown(value)}")


def _unique(_: Any, wanted: bool, value: object, __: Any) -> Iterator[Any]:
    from jsonschema import ValidationError

    if wanted and isinstance(value, list) and len({_key(item) for item in value}) < len(value):
        yield ValidationError("must not contain an item twice")


def _key(value: object) -> object:
    """Return a key that is equal for equal JSON values: 1 and 1.0, but not 1 and true."""
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

    return _validator_class()(schema, registry=Registry())  # without a retriever


@cache
def _validator_class() -> Any:
    """Return the validator class, which takes longer to create than most values to check."""
    from jsonschema import Draft202012Validator, validators

    follow: Any = Draft202012Validator.VALIDATORS["$ref"]

    def reference(validator: Any, target: str, value: object, parent: Any) -> Iterator[Any]:
        nested = _nested_references.get()
        if next(_references.get()) > _MAX_REFERENCES or nested >= _MAX_NESTED_REFERENCES:
            raise ReferenceLimitExceeded
        # Errors are collected first: a generator that is suspended would leave the depth changed.
        _nested_references.set(nested + 1)
        try:
            errors = list(follow(validator, target, value, parent))
        finally:
            _nested_references.set(nested)
        yield from errors

    keywords: dict[str, Any] = {"pattern": _pattern, "uniqueItems": _unique, "$ref": reference}
    extend: Any = validators.extend
    return extend(Draft202012Validator, keywords)
