"""Names of tools as providers take them."""

from __future__ import annotations

import re
from typing import Final

CHARACTERS: Final = 64


def free_name(wanted: str, taken: set[str]) -> str:
    """``wanted``, as providers take it and nobody has it; it is taken then."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", wanted)
    name, number = plain[:CHARACTERS], 1
    while name in taken:
        number += 1
        suffix = f"_{number}"
        name = plain[: CHARACTERS - len(suffix)] + suffix
    taken.add(name)
    return name
