"""Application of the changes between two texts to a third one, which has changes of its own.

The lines of a hunk, with those around the change, must occur unchanged in the third text; they may
have moved. Hunks at the start or the end of a text stay there, as in ``git apply``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from beray.history_schema import DiffHunk

MAX_BYTES: Final = 16 * 1024**2
"""Maximum size of a text that is merged."""
_CONTEXT_LINES: Final = 3


class MergeConflict(Exception):
    """A hunk does not fit the text.

    Attributes:
        line: Number of the first line of the hunk in the old text.
    """

    def __init__(self, line: int) -> None:
        super().__init__(f"the lines around line {line} differ")
        self.line = line


@dataclass(frozen=True, slots=True)
class _Hunk:
    """Replacement of lines of the old text, with equal lines around them."""

    start: int
    old: list[bytes]
    new: list[bytes]
    is_first: bool
    """True if it must be at the start of the text."""
    is_last: bool
    """True if it must be at the end of the text."""


def merge(local: bytes, old: bytes, new: bytes, hunks: Sequence[DiffHunk]) -> bytes:
    """Return ``local`` with the changes between ``old`` and ``new``.

    The lines are those of ``old`` and ``new``; of the hunks, only the ranges are used, because JSON
    cannot represent lines in other encodings than UTF-8.

    Args:
        local: Text to change.
        old: Text before the change.
        new: Text after the change.
        hunks: Changes between ``old`` and ``new``, in ascending order.

    Raises:
        MergeConflict: The lines of a hunk do not occur in ``local``.
        ValueError: The hunks are not the changes between ``old`` and ``new``.
    """
    parsed = _parse(_lines(old), _lines(new), hunks)
    if b"".join(_apply(_lines(old), parsed)) != new:
        raise ValueError("the hunks do not lead from the old to the new content")
    return b"".join(_apply(_lines(local), parsed))


def is_merged(local: bytes, old: bytes, new: bytes, hunks: Sequence[DiffHunk]) -> bool:
    """Return True if ``local`` has the changes between ``old`` and ``new`` already.

    Then they can be undone, and cannot be made. The arguments are those of ``merge``.

    Raises:
        ValueError: The hunks are not the changes between ``old`` and ``new``.
    """
    parsed = _parse(_lines(new), _lines(old), [_reversed(hunk) for hunk in hunks])
    try:
        _apply(_lines(local), parsed)
    except MergeConflict:
        return False
    try:
        merge(local, old, new, hunks)
    except MergeConflict:
        return True
    return False


def _reversed(hunk: DiffHunk) -> DiffHunk:
    return {
        "old_start": hunk["new_start"],
        "old_lines": hunk["new_lines"],
        "new_start": hunk["old_start"],
        "new_lines": hunk["old_lines"],
        "lines": [],
    }


def _lines(text: bytes) -> list[bytes]:
    """Return the lines with their ends; the last one may have none. CR is part of a line."""
    lines = text.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _parse(old: list[bytes], new: list[bytes], hunks: Sequence[DiffHunk]) -> list[_Hunk]:
    parsed: list[_Hunk] = []
    for hunk in hunks:
        old_start = hunk["old_start"] - (hunk["old_lines"] > 0)
        new_start = hunk["new_start"] - (hunk["new_lines"] > 0)
        old_end, new_end = old_start + hunk["old_lines"], new_start + hunk["new_lines"]
        if not (0 <= old_start <= old_end <= len(old) and 0 <= new_start <= new_end <= len(new)):
            raise ValueError("a hunk is outside of the content")
        before, after = old[old_start:old_end], new[new_start:new_end]
        leading = _equal_lines(before, after)
        trailing = _equal_lines(before[leading:][::-1], after[leading:][::-1])
        parsed.append(
            _Hunk(
                old_start,
                before,
                after,
                is_first=old_start == 0 and leading < _CONTEXT_LINES,
                is_last=old_end == len(old) and trailing == 0,
            )
        )
    return parsed


def _equal_lines(left: list[bytes], right: list[bytes]) -> int:
    """Return the number of equal lines at the start."""
    count = 0
    for first, second in zip(left, right, strict=False):
        if first != second:
            break
        count += 1
    return count


def _apply(text: list[bytes], hunks: list[_Hunk]) -> list[bytes]:
    positions: defaultdict[bytes, list[int]] = defaultdict(list)
    for number, line in enumerate(text):
        positions[line].append(number)
    result: list[bytes] = []
    done, moved = 0, 0
    for hunk in hunks:
        candidates = _candidates(text, hunk, positions, done, hunk.start + moved)
        found = next(
            (start for start in candidates if text[start : start + len(hunk.old)] == hunk.old), None
        )
        if found is None:
            raise MergeConflict(hunk.start + 1)
        result += text[done:found]
        result += hunk.new
        done, moved = found + len(hunk.old), found - hunk.start
    return result + text[done:]


def _candidates(
    text: list[bytes],
    hunk: _Hunk,
    positions: dict[bytes, list[int]],
    first: int,
    expected: int,
) -> Iterator[int]:
    """Yield the positions at which a hunk may be, those near the expected one first."""
    last = len(text) - len(hunk.old)
    allowed = range(max(first, last) if hunk.is_last else first, last + 1)
    if hunk.is_first:
        allowed = range(max(allowed.start, 0), min(allowed.stop, 1))
    possible = positions.get(hunk.old[0], []) if hunk.old else [expected]
    near = sorted(possible, key=lambda position: abs(position - expected))
    return (position for position in near if position in allowed)
