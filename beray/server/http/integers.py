"""Integers in paths, queries and headers, in canonical form only.

Canonical are ASCII digits without a sign, leading zeros or spaces. If a number could be written
in several ways, one resource would have several URLs, and caches and proxies would not recognize
them as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BeforeValidator

INTEGER_SCHEMA: Final[dict[str, Any]] = {"type": "integer"}
"""JSON Schema of a path parameter that is parsed by ``parse_integer``."""
_CANONICAL: Final = re.compile("0|[1-9][0-9]{0,18}")
_MAX: Final = 2**63 - 1


def parse_integer(text: str) -> int | None:
    """Parse a canonical integer; return ``None`` for other text and for more than 63 bits."""
    number = int(text) if _CANONICAL.fullmatch(text) else None
    return number if number is not None and number <= _MAX else None


def declared_size(headers: Mapping[str, str]) -> int:
    """Return the ``Content-Length`` of ``headers``; 0 if it is missing or not a number."""
    declared = headers.get("Content-Length", "")
    return int(declared) if re.fullmatch(r"[0-9]{1,20}", declared) else 0


def _require_canonical(value: object) -> object:
    if isinstance(value, str) and parse_integer(value) is None:
        raise ValueError(f"expects an integer in decimal digits, got {value[:40]!r}")
    return value


CANONICAL_INTEGER: Final = BeforeValidator(_require_canonical)
"""Annotation of an ``int`` query parameter, after its limits: rejects other forms with 422."""
