"""Checks of external JSON values before they are stored.

Python's decoder accepts more than RFC 8259: ``NaN``, and numbers and nesting depths that cannot
be encoded again. Values that pass these checks can be sent to every client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import structlog

MAX_DEPTH: Final = 32
"""Maximum nesting depth of objects and arrays, including the outermost."""

log = structlog.get_logger("beray.json")


def check_json(value: object) -> None:
    """Check that ``value``, decoded JSON, can be encoded again as RFC 8259 requires.

    Raises:
        ValueError: ``value`` is nested deeper than ``MAX_DEPTH``, or contains a number that is
            not finite or a string that is not valid Unicode.
    """
    level, depth = [value], 0
    while containers := [item for item in level if isinstance(item, dict | list)]:
        level = [child for container in containers for child in _children(container)]
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"objects and arrays are nested more than {MAX_DEPTH} levels deep")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a string contains half of a surrogate pair") from None
    except ValueError:
        raise ValueError("a number is not finite") from None


def _children(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def decode_stored_json(text: str) -> Any:
    """Decode a JSON value of the database; log damaged JSON and return ``None`` for it."""
    try:
        value = json.loads(text)
        check_json(value)
    except (ValueError, RecursionError) as error:
        log.error("a database row contains damaged JSON", error=type(error).__name__)
        return None
    return value
