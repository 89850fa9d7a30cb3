"""Integers in paths, queries and headers: ASCII digits without sign, zeros in front or spaces.

A number that can be written in several ways gives one resource several URLs, of which a cache or
a proxy knows only some.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BeforeValidator

INTEGER_SCHEMA: Final[dict[str, Any]] = {"type": "integer"}
"""JSON Schema of a path parameter that is read by ``parse_integer``."""
_CANONICAL: Final = re.compile("0|[1-9][0-9]{0,18}")
_MOST: Final = 2**63 - 1


def parse_integer(text: str) -> int | None:
    """Return the number that ``text`` is; ``None`` if it is not one, or exceeds 63 bits."""
    number = int(text) if _CANONICAL.fullmatch(text) else None
    return number if number is not None and number <= _MOST else None


def declared_size(headers: Mapping[str, str]) -> int:
    """Return the ``Content-Length`` among ``headers``; 0 if there is none that is a number."""
    declared = headers.get("Content-Length", "")
    return int(declared) if re.fullmatch(r"[0-9]{1,20}", declared) else 0


def _require_canonical(value: object) -> object:
    if isinstance(value, str) and parse_integer(value) is None:
        raise ValueError(f"{value[:40]!r} is not an integer from 0 to {_MOST} in decimal digits")
    return value


CANONICAL_INTEGER: Final = BeforeValidator(_require_canonical)
"""Annotation of a query parameter of type ``int``, after its limits; 422 for any other form."""
