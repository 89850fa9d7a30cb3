"""Shell patterns that select paths of uploads and of changes."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Return True if one of the patterns matches a path.

    Args:
        path: Relative path with ``/`` as separator.
        patterns: Shell patterns. A pattern with a ``/`` matches the whole path, any other the name
            of the file or of a directory above it.
    """
    parts = path.split("/")
    return any(
        fnmatchcase(path, pattern)
        if "/" in pattern
        else any(fnmatchcase(part, pattern) for part in parts)
        for pattern in patterns
    )
