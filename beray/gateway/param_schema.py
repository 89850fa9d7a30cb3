"""What the JSON Schema of a parameter says at once: where it leads, and which types it names.

A schema comes from outside: what is odd about it says nothing.

Source: JSON Schema 2020-12, Core 8.2.3 (``$ref``) and 10.2.1, Validation 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_MOST_REFERENCES: Final = 20


def resolved(schema: object, root: Schema) -> Schema:
    """``schema`` with its ``$ref`` followed, as far as that points into ``root``."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping):
            return {}
        target = schema.get("$ref")
        if not isinstance(target, str):
            return schema
        found: object = root if target == "#" or target.startswith("#/") else None
        for part in target.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping):
            return {}
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**found, **beside}
    return {}


def types_of(schema: object, root: Schema, depth: int = 0) -> set[str]:
    """The types that a value of ``schema`` can have; none where it does not say.

    Args:
        root: what a ``$ref`` points into.
    """
    if depth > _MOST_REFERENCES:
        return set()
    return next(filter(None, _told(resolved(schema, root), root, depth)), set())


def _told(schema: Schema, root: Schema, depth: int) -> Iterator[set[str]]:
    """What each part of a schema that names types says."""
    named = schema.get("type")
    yield {one for one in (named if isinstance(named, list) else [named]) if isinstance(one, str)}
    if isinstance(choices := schema.get("enum"), list):
        yield set(map(type_of, choices))
    if "const" in schema:
        yield {type_of(schema["const"])}
    for word in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(word), list):
            found = [types_of(option, root, depth + 1) for option in options]
            yield set().union(*found) if all(found) else set()
    if isinstance(parts := schema.get("allOf"), list):
        yield from (types_of(part, root, depth + 1) for part in parts)


def type_of(value: object) -> str:
    """The name of the type that a value, which is decoded JSON, has."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case None:
            return "null"
    return "array" if isinstance(value, list) else "object"
