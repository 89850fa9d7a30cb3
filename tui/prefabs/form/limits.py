"""Numeric limits of a JSON Schema, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterator

from beray.gateway.param_schema import Schema


def bounds(schema: Schema) -> Iterator[str]:
    """Yield the limits of a number as text."""
    least, most = number(schema, "minimum"), number(schema, "maximum")
    above, below = number(schema, "exclusiveMinimum"), number(schema, "exclusiveMaximum")
    if least is not None and most is not None:
        yield f"{plain(least)} to {plain(most)}"
    elif least is not None:
        yield f"at least {plain(least)}"
    elif most is not None:
        yield f"at most {plain(most)}"
    if above is not None:
        yield f"more than {plain(above)}"
    if below is not None:
        yield f"less than {plain(below)}"


def amount(schema: Schema, what: str, unit: str) -> str:
    """Return the limits of an amount, such as ``minItems`` and ``maxItems``, as text."""
    least, most = number(schema, f"min{what}"), number(schema, f"max{what}")
    if least and most is not None:
        return f"{plain(least)} to {plain(most)} {unit}"
    if least is not None and least > 1:
        return f"at least {plain(least)} {unit}"
    return f"at most {counted(most, unit)}" if most is not None else ""


def plain(value: float) -> str:
    """Return a number with thousands separators, without needless digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def counted(amount: float, unit: str) -> str:
    """Return ``amount`` and ``unit``, a plural, in the right grammatical number."""
    return f"{plain(amount)} {unit[:-1] if amount == 1 else unit}"


def number(schema: Schema, word: str) -> float | int | None:
    """Return the value of a numeric keyword, or None."""
    value = schema.get(word)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else None
