"""Client-side validation of a value against a JSON Schema.

Patterns, formats and alternatives are left to the server. A value that is rejected here would
also be rejected by the server, but not vice versa.

Source: JSON Schema 2020-12, Validation 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from beray.gateway.param_schema import Schema, resolved
from tui.prefabs.form.limits import counted, number, plain
from tui.prefabs.form.schema import as_json

_MAX_DEPTH: Final = 20
_TYPES: Final = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_MAX_NAMED: Final = 12


def mismatch(value: Any, schema: Schema, root: Schema | None = None) -> str:
    """Return why ``value``, decoded JSON, violates ``schema``, or "".

    Args:
        value: Decoded JSON.
        schema: Schema of the value.
        root: Schema that ``$ref`` refers to; by default ``schema``.
    """
    return next(_misfits(value, schema, root or schema, "", 0), "")


def _misfits(value: Any, own: object, root: Schema, place: str, depth: int) -> Iterator[str]:
    schema = resolved(own, root)
    if depth > _MAX_DEPTH:
        return
    before = f"{place}: " if place else ""
    wrong = _wrong_type(value, schema.get("type"))
    if wrong:
        yield f"{before}{wrong}"
        return
    for problem in (_wrong_choice(value, schema), *_wrong_size(value, schema)):
        if problem:
            yield f"{before}{problem}"
    if isinstance(value, list):
        yield from _wrong_items(value, schema, root, place, depth)
    if isinstance(value, dict):
        yield from _wrong_members(value, schema, root, place, depth)


def _wrong_type(value: Any, types: object) -> str:
    names = [types] if isinstance(types, str) else types
    if not isinstance(names, list) or not names:
        return ""
    known = [name for name in names if isinstance(name, str) and name in _TYPES]
    if len(known) < len(names) or any(_is(value, name) for name in known):
        return ""
    return f"The value must be {' or '.join(_TYPES[name] for name in known)}."


def _is(value: Any, name: str) -> bool:
    match name:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, float) and value.is_integer()
            return (isinstance(value, int) and not isinstance(value, bool)) or whole
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list)
        case "object":
            return isinstance(value, dict)
    return value is None


def _wrong_choice(value: Any, schema: Schema) -> str:
    if "const" in schema and not _same(value, schema["const"]):
        return f"The value must be {as_json(schema['const'])}."
    values = schema.get("enum")
    if isinstance(values, list) and not any(_same(value, one) for one in values):
        named = ", ".join(as_json(one) for one in values[:_MAX_NAMED])
        more = ", …" if len(values) > _MAX_NAMED else ""
        return f"The value must be one of {named}{more}."
    return ""


def _same(one: Any, other: Any) -> bool:
    """Return True if two JSON values are equal: 1 equals 1.0, but not true."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _wrong_size(value: Any, schema: Schema) -> Iterator[str]:
    if isinstance(value, str):
        yield _wrong_amount(len(value), schema, "Length", "characters")
    elif isinstance(value, list):
        yield _wrong_amount(len(value), schema, "Items", "items")
        if schema.get("uniqueItems") is True and _repeats(value):
            yield "Duplicate items are not allowed."
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _wrong_number(value, schema)


def _wrong_amount(amount: int, schema: Schema, what: str, unit: str) -> str:
    least, most = number(schema, f"min{what}"), number(schema, f"max{what}")
    if least is not None and amount < least:
        return f"{counted(amount, unit)}: at least {plain(least)} are required."
    if most is not None and amount > most:
        return f"{counted(amount, unit)}: at most {plain(most)} are allowed."
    return ""


def _wrong_number(value: float, schema: Schema) -> Iterator[str]:
    least, most = number(schema, "minimum"), number(schema, "maximum")
    above, below = number(schema, "exclusiveMinimum"), number(schema, "exclusiveMaximum")
    step = number(schema, "multipleOf")
    if least is not None and value < least:
        yield f"The value must be at least {plain(least)}."
    if most is not None and value > most:
        yield f"The value must be at most {plain(most)}."
    if above is not None and value <= above:
        yield f"The value must be more than {plain(above)}."
    if below is not None and value >= below:
        yield f"The value must be less than {plain(below)}."
    if step and step > 0 and _is_between_steps(value, step):
        yield f"The value must be a multiple of {plain(step)}."


def _is_between_steps(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step != 0
    try:
        steps = value / step
    except OverflowError:
        return False
    return math.isfinite(steps) and not math.isclose(steps, round(steps), rel_tol=1e-9)


def _repeats(items: list[Any]) -> bool:
    encoded = [as_json(item) for item in items]
    return len(set(encoded)) < len(encoded)


def _wrong_items(
    items: list[Any], schema: Schema, root: Schema, place: str, depth: int
) -> Iterator[str]:
    own = schema.get("items")
    if isinstance(own, Mapping):
        for at, item in enumerate(items, 1):
            yield from _misfits(item, own, root, f"{place} item {at}".strip(), depth + 1)


def _wrong_members(
    members: dict[str, Any], schema: Schema, root: Schema, place: str, depth: int
) -> Iterator[str]:
    before = f"{place}: " if place else ""
    properties = schema.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if isinstance(name, str) and name not in members:
            yield f"{before}{name} is missing."
    for name, member in members.items():
        if name in known:
            inner = f"{place}.{name}" if place else name
            yield from _misfits(member, known[name], root, inner, depth + 1)
        elif schema.get("additionalProperties") is False and "patternProperties" not in schema:
            yield f"{before}{name} is not a known property."
