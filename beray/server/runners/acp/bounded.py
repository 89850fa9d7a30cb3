"""Size limits for values from an agent that are written to the event log."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from pydantic import JsonValue

TEXT_CHARACTERS: Final = 100_000
"""Maximum length of one string in a result or a diff."""
NAME_CHARACTERS: Final = 200
PATH_CHARACTERS: Final = 4096
JSON_CHARACTERS: Final = 100_000
"""Maximum length of one JSON value, such as the arguments of a tool."""
_MAX_DEPTH: Final = 24


def truncate(text: str, max_characters: int = TEXT_CHARACTERS) -> str:
    """Return ``text``, shortened to the limit with a final ``…`` if it is longer."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def to_loggable(value: Any) -> JsonValue:
    """Return decoded JSON in a loggable form: limited in size and depth, with finite numbers."""
    limited = _limit_depth(value, _MAX_DEPTH)
    text = json.dumps(limited, ensure_ascii=False)
    return limited if len(text) <= JSON_CHARACTERS else {"cut": truncate(text, JSON_CHARACTERS)}


def _limit_depth(value: Any, depth: int) -> JsonValue:
    if isinstance(value, dict | list) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {str(key): _limit_depth(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_limit_depth(item, depth - 1) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
