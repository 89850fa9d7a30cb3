"""What an agent says, cut to a size that a log can take."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from pydantic import JsonValue

TEXT_CHARACTERS: Final = 100_000
"""Most of one text in a result or a diff."""
NAME_CHARACTERS: Final = 200
PATH_CHARACTERS: Final = 4096
JSON_CHARACTERS: Final = 100_000
"""Most of one value that is JSON, such as the arguments of a tool."""
_DEPTH: Final = 24


def cut(text: str, most: int = TEXT_CHARACTERS) -> str:
    """Return ``text``, or its beginning with a mark that says so."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(value: Any) -> JsonValue:
    """Return ``value``, decoded JSON, such that it can be logged: bounded, finite numbers."""
    kept = _shallow(value, _DEPTH)
    text = json.dumps(kept, ensure_ascii=False)
    return kept if len(text) <= JSON_CHARACTERS else {"cut": cut(text, JSON_CHARACTERS)}


def _shallow(value: Any, depth: int) -> JsonValue:
    if isinstance(value, dict | list) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(key): _shallow(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_shallow(item, depth - 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
