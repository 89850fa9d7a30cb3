"""JSON from outside: what is read, and what is kept of it.

Python's own decoder takes more than RFC 8259 knows: ``NaN``, and numbers and depths that
nobody can be given back. What is taken here can be said again to every client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import structlog

MAX_DEPTH: Final = 32
"""How deep objects and lists may be in one another, the outermost counted."""

log = structlog.get_logger("beray.json")


def check_json(value: object) -> None:
    """Prove that ``value``, decoded JSON, can be encoded again as RFC 8259 wants it.

    Raises:
        ValueError: it is deeper than ``MAX_DEPTH``, or holds a number that is not finite
            or text that is not Unicode.
    """
    level, depth = [value], 0
    while holders := [holder for holder in level if isinstance(holder, dict | list)]:
        level = [child for holder in holders for child in _children(holder)]
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"objects and lists are more than {MAX_DEPTH} deep in one another")
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a surrogate pair") from None
    except ValueError:
        raise ValueError("a number is not finite") from None


def _children(holder: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return holder.values() if isinstance(holder, dict) else holder


def decode_stored_json(text: str) -> Any:
    """Decode JSON of the database; ``None`` where it is damaged."""
    try:
        value = json.loads(text)
        check_json(value)
    except (ValueError, RecursionError) as error:
        log.error("a row of the database holds damaged JSON", error=type(error).__name__)
        return None
    return value
