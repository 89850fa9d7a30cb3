"""Problems of invalid input, with the wording of 422 responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from beray.sanitize import one_line

InputLocation = tuple[str | int, ...]
Describe = Callable[[Mapping[str, Any], Any], str]
"""Function that describes an error of pydantic by its ``ctx`` and the invalid value."""
_SHOWN_CHARACTERS: Final = 40
_EXPECTED: Final = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "date_parsing": "a date",
    "datetime_parsing": "a time",
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_parsing_size": "an integer below 2^63",
    "int_type": "an integer",
    "list_type": "an array",
    "model_attributes_type": "an object",
    "model_type": "an object",
    "string_type": "a string",
}
"""Expected values by error type of pydantic."""


class InputProblem(NamedTuple):
    """A problem of some input.

    Attributes:
        loc: Location of the value: keys and indexes from the outermost container.
        msg: Description without the location, such as "is required".
    """

    loc: InputLocation
    msg: str

    def __str__(self) -> str:
        place = ".".join(map(str, self.loc))
        return f"{place}: {self.msg}" if place else self.msg

    def sanitized(self) -> InputProblem:
        """Return the problem without control characters, which keys of the input may contain."""
        loc = (one_line(part) if isinstance(part, str) else part for part in self.loc)
        return InputProblem(tuple(loc), one_line(self.msg))

    def to_wire(self) -> dict[str, Any]:
        """Return the problem as an item of a 422 response."""
        return self.sanitized()._asdict()


def from_validation_error(
    error: Mapping[str, Any],
    *,
    has_public_values: bool = False,
    wording: Mapping[str, Describe] = MappingProxyType({}),
) -> InputProblem:
    """Describe an error of pydantic or FastAPI in terms of the input.

    The description contains values of paths, queries and headers, and numbers. It never contains
    strings of a body, which may be passwords or secrets.

    Args:
        error: An item of ``ValidationError.errors()``.
        has_public_values: True if the description may contain strings of any input, because
            none of those that can be invalid is secret.
        wording: Descriptions by error type that take precedence, for input other than JSON.
    """
    loc = tuple(error["loc"])
    kind: str = error["type"]
    value: Any = error.get("input")
    limits: Mapping[str, Any] = error.get("ctx") or {}
    if kind in wording:
        return InputProblem(loc, wording[kind](limits, value))
    if kind == "json_invalid":
        return InputProblem(loc[:1], "is not valid JSON")
    if loc == ("body",) and kind in ("model_attributes_type", "dict_type", "missing"):
        return InputProblem(loc, "expects a JSON object, sent as Content-Type: application/json")
    if kind == "value_error":
        return InputProblem(loc, str(limits["error"]))
    is_public = has_public_values or loc[:1] in (("path",), ("query",), ("header",))
    found = repr(value[:_SHOWN_CHARACTERS]) if is_public and isinstance(value, str) else None
    if kind in _EXPECTED:
        return InputProblem(loc, f"expects {_EXPECTED[kind]}, got {found or _json_type(value)}")
    describe = _DESCRIPTIONS.get(kind)
    if describe is None:
        return InputProblem(loc, f"is invalid: {found}" if found else "is invalid")
    text = describe(limits, value)
    return InputProblem(loc, f"{text}, got {found}" if kind in _SHOWING_VALUE and found else text)


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    names |= {dict: "an object", list: "an array", type(None): "null"}
    return names.get(type(value), "another type")


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _compared(relation: str, key: str) -> Describe:
    def describe(limits: Mapping[str, Any], value: object) -> str:
        return f"must be {relation} {_number(limits[key])}, got {str(value)[:_SHOWN_CHARACTERS]}"

    return describe


def _characters(limits: Mapping[str, Any], value: object) -> str:
    count = f", got {len(value):,}" if isinstance(value, str) else ""
    if "max_length" in limits:
        return f"may have at most {limits['max_length']:,} characters{count}"
    least = limits["min_length"]
    noun = "character" if least == 1 else "characters"
    return f"must have at least {least:,} {noun}{count}"


def _items(limits: Mapping[str, Any], value: object) -> str:
    count = f", got {len(value):,}" if isinstance(value, list | dict) else ""
    if "max_length" in limits:
        return f"may have at most {limits['max_length']:,} items{count}"
    least = limits["min_length"]
    return f"must have at least {least:,} {'item' if least == 1 else 'items'}{count}"


_DESCRIPTIONS: Final[dict[str, Describe]] = {
    "extra_forbidden": lambda _limits, _value: "is not a known field; remove it",
    "finite_number": lambda _limits, _value: "must be a finite number",
    "greater_than": _compared("greater than", "gt"),
    "greater_than_equal": _compared("at least", "ge"),
    "less_than": _compared("less than", "lt"),
    "less_than_equal": _compared("at most", "le"),
    "literal_error": lambda limits, _value: f"must be {limits['expected']}",
    "missing": lambda _limits, _value: "is required",
    "string_pattern_mismatch": lambda limits, _value: f"must match {limits['pattern']}",
    "string_too_long": _characters,
    "string_too_short": _characters,
    "string_unicode": lambda _limits, _value: "is not valid Unicode",
    "too_long": _items,
    "too_short": _items,
}
"""Descriptions by error type of pydantic."""
_SHOWING_VALUE: Final = ("literal_error", "string_pattern_mismatch")
