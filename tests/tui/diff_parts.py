"""Differences of files in the format of a server."""

from __future__ import annotations

import difflib

from beray.history_schema import DiffHunk


def hunk_of(old: list[str], new: list[str], start: int = 1) -> DiffHunk:
    """Return the differences of two files as one hunk."""
    lines = [line for line in difflib.ndiff(old, new) if not line.startswith("?")]
    return DiffHunk(
        old_start=start,
        old_lines=len(old),
        new_start=start,
        new_lines=len(new),
        lines=[line[0] + line[2:] for line in lines],
    )
