"""Alignment of deleted and added lines that replace each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tui.diff.intraline import MAX_COMPARED_CHARS, words

_MAX_COMPARISONS: Final = 2_500
"""Comparisons of lines in one change; the lines of larger changes are paired in order."""
_BUDGET: Final = 20_000
"""Comparisons of lines in one file."""
_MIN_SIMILARITY: Final = 0.5
"""Share of equal words from which two lines are versions of each other."""

IndexPair = tuple[int | None, int | None]


@dataclass
class AlignmentBudget:
    """Remaining number of comparisons of lines for a file."""

    comparisons: int = _BUDGET

    def spend(self, comparisons: int) -> bool:
        """Return True if so many comparisons are possible, and subtract them."""
        if comparisons > min(self.comparisons, _MAX_COMPARISONS):
            return False
        self.comparisons -= comparisons
        return True


def aligned(
    deleted: Sequence[str], added: Sequence[str], budget: AlignmentBudget
) -> list[IndexPair]:
    """Return the rows that show deleted lines next to added ones.

    Each line is on exactly one row, and both sides keep their order. Similar lines are on the
    same row; between them, the lines are paired in order.

    Args:
        deleted: Lines on the left.
        added: Lines on the right.
        budget: Limits the time for finding similar lines.

    Returns:
        Pairs of indices; ``None`` if a side is empty.
    """
    anchors: list[tuple[int, int]] = []
    # One deleted and one added line are on the same row anyway.
    is_ambiguous = deleted and added and len(deleted) + len(added) > 2
    if is_ambiguous and budget.spend(len(deleted) * len(added)):
        anchors = _similar_lines(deleted, added)
    rows: list[IndexPair] = []
    left = right = 0
    for anchor in (*anchors, (len(deleted), len(added))):
        rows += _paired_in_order(left, anchor[0], right, anchor[1])
        if anchor != (len(deleted), len(added)):
            rows.append(anchor)
        left, right = anchor[0] + 1, anchor[1] + 1
    return rows


def _paired_in_order(left: int, left_end: int, right: int, right_end: int) -> list[IndexPair]:
    count = max(left_end - left, right_end - right)
    return [
        (
            left + index if left + index < left_end else None,
            right + index if right + index < right_end else None,
        )
        for index in range(count)
    ]


def _similar_lines(deleted: Sequence[str], added: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of similar lines, in order, with the greatest total similarity."""
    lefts, rights = [_word_set(line) for line in deleted], [_word_set(line) for line in added]
    # best[i][j]: greatest total similarity of the lines from i and from j on
    best = [[0.0] * (len(rights) + 1) for _ in range(len(lefts) + 1)]
    scores = [[_similarity(left, right) for right in rights] for left in lefts]
    for i in range(len(lefts) - 1, -1, -1):
        row, below, score = best[i], best[i + 1], scores[i]
        for j in range(len(rights) - 1, -1, -1):
            paired = below[j + 1] + score[j] if score[j] >= _MIN_SIMILARITY else 0.0
            row[j] = max(paired, below[j], row[j + 1])
    pairs = []
    i = j = 0
    while i < len(lefts) and j < len(rights):
        score_here = scores[i][j]
        if score_here >= _MIN_SIMILARITY and best[i][j] == best[i + 1][j + 1] + score_here:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _word_set(line: str) -> frozenset[str]:
    return frozenset(word for word in words(line[:MAX_COMPARED_CHARS]) if not word.isspace())


def _similarity(one: frozenset[str], other: frozenset[str]) -> float:
    total = len(one) + len(other)
    return 2 * len(one & other) / total if total else 0.0
