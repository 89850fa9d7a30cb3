"""Form fields for the parameters of a function, derived from its JSON Schema.

Every field contains text; ``tui.prefabs.form.values`` converts it to a value. Parameters without
a suitable field are entered as JSON, so every schema can be filled in. Schemas are untrusted: an
unusual one may lack a hint, but never breaks the form.

Source: JSON Schema 2020-12, Validation 6 and 9.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from beray.gateway.param_schema import Schema, resolved
from beray.sanitize import printable
from tui.prefabs.form.limits import amount, bounds, number, plain

MAX_FIELDS: Final = 60
"""If there are more parameters, one field takes all of them as JSON."""
LONG_CHARACTERS: Final = 1000
"""Strings that may be longer have a field of several lines."""
WHOLE: Final = ""
"""Name of the field for all parameters, or all additional ones, as one JSON object."""
_MAX_CHOICES: Final = 500
_SECRET_NAMES: Final = frozenset({"password", "passphrase", "secret", "token", "api_key"})
_LONG_NAMES: Final = frozenset({"text", "content", "body", "prompt", "markdown", "html"})


class FieldKind(StrEnum):
    """Type of a field."""

    TEXT = "text"
    LONG_TEXT = "long text"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "yes or no"
    CHOICE = "choice"
    LIST = "list"
    JSON = "JSON"


@dataclass(frozen=True)
class ParameterField:
    """Form field of one parameter.

    Attributes:
        name: Name of the parameter, or ``WHOLE``.
        kind: Type of the field.
        schema: Schema of the value.
        required: Whether the function requires the parameter.
        nullable: Whether ``null`` is a valid value.
        initial: Initial text; "" if there is no default.
        choices: Valid values of ``FieldKind.CHOICE``.
        description: Text of the prefab for the user.
        hint: Valid values as text.
        definitions: Complete schema, which ``$ref`` in ``schema`` refers to.
        secret: Whether the text is hidden on the screen.
    """

    name: str
    kind: FieldKind
    schema: Schema
    required: bool = False
    nullable: bool = False
    initial: str = ""
    choices: tuple[Any, ...] = ()
    description: str = ""
    hint: str = ""
    definitions: Schema | None = None
    secret: bool = False


def fields(parameters: object) -> list[ParameterField]:
    """Return the fields for ``parameters``, the schema of a function; required ones first.

    A schema that does not describe an object with properties gets one field, ``WHOLE``.
    """
    root: Schema = parameters if isinstance(parameters, Mapping) else {}
    properties = root.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return [] if _has_no_parameters(root) else [_whole(root)]
    if len(properties) > MAX_FIELDS or WHOLE in properties:
        return [_whole(root)]
    required = _names(root.get("required"))
    if not required <= properties.keys():
        return [_whole(root)]
    found = [_field(name, own, name in required, root) for name, own in properties.items()]
    found.sort(key=lambda field: not field.required)
    if root.get("additionalProperties", False) is not False:
        hint = "additional parameters as a JSON object, optional"
        found.append(ParameterField(WHOLE, FieldKind.JSON, {"type": "object"}, hint=hint))
    return found


def text_of(kind: FieldKind, value: Any) -> str:
    """Return the text of ``value`` in a field of type ``kind``."""
    if value is None and kind is not FieldKind.JSON and kind is not FieldKind.CHOICE:
        return ""
    if kind in (FieldKind.TEXT, FieldKind.LONG_TEXT) and isinstance(value, str):
        return value or EMPTY_TEXT
    if kind is FieldKind.LIST and isinstance(value, list):
        return _listed(value)
    return as_json(value)


EMPTY_TEXT: Final = '""'
"""Text that represents an empty string; an empty field means that there is no value."""


def as_json(value: Any) -> str:
    """Return ``value`` as JSON in printable characters; "" if JSON cannot represent it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""
    if printable(text) == text:
        return text
    # Escapes keep the JSON equivalent and readable after it has been displayed.
    return "".join(one if printable(one) == one else f"\\u{ord(one):04x}" for one in text)


def display_value(value: Any) -> str:
    """Return the displayed text of a choice; strings are not quoted."""
    return value if isinstance(value, str) and value else as_json(value)


def _listed(items: list[Any]) -> str:
    """Return one item per line, or JSON if the lines would be ambiguous."""
    lines = [item if isinstance(item, str) else as_json(item) for item in items]
    plain = all(
        line == line.strip() and line and line.isprintable() and line != EMPTY_TEXT
        for line in lines
    )
    alone = len(lines) == 1 and ("," in lines[0] or lines[0].startswith("["))
    if not plain or alone or not lines or lines[0].startswith("["):
        return as_json(items)
    return "\n".join(lines)


def _has_no_parameters(root: Schema) -> bool:
    if root.get("properties") == {}:
        return not _names(root.get("required"))
    return not root or set(root) <= {"type", "additionalProperties", "title", "description"}


def _whole(root: Schema) -> ParameterField:
    hint = "all parameters as a JSON object"
    needed = bool(_names(root.get("required")))
    return ParameterField(
        WHOLE, FieldKind.JSON, {**root, "type": "object"}, needed, hint=hint, definitions=root
    )


def _names(value: object) -> set[str]:
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def _field(name: str, own: object, required: bool, root: Schema) -> ParameterField:
    outer = resolved(own, root)
    schema, nullable = _without_null(outer, root)
    kind, choices = _kind(name, schema, root)
    default = outer.get("default", schema.get("default"))
    if default == "" and not required:
        default = None  # equivalent to a field without a value
    if default is None and required and (kind is FieldKind.FLAG or len(choices) == 1):
        default = choices[0] if choices else False
    initial = text_of(kind, default) if default is not None else ""
    if kind is FieldKind.CHOICE and initial not in map(as_json, choices):
        initial = ""
    return ParameterField(
        name,
        kind,
        schema,
        required,
        nullable,
        initial,
        choices,
        _text(outer.get("description")) or _text(schema.get("description")),
        _hint(kind, schema, root, required=required, given=bool(initial)),
        root,
        kind is FieldKind.TEXT and _is_secret(name, schema),
    )


def _without_null(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """Return the schema without its ``null`` alternative, and whether there was one."""
    types = schema.get("type")
    if isinstance(types, list) and "null" in types and len(types) == 2:
        other = next((one for one in types if one != "null"), "null")
        values = schema.get("enum")
        if isinstance(values, list):
            schema = {**schema, "enum": [one for one in values if one is not None]}
        return {**schema, "type": other}, True
    for word in ("anyOf", "oneOf"):
        options = schema.get(word)
        if isinstance(options, list) and len(options) == 2:
            found = [resolved(option, root) for option in options]
            others = [option for option in found if option.get("type") != "null"]
            if len(others) == 1:
                rest = {key: value for key, value in schema.items() if key != word}
                return {**others[0], **rest}, True
    return schema, False


def _kind(name: str, schema: Schema, root: Schema) -> tuple[FieldKind, tuple[Any, ...]]:
    choices = _choices(schema)
    if choices:
        return FieldKind.CHOICE, choices
    match schema.get("type"):
        case "string":
            return (FieldKind.LONG_TEXT if _is_long(name, schema) else FieldKind.TEXT), ()
        case "integer":
            return FieldKind.INTEGER, ()
        case "number":
            return FieldKind.NUMBER, ()
        case "boolean":
            return FieldKind.FLAG, ()
        case "array" if _item_type(schema, root):
            return FieldKind.LIST, ()
    return FieldKind.JSON, ()


def _choices(schema: Schema) -> tuple[Any, ...]:
    if "const" in schema:
        return (schema["const"],)
    values = schema.get("enum")
    if isinstance(values, list) and 0 < len(values) <= _MAX_CHOICES:
        return tuple(values)
    return ()


def _item_type(schema: Schema, root: Schema) -> str:
    """Return the type of list items that fit on one line each, or ""."""
    kind = resolved(schema.get("items"), root).get("type")
    return kind if kind in ("string", "integer", "number", "boolean") else ""


def _is_secret(name: str, schema: Schema) -> bool:
    is_marked_secret = schema.get("format") == "password" or schema.get("writeOnly") is True
    return is_marked_secret or name.casefold() in _SECRET_NAMES


def _is_long(name: str, schema: Schema) -> bool:
    most, default = schema.get("maxLength"), schema.get("default")
    if isinstance(default, str) and not default.isprintable():
        return True  # a single-line field cannot contain tabs or line breaks
    if isinstance(most, int):
        return most > LONG_CHARACTERS
    return "contentMediaType" in schema or name.casefold() in _LONG_NAMES


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# Hints


def _hint(kind: FieldKind, schema: Schema, root: Schema, *, required: bool, given: bool) -> str:
    parts = [_kind_words(kind, schema, root), *_limits(kind, schema)]
    if not required and kind is not FieldKind.FLAG:
        parts.append("empty for the default" if given else "optional")
    return ", ".join(filter(None, parts))


def _kind_words(kind: FieldKind, schema: Schema, root: Schema) -> str:
    if kind is FieldKind.LIST:
        items = resolved(schema.get("items"), root)
        choices = [display_value(one) for one in _choices(items)]
        of = f"of {' '.join(choices)}" if choices else f"{items.get('type')}s"
        return f"{of}, one per line or comma-separated"
    if kind is FieldKind.JSON:
        types = schema.get("type")
        return f"JSON, {types}" if isinstance(types, str) else "JSON"
    return "" if kind in (FieldKind.CHOICE, FieldKind.FLAG) else kind.value


def _limits(kind: FieldKind, schema: Schema) -> Iterator[str]:
    if kind in (FieldKind.INTEGER, FieldKind.NUMBER):
        yield from bounds(schema)
        step = number(schema, "multipleOf")
        if step is not None and step != 1:
            yield f"a multiple of {plain(step)}"
    if kind in (FieldKind.TEXT, FieldKind.LONG_TEXT):
        yield amount(schema, "Length", "characters")
        for word in ("format", "pattern"):
            if isinstance(schema.get(word), str):
                yield f"{word} {schema[word]}"
    if kind is FieldKind.LIST:
        yield amount(schema, "Items", "items")
