"""Alignment of two sequences: equal elements in the same order, in bounded time and memory.

Small sequences are aligned by their longest common subsequence, which a bit-parallel algorithm
finds: 64 cells of the matrix per operation, and one bit of memory per cell. Longer sequences are
divided at elements that occur once in both (patience diff). A part without such elements is
aligned if its sequences differ in few elements; otherwise it has no alignment. The result is then
not the longest possible, but correct.

Source: Hyyrö, "Bit-parallel LCS-length computation revisited" (2004); Cohen, "Patience Diff
Advantages" (2010).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from rapidfuzz.distance import LCSseq, Levenshtein

_MATRIX_CELLS: Final = 2**28
"""Maximum size of the matrix of a longest common subsequence: 32 MiB, about 0.04 seconds.

The library does not release the global interpreter lock during this time.
"""
_BAND_CELLS: Final = 2**29
"""Maximum number of cells around the diagonal, for long sequences with few differences."""
_TOTAL_CELLS: Final = 2**32
"""Maximum number of cells of one alignment, about a second."""
_MAX_DIVISIONS: Final = 8
"""Maximum number of nested divisions at unique elements."""


class Run(NamedTuple):
    """Equal elements of two sequences: ``old[i + n] == new[j + n]`` for n below ``length``."""

    old: int
    new: int
    length: int


class _Part(NamedTuple):
    """Ranges of both sequences that remain to be aligned."""

    old_start: int
    old_end: int
    new_start: int
    new_end: int
    divisions: int


def matching_runs(old: Sequence[int], new: Sequence[int]) -> list[Run]:
    """Return equal elements of two sequences in ascending order.

    Args:
        old: Hash values that are equal for equal elements only.
        new: The same for the other sequence.
    """
    # Elements that occur in one sequence only do not contribute to a common subsequence.
    common = set(old).intersection(new)
    old_indices = [index for index, element in enumerate(old) if element in common]
    new_indices = [index for index, element in enumerate(new) if element in common]
    runs = _align([old[index] for index in old_indices], [new[index] for index in new_indices])
    pairs = (
        (old_indices[run.old + offset], new_indices[run.new + offset])
        for run in sorted(runs)
        for offset in range(run.length)
    )
    return list(_join(pairs))


def _join(pairs: Iterator[tuple[int, int]]) -> Iterator[Run]:
    """Yield pairs of indices as runs that are as long as possible."""
    start_old = start_new = length = 0
    for old, new in pairs:
        if length and (old, new) == (start_old + length, start_new + length):
            length += 1
            continue
        if length:
            yield Run(start_old, start_new, length)
        start_old, start_new, length = old, new, 1
    if length:
        yield Run(start_old, start_new, length)


def _align(old: Sequence[int], new: Sequence[int]) -> Iterator[Run]:
    """Yield the runs of an alignment in any order."""
    cells_left = _TOTAL_CELLS
    parts = [_Part(0, len(old), 0, len(new), 0)]
    while parts:
        old_start, old_end, new_start, new_end, divisions = parts.pop()
        prefix = _common_prefix(old, new, old_start, old_end, new_start, new_end)
        if prefix:
            yield Run(old_start, new_start, prefix)
            old_start += prefix
            new_start += prefix
        suffix = _common_suffix(old, new, old_start, old_end, new_start, new_end)
        if suffix:
            old_end -= suffix
            new_end -= suffix
            yield Run(old_end, new_end, suffix)
        old_part, new_part = old[old_start:old_end], new[new_start:new_end]
        cells = len(old_part) * len(new_part)
        if not cells or cells_left <= 0:
            continue
        if cells <= _MATRIX_CELLS:
            cells_left -= cells
            found = _longest_common_subsequence(old_part, new_part)
        else:
            anchors = _unique_anchors(old_part, new_part) if divisions < _MAX_DIVISIONS else []
            if anchors:
                part = _Part(old_start, old_end, new_start, new_end, divisions + 1)
                parts.extend(_between(anchors, part))
                found = anchors
            else:
                cells_left -= _BAND_CELLS
                found = _similar(old_part, new_part)
        for run in found:
            yield Run(old_start + run.old, new_start + run.new, run.length)


def _common_prefix(
    old: Sequence[int],
    new: Sequence[int],
    old_start: int,
    old_end: int,
    new_start: int,
    new_end: int,
) -> int:
    longest = min(old_end - old_start, new_end - new_start)
    for length in range(longest):
        if old[old_start + length] != new[new_start + length]:
            return length
    return longest


def _common_suffix(
    old: Sequence[int],
    new: Sequence[int],
    old_start: int,
    old_end: int,
    new_start: int,
    new_end: int,
) -> int:
    longest = min(old_end - old_start, new_end - new_start)
    for length in range(longest):
        if old[old_end - 1 - length] != new[new_end - 1 - length]:
            return length
    return longest


def _longest_common_subsequence(old: Sequence[int], new: Sequence[int]) -> list[Run]:
    blocks = LCSseq.opcodes(old, new).as_matching_blocks()
    return [Run(block.a, block.b, block.size) for block in blocks if block.size]


def _similar(old: Sequence[int], new: Sequence[int]) -> list[Run]:
    """Return an alignment of sequences with few differences, and an empty list for others."""
    limit = _BAND_CELLS // max(len(old), len(new))
    distance = Levenshtein.distance(old, new, score_cutoff=limit)
    if distance > limit:
        return []
    blocks = Levenshtein.opcodes(old, new, score_hint=distance).as_matching_blocks()
    return [Run(block.a, block.b, block.size) for block in blocks if block.size]


def _unique_anchors(old: Sequence[int], new: Sequence[int]) -> list[Run]:
    """Return as many elements as possible that are unique in both sequences, in ascending order."""
    old_counts, new_counts = Counter(old), Counter(new)
    new_indices = {element: index for index, element in enumerate(new) if new_counts[element] == 1}
    pairs = [
        (index, new_indices[element])
        for index, element in enumerate(old)
        if old_counts[element] == 1 and element in new_indices
    ]
    # Longest increasing subsequence of the indices in new: ends[n] is the smallest last index of
    # a subsequence with n + 1 elements, tails[n] its pair.
    ends: list[int] = []
    tails: list[int] = []
    previous: list[int] = []
    for number, (_, index) in enumerate(pairs):
        length = bisect_left(ends, index)
        previous.append(tails[length - 1] if length else -1)
        if length == len(ends):
            ends.append(index)
            tails.append(number)
        else:
            ends[length] = index
            tails[length] = number
    anchors = []
    number = tails[-1] if tails else -1
    while number >= 0:
        old_index, new_index = pairs[number]
        anchors.append(Run(old_index, new_index, 1))
        number = previous[number]
    anchors.reverse()
    return anchors


def _between(anchors: Sequence[Run], part: _Part) -> Iterator[_Part]:
    """Yield the parts between anchors, whose indices are relative to ``part``."""
    old_start, new_start = part.old_start, part.new_start
    for anchor in anchors:
        old_end, new_end = part.old_start + anchor.old, part.new_start + anchor.new
        if old_start < old_end and new_start < new_end:
            yield _Part(old_start, old_end, new_start, new_end, part.divisions)
        old_start, new_start = old_end + anchor.length, new_end + anchor.length
    if old_start < part.old_end and new_start < part.new_end:
        yield _Part(old_start, part.old_end, new_start, part.new_end, part.divisions)
