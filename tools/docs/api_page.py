"""Reference of the Python API: directives of mkdocstrings for the names in a page."""

from __future__ import annotations

import re


def generate(names: str) -> str:
    """Return the directives for all objects that are named in ``names``, in this order."""
    return "\n".join(f"::: {name}\n" for name in re.findall(r"`(beray(?:\.\w+)+)`", names))
