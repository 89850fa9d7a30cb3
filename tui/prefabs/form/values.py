"""What was filled in, as the parameters of a call; or what is wrong with it, by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from beray.gateway.param_schema import Schema, resolved
from tui.prefabs.form.checks import misfit
from tui.prefabs.form.schema import EMPTY_TEXT, WHOLE, Field, Kind

NOTHING: Final = object()
"""The value of a field that was left empty."""
_INTEGER: Final = re.compile(r"[+-]?\d{1,100}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_YES: Final = frozenset({"true", "yes", "1"})
_NO: Final = frozenset({"false", "no", "0"})
_MOST_DIGITS: Final = 400


class Unfit(ValueError):
    """A text is no value of its field; the message says why, for a reader."""


def value_of(field: Field, text: str) -> Any:
    """The value of ``field`` where ``text`` is in it; ``NOTHING`` where it is left out.

    Raises:
        Unfit: there is no such value, or it does not fit the schema.
    """
    value = _read(field, text)
    if value is NOTHING:
        if not field.required:
            return NOTHING
        if field.nullable:
            return None
        if field.kind in (Kind.TEXT, Kind.LONG_TEXT):
            raise Unfit(f"A text is needed; {EMPTY_TEXT} stands for one without characters.")
        raise Unfit("A value is needed.")
    problem = "" if value is None and field.nullable else _misfit(field, value)
    if problem:
        raise Unfit(problem)
    return value


def entered(
    fields: Sequence[Field], texts: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The parameters that ``texts``, by the names of the fields, give.

    Returns:
        the parameters, and what is wrong, by the names of fields: where there is anything
        there, the parameters are not to be sent.
    """
    parameters: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for field in fields:
        try:
            value = value_of(field, texts.get(field.name, ""))
        except Unfit as unfit:
            problems[field.name] = str(unfit)
            continue
        if value is NOTHING:
            continue
        if field.name != WHOLE:
            parameters[field.name] = value
        elif twice := sorted(value.keys() & texts.keys()):
            problems[WHOLE] = f"{twice[0]} has a field of its own."
        else:
            parameters.update(value)
    return parameters, problems


def _misfit(field: Field, value: Any) -> str:
    return misfit(value, field.schema, field.definitions)


def _read(field: Field, text: str) -> Any:
    kind = field.kind
    if kind in (Kind.TEXT, Kind.LONG_TEXT):
        return "" if text == EMPTY_TEXT else text or NOTHING
    text = text.strip()
    if not text:
        return NOTHING
    if kind is Kind.INTEGER:
        return _integer(text)
    if kind is Kind.NUMBER:
        return _number(text)
    if kind is Kind.FLAG:
        return _flag(text)
    if kind is Kind.LIST:
        return _list(text, resolved(field.schema.get("items"), field.definitions or {}))
    return parsed(text)


def _integer(text: str) -> int:
    if _INTEGER.fullmatch(text):
        return int(text)
    raise Unfit("It has to be a whole number.")


def _number(text: str) -> int | float:
    if _INTEGER.fullmatch(text):
        return int(text)
    if len(text) <= _MOST_DIGITS and _NUMBER.fullmatch(text):
        value = float(text)
        if abs(value) != float("inf"):
            return value
        raise Unfit("It is too large.")
    raise Unfit("It has to be a number.")


def _flag(text: str) -> bool:
    if text.casefold() in _YES:
        return True
    if text.casefold() in _NO:
        return False
    raise Unfit("It has to be true or false.")


def _list(text: str, items: Schema) -> list[Any]:
    """JSON; or a line for each item; or, on a single line, items with commas between them."""
    if text.startswith("["):
        found = parsed(text)
        assert isinstance(found, list), "what begins with [ is a list"
        return found
    parts = text.splitlines() if "\n" in text else text.split(",")
    return [_item(part, items) for part in map(str.strip, parts) if part]


def _item(text: str, schema: Schema) -> Any:
    read = {"integer": _integer, "number": _number, "boolean": _flag}.get(str(schema.get("type")))
    if read is None:
        return "" if text == EMPTY_TEXT else text
    try:
        return read(text)
    except Unfit as unfit:
        raise Unfit(f"{text}: {unfit}") from None


def parsed(text: str) -> Any:
    """``text`` as JSON.

    Raises:
        Unfit: it is none, or something that JSON cannot say, such as NaN.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        # A lone surrogate would end the program where it is sent.
        json.dumps(value, ensure_ascii=False).encode()
    except Unfit:
        raise
    except json.JSONDecodeError as error:
        where = f" in line {error.lineno}" if "\n" in text else ""
        raise Unfit(f"It is not JSON: {error.msg}{where}, column {error.colno}.") from None
    except RecursionError:
        raise Unfit("It is not JSON that can be sent: it is too deep.") from None
    except ValueError:
        raise Unfit("It is not JSON that can be sent.") from None
    return value


def _refuse(word: str) -> NoReturn:
    raise Unfit(f"{word} is not JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if abs(value) == float("inf"):
        raise Unfit(f"{text[:20]} is too large.")
    return value
