"""The parameters of a function, as its JSON Schema says, as fields of a form.

Every field holds text, whatever its value is; ``tui.prefabs.form.values`` makes one of the
other. What no field can be made for is given as JSON, so there is no schema that cannot be
filled in. A schema comes from outside: what is odd about it costs its hint, not the form.

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

MOST_FIELDS: Final = 60
"""Of more parameters than these there is one field, for all of them as JSON."""
LONG_CHARACTERS: Final = 1000
"""A text that may be longer has a field of several lines."""
WHOLE: Final = ""
"""The name of the field for all parameters, or all further ones, as one JSON object."""
_MOST_CHOICES: Final = 500
_SECRET_NAMES: Final = frozenset({"password", "passphrase", "secret", "token", "api_key"})
_LONG_NAMES: Final = frozenset({"text", "content", "body", "prompt", "markdown", "html"})


class Kind(StrEnum):
    """How a field is filled in."""

    TEXT = "text"
    LONG_TEXT = "long text"
    INTEGER = "integer"
    NUMBER = "number"
    FLAG = "yes or no"
    CHOICE = "choice"
    LIST = "list"
    JSON = "JSON"


@dataclass(frozen=True)
class Field:
    """One parameter.

    Attributes:
        schema: of its value; of the items, for a list, under ``items``.
        required: the function cannot be called without it.
        nullable: ``null`` is a value of it.
        initial: the text that stands in it at first; "" where there is no default.
        choices: the values to choose from, for ``Kind.CHOICE``.
        definitions: the whole schema, which a ``$ref`` in ``schema`` points into.
        secret: it is a text that nobody is to read from the screen.
    """

    name: str
    kind: Kind
    schema: Schema
    required: bool = False
    nullable: bool = False
    initial: str = ""
    choices: tuple[Any, ...] = ()
    description: str = ""
    hint: str = ""
    definitions: Schema | None = None
    secret: bool = False


def fields(parameters: object) -> list[Field]:
    """The fields for ``parameters``, the schema of a function, in its order.

    Required ones come first. Of what is no schema of an object with properties there is
    one field, ``WHOLE``.
    """
    root: Schema = parameters if isinstance(parameters, Mapping) else {}
    properties = root.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return [] if _takes_nothing(root) else [_whole(root)]
    if len(properties) > MOST_FIELDS or WHOLE in properties:
        return [_whole(root)]
    required = _names(root.get("required"))
    if not required <= properties.keys():
        return [_whole(root)]
    found = [_field(name, own, name in required, root) for name, own in properties.items()]
    found.sort(key=lambda field: not field.required)
    if root.get("additionalProperties", False) is not False:
        hint = "further parameters, as a JSON object, may stay empty"
        found.append(Field(WHOLE, Kind.JSON, {"type": "object"}, hint=hint))
    return found


def text_of(kind: Kind, value: Any) -> str:
    """How ``value`` stands in a field of ``kind``."""
    if value is None and kind is not Kind.JSON and kind is not Kind.CHOICE:
        return ""
    if kind in (Kind.TEXT, Kind.LONG_TEXT) and isinstance(value, str):
        return value or EMPTY_TEXT
    if kind is Kind.LIST and isinstance(value, list):
        return _listed(value)
    return as_json(value)


EMPTY_TEXT: Final = '""'
"""What stands for a text without characters: a field that is left empty gives nothing."""


def as_json(value: Any) -> str:
    """``value`` as JSON in printable characters; "" for what cannot be said in it."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""
    if printable(text) == text:
        return text
    # So that it stays the same JSON where it is shown, and is read again.
    return "".join(one if printable(one) == one else f"\\u{ord(one):04x}" for one in text)


def in_words(value: Any) -> str:
    """A choice, as it is offered: a text as it is."""
    return value if isinstance(value, str) and value else as_json(value)


def _listed(items: list[Any]) -> str:
    """A line for each item, or JSON where that would be read as something else."""
    lines = [item if isinstance(item, str) else as_json(item) for item in items]
    plain = all(
        line == line.strip() and line and line.isprintable() and line != EMPTY_TEXT
        for line in lines
    )
    alone = len(lines) == 1 and ("," in lines[0] or lines[0].startswith("["))
    if not plain or alone or not lines or lines[0].startswith("["):
        return as_json(items)
    return "\n".join(lines)


def _takes_nothing(root: Schema) -> bool:
    if root.get("properties") == {}:
        return not _names(root.get("required"))
    return not root or set(root) <= {"type", "additionalProperties", "title", "description"}


def _whole(root: Schema) -> Field:
    hint = "all parameters, as a JSON object"
    needed = bool(_names(root.get("required")))
    return Field(WHOLE, Kind.JSON, {**root, "type": "object"}, needed, hint=hint, definitions=root)


def _names(value: object) -> set[str]:
    return {name for name in value if isinstance(name, str)} if isinstance(value, list) else set()


def _field(name: str, own: object, required: bool, root: Schema) -> Field:
    outer = resolved(own, root)
    schema, nullable = _without_null(outer, root)
    kind, choices = _kind(name, schema, root)
    default = outer.get("default", schema.get("default"))
    if default == "" and not required:
        default = None  # that is what it is when nothing is given
    if default is None and required and (kind is Kind.FLAG or len(choices) == 1):
        default = choices[0] if choices else False
    initial = text_of(kind, default) if default is not None else ""
    if kind is Kind.CHOICE and initial not in map(as_json, choices):
        initial = ""
    return Field(
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
        kind is Kind.TEXT and _is_secret(name, schema),
    )


def _without_null(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """The schema of what is not ``null``, where that is all there is to choose between."""
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


def _kind(name: str, schema: Schema, root: Schema) -> tuple[Kind, tuple[Any, ...]]:
    choices = _choices(schema)
    if choices:
        return Kind.CHOICE, choices
    match schema.get("type"):
        case "string":
            return (Kind.LONG_TEXT if _is_long(name, schema) else Kind.TEXT), ()
        case "integer":
            return Kind.INTEGER, ()
        case "number":
            return Kind.NUMBER, ()
        case "boolean":
            return Kind.FLAG, ()
        case "array" if _item_type(schema, root):
            return Kind.LIST, ()
    return Kind.JSON, ()


def _choices(schema: Schema) -> tuple[Any, ...]:
    if "const" in schema:
        return (schema["const"],)
    values = schema.get("enum")
    if isinstance(values, list) and 0 < len(values) <= _MOST_CHOICES:
        return tuple(values)
    return ()


def _item_type(schema: Schema, root: Schema) -> str:
    """What the items of a list are, where they can be written on a line each; else ""."""
    kind = resolved(schema.get("items"), root).get("type")
    return kind if kind in ("string", "integer", "number", "boolean") else ""


def _is_secret(name: str, schema: Schema) -> bool:
    told = schema.get("format") == "password" or schema.get("writeOnly") is True
    return told or name.casefold() in _SECRET_NAMES


def _is_long(name: str, schema: Schema) -> bool:
    most, default = schema.get("maxLength"), schema.get("default")
    if isinstance(default, str) and not default.isprintable():
        return True  # a line has no place for a tab or a line break
    if isinstance(most, int):
        return most > LONG_CHARACTERS
    return "contentMediaType" in schema or name.casefold() in _LONG_NAMES


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# What can be put in, in words


def _hint(kind: Kind, schema: Schema, root: Schema, *, required: bool, given: bool) -> str:
    parts = [_kind_words(kind, schema, root), *_limits(kind, schema)]
    if not required and kind is not Kind.FLAG:
        parts.append("its default where empty" if given else "may stay empty")
    return ", ".join(filter(None, parts))


def _kind_words(kind: Kind, schema: Schema, root: Schema) -> str:
    if kind is Kind.LIST:
        items = resolved(schema.get("items"), root)
        choices = [in_words(one) for one in _choices(items)]
        of = f"of {' '.join(choices)}" if choices else f"{items.get('type')}s"
        return f"{of}, one on each line or with commas"
    if kind is Kind.JSON:
        types = schema.get("type")
        return f"JSON, {types}" if isinstance(types, str) else "JSON"
    return "" if kind in (Kind.CHOICE, Kind.FLAG) else kind.value


def _limits(kind: Kind, schema: Schema) -> Iterator[str]:
    if kind in (Kind.INTEGER, Kind.NUMBER):
        yield from bounds(schema)
        step = number(schema, "multipleOf")
        if step is not None and step != 1:
            yield f"a multiple of {plain(step)}"
    if kind in (Kind.TEXT, Kind.LONG_TEXT):
        yield amount(schema, "Length", "characters")
        for word in ("format", "pattern"):
            if isinstance(schema.get(word), str):
                yield f"{word} {schema[word]}"
    if kind is Kind.LIST:
        yield amount(schema, "Items", "items")
