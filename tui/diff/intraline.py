"""Changed words within a changed line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Final

from rich.cells import split_graphemes

from tui.diff.line_text import common_prefix, common_suffix

MAX_COMPARED_CHARS: Final = 2000
"""Length of a line up to which words are compared. Longer lines are compared as a whole."""
_MAX_TOKENS: Final = 150
"""Number of words between the equal parts of two lines up to which the words are compared."""
_MIN_EQUAL: Final = 0.25
"""Share of equal characters below which the whole line counts as changed."""
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")

Span = tuple[int, int]
"""Start and end of a range of characters."""


def changed_spans(old: str, new: str) -> tuple[list[Span], list[Span]]:
    """Return the ranges in which two versions of a line differ.

    The time is bounded by ``MAX_COMPARED_CHARS``: of longer lines, everything between the equal
    characters at the start and at the end counts as changed.

    Returns:
        Ranges of ``old`` and ranges of ``new``; both are empty if the lines have little in common.
    """
    if max(len(old), len(new)) > MAX_COMPARED_CHARS:
        start = common_prefix(old, new)
        end = common_suffix(old, new, min(len(old), len(new)) - start)
        olds, news = _span(start, len(old) - end), _span(start, len(new) - end)
    else:
        olds, news = _compare_words(old, new)
    if _is_mostly_changed(old, olds) or _is_mostly_changed(new, news):
        return [], []
    return _whole_graphemes(old, olds), _whole_graphemes(new, news)


def words(text: str) -> list[str]:
    """Return the words, spaces and other characters of a line in order."""
    return _TOKEN.findall(text)


def _compare_words(old: str, new: str) -> tuple[list[Span], list[Span]]:
    one, other = words(old), words(new)
    most = min(len(one), len(other))
    start = next((i for i in range(most) if one[i] != other[i]), most)
    end = next((i for i in range(most - start) if one[-1 - i] != other[-1 - i]), most - start)
    middles = one[start : len(one) - end], other[start : len(other) - end]
    at = sum(map(len, one[:start]))
    if max(map(len, middles)) > _MAX_TOKENS or not all(middles):
        return tuple(_span(at, at + sum(map(len, middle))) for middle in middles)  # type: ignore[return-value]
    matcher = SequenceMatcher(None, *middles, autojunk=False)
    opcodes = [opcode for opcode in matcher.get_opcodes() if opcode[0] != "equal"]
    return (
        _joined(old, _spans(middles[0], at, [(first, last) for _, first, last, _, _ in opcodes])),
        _joined(new, _spans(middles[1], at, [(first, last) for _, _, _, first, last in opcodes])),
    )


def _span(start: int, end: int) -> list[Span]:
    return [(start, end)] if start < end else []


def _spans(tokens: list[str], at: int, ranges: list[tuple[int, int]]) -> Iterator[Span]:
    index = 0
    for first, last in ranges:
        at += sum(map(len, tokens[index:first]))
        end = at + sum(map(len, tokens[first:last]))
        if end > at:
            yield at, end
        at, index = end, last


def _joined(text: str, spans: Iterator[Span]) -> list[Span]:
    """Join ranges with only spaces between them."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and not text[joined[-1][1] : start].strip():
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def _is_mostly_changed(text: str, spans: list[Span]) -> bool:
    length = len(text.strip())
    changed = sum(len(text[start:end].strip()) for start, end in spans)
    return length > 0 and length - changed < _MIN_EQUAL * length


def _whole_graphemes(text: str, spans: list[Span]) -> list[Span]:
    """Extend ranges to graphemes: a terminal draws characters that combine as one."""
    if text.isascii() or not spans:
        return spans
    graphemes, _ = split_graphemes(text)
    found: list[Span] = []
    index = 0
    for start, end in spans:
        while graphemes[index][1] <= start:
            index += 1
        first = max(graphemes[index][0], found[-1][1] if found else 0)
        while graphemes[index][1] < end:
            index += 1
        if first < graphemes[index][1]:
            found.append((first, graphemes[index][1]))
    return found
