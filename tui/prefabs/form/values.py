"""Conversion of form texts to the parameters of a call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from beray.gateway.param_schema import Schema, resolved
from tui.prefabs.form.checks import mismatch
from tui.prefabs.form.schema import EMPTY_TEXT, WHOLE, FieldKind, ParameterField

NO_VALUE: Final = object()
"""Value of a field that was left empty."""
_INTEGER: Final = re.compile(r"[+-]?\d{1,100}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_YES: Final = frozenset({"true", "yes", "1"})
_NO: Final = frozenset({"false", "no", "0"})
_MAX_DIGITS: Final = 400


class InvalidFieldValue(ValueError):
    """The text of a field is not a valid value; the message is for the user."""


def parse_field(field: ParameterField, text: str) -> Any:
    """Convert ``text`` to a value of ``field``; return ``NO_VALUE`` if it is left out.

    Raises:
        InvalidFieldValue: The text is not a value of the field's type, or violates its schema.
    """
    value = _read(field, text)
    if value is NO_VALUE:
        if not field.required:
            return NO_VALUE
        if field.nullable:
            return None
        if field.kind in (FieldKind.TEXT, FieldKind.LONG_TEXT):
            raise InvalidFieldValue(f"A value is required; enter {EMPTY_TEXT} for an empty string.")
        raise InvalidFieldValue("A value is required.")
    problem = "" if value is None and field.nullable else _misfit(field, value)
    if problem:
        raise InvalidFieldValue(problem)
    return value


def parse_fields(
    fields: Sequence[ParameterField], texts: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Convert ``texts``, by field name, to the parameters of a call.

    Returns:
        The parameters, and error messages by field name. The parameters are valid only if
        there are no errors.
    """
    parameters: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields:
        try:
            value = parse_field(field, texts.get(field.name, ""))
        except InvalidFieldValue as unfit:
            problems[field.name] = str(unfit)
            continue
        if value is NO_VALUE:
            continue
        if field.name != WHOLE:
            parameters[field.name] = value
        elif twice := sorted(value.keys() & texts.keys()):
            problems[WHOLE] = f"{twice[0]} has its own field; remove it here."
        else:
            parameters.update(value)
    return parameters, problems


def _misfit(field: ParameterField, value: Any) -> str:
    return mismatch(value, field.schema, field.definitions)


def _read(field: ParameterField, text: str) -> Any:
    kind = field.kind
    if kind in (FieldKind.TEXT, FieldKind.LONG_TEXT):
        return "" if text == EMPTY_TEXT else text or NO_VALUE
    text = text.strip()
    if not text:
        return NO_VALUE
    if kind is FieldKind.INTEGER:
        return _integer(text)
    if kind is FieldKind.NUMBER:
        return _number(text)
    if kind is FieldKind.FLAG:
        return _flag(text)
    if kind is FieldKind.LIST:
        return _list(text, resolved(field.schema.get("items"), field.definitions or {}))
    return parsed(text)


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text):
        return int(text)
    raise InvalidFieldValue("The value must be a whole number.")


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= _MAX_DIGITS and _NUMBER.fullmatch(text):
        value = float(text)
        if abs(value) != float("inf"):
            return value
        raise InvalidFieldValue("The number is too large.")
    raise InvalidFieldValue("The value must be a number.")


def _flag(text: str) -> bool:
    if text.casefold() in _YES:
        return True
    if text.casefold() in _NO:
        return False
    raise InvalidFieldValue("The value must be true or false.")


def _list(text: str, items: Schema) -> list[Any]:
    """Parse a JSON array, one item per line, or comma-separated items on one line."""
    if text.startswith("["):
        found = parsed(text)
        assert isinstance(found, list), "JSON that starts with [ is an array"
        return found
    parts = text.splitlines() if "\n" in text else text.split(",")
    return [_item(part, items) for part in map(str.strip, parts) if part]


def _item(text: str, schema: Schema) -> Any:
    read = {"integer": _integer, "number": _number, "boolean": _flag}.get(str(schema.get("type")))
    if read is None:
        return "" if text == EMPTY_TEXT else text
    try:
        return read(text)
    except InvalidFieldValue as unfit:
        raise InvalidFieldValue(f"{text}: {unfit}") from None


def parsed(text: str) -> Any:
    """Parse ``text`` as JSON.

    Raises:
        InvalidFieldValue: The text is not JSON, or contains values such as NaN that JSON
            cannot represent.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        # A lone surrogate would raise when the request is encoded.
        json.dumps(value, ensure_ascii=False).encode()
    except InvalidFieldValue:
        raise
    except json.JSONDecodeError as error:
        where = f" in line {error.lineno}" if "\n" in text else ""
        raise InvalidFieldValue(
            f"Invalid JSON: {error.msg}{where}, column {error.colno}."
        ) from None
    except RecursionError:
        raise InvalidFieldValue("The JSON value is nested too deeply.") from None
    except ValueError:
        raise InvalidFieldValue(
            "The JSON value contains characters that cannot be encoded."
        ) from None
    return value


def _refuse(word: str) -> NoReturn:
    raise InvalidFieldValue(f"{word} is not valid JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if abs(value) == float("inf"):
        raise InvalidFieldValue(f"{text[:20]} is too large.")
    return value
