"""References and types in the JSON Schema of a prefab's parameters.

Schemas are external input: invalid parts are ignored.

Source: JSON Schema 2020-12, Core 8.2.3 (``$ref``) and 10.2.1, Validation 6.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = Mapping[str, Any]

_MAX_DEPTH: Final = 20
"""Maximum number of references that are followed, and of nested choices."""


def resolved(schema: object, root: Schema) -> Schema:
    """Return ``schema`` with its ``$ref`` replaced by the schema that it refers to.

    Keywords next to ``$ref`` take precedence over those of the referenced schema.

    Args:
        schema: A schema; anything that is not a mapping counts as an empty schema.
        root: Document that contains the referenced schemas. References that do not point into it
            are ignored.
    """
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, Mapping):
            return {}
        target = schema.get("$ref")
        if not isinstance(target, str):
            return schema
        referenced: object = root if target == "#" or target.startswith("#/") else None
        for part in target.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            referenced = referenced.get(key) if isinstance(referenced, Mapping) else None
        if not isinstance(referenced, Mapping):
            return {}
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**referenced, **siblings}
    return {}


def types_of(schema: object, root: Schema, depth: int = 0) -> set[str]:
    """Return the JSON types that a value of ``schema`` can have; empty if any type is allowed.

    Args:
        schema: Schema of a value.
        root: Document that contains the schemas which ``$ref`` refers to.
        depth: Depth of the recursion.
    """
    if depth > _MAX_DEPTH:
        return set()
    return next(filter(None, _type_constraints(resolved(schema, root), root, depth)), set())


def _type_constraints(schema: Schema, root: Schema, depth: int) -> Iterator[set[str]]:
    """Yield the types that each keyword of a schema allows; empty for any type."""
    types = schema.get("type")
    yield {
        name for name in (types if isinstance(types, list) else [types]) if isinstance(name, str)
    }
    if isinstance(choices := schema.get("enum"), list):
        yield set(map(type_of, choices))
    if "const" in schema:
        yield {type_of(schema["const"])}
    for keyword in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(keyword), list):
            option_types = [types_of(option, root, depth + 1) for option in options]
            yield set().union(*option_types) if all(option_types) else set()
    if isinstance(parts := schema.get("allOf"), list):
        yield from (types_of(part, root, depth + 1) for part in parts)


def type_of(value: object) -> str:
    """Return the name of the JSON type of a decoded value."""
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
