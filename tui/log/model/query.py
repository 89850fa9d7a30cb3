"""Queries of searches and filters in the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tui.events import event_text
from tui.events.blocks import Block
from tui.events.text_stream import BlockKind

FIND_PROMPT: Final = "/"
"""Prompt for the text of a search."""
FILTER_PROMPT: Final = "&"
"""Prompt for the terms of a filter."""
_KINDS: Final = (
    "text",
    "user",
    "output",
    "call",
    "result",
    "file",
    "error",
    "status",
    "note",
    "checkpoint",
)
_QUOTED = re.compile(r'(?:[^\s"]|"[^"]*")+')
_DECORATION = re.compile(r"[*`]+|^ {0,3}(?:#{1,6}|>) ", re.MULTILINE)


class QueryError(ValueError):
    """The entered query is invalid; the message is shown to the user."""


@dataclass(frozen=True)
class Query:
    """Conditions on blocks and their text. All conditions must hold.

    Attributes:
        kinds: Names of block kinds, of which a block must have one; empty for any.
        sources: Substrings, of which the source must contain one; empty for any.
        errors: Whether only errors match.
        patterns: Patterns that must all occur in the text; in output, in the same line.
    """

    kinds: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    errors: bool = False
    patterns: tuple[re.Pattern[str], ...] = ()

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """Pattern of the text to highlight, or ``None`` if the query has no patterns."""
        if len(self.patterns) < 2:
            return self.patterns[0] if self.patterns else None
        alternatives = "|".join(f"(?:{pattern.pattern})" for pattern in self.patterns)
        return re.compile(alternatives, re.IGNORECASE | re.MULTILINE)

    def accepts(self, block: Block) -> bool:
        """Return True if the block fulfils all conditions except ``patterns``."""
        if block.kind is BlockKind.GAP or (self.errors and not block.failed):
            return False
        if self.kinds and not self.kinds & _block_kinds(block):
            return False
        return not self.sources or any(source in block.source.casefold() for source in self.sources)

    def matches_text(self, text: str) -> bool:
        """Return True if all patterns occur in ``text``."""
        return all(pattern.search(text) for pattern in self.patterns)

    def matches(self, block: Block) -> bool:
        """Return True if the block matches the query."""
        if not self.accepts(block):
            return False
        if not self.patterns:
            return True
        text = searchable_text(block)
        if block.kind is not BlockKind.OUTPUT or not self.matches_text(text):
            return self.matches_text(text)
        return any(self.matches_text(line) for line in text.split("\n"))


ERRORS: Final = Query(errors=True)
FILES: Final = Query(kinds=frozenset({"file"}))


def _block_kinds(block: Block) -> set[str]:
    kinds = {str(block.kind)}
    if block.has_result:
        kinds.add("result")
    if block.failed:
        kinds.add("error")
    if block.paths:
        kinds.add("file")
    if block.kind in (BlockKind.END, BlockKind.CHECKPOINT):
        kinds.add("note")
    return kinds


def searchable_text(block: Block) -> str:
    """Return the text of a block approximately as displayed."""
    if block.kind is BlockKind.TEXT:
        return " ".join(_DECORATION.sub("", block.text).split())
    if block.foldable:
        result = event_text.describe_result(block.result).text if block.has_result else ""
        return " ".join((block.name, *block.arguments.split(), result))
    if block.paths:
        return "\n".join((block.text, *block.paths))
    return block.text


def _compile(source: str) -> re.Pattern[str]:
    try:
        return re.compile(source, re.IGNORECASE | re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise QueryError(f"Invalid regular expression: {error}") from None


def parse_search(text: str) -> Query:
    """Parse a search: literal text, or a regular expression after ``re:``. Case is ignored.

    Raises:
        QueryError: The regular expression is invalid.
    """
    text = text.strip()
    if text.startswith("re:"):
        source = text[3:].strip()
        return Query(patterns=(_compile(source),)) if source else Query()
    return Query(patterns=(_compile(re.escape(text)),)) if text else Query()


def parse_filter(text: str) -> Query:
    """Parse a filter: terms ``kind:…``, ``source:…``, ``errors``, ``re:…`` and literal words.

    A block must match all terms; several kinds, or several sources, are alternatives.
    Quotes group words into one term.

    Raises:
        QueryError: A kind is unknown or a regular expression is invalid.
    """
    kinds: set[str] = set()
    sources: list[str] = []
    patterns: list[re.Pattern[str]] = []
    errors = False
    for term in _QUOTED.findall(text):
        name, colon, value = term.partition(":")
        value = value.strip('"')
        if term == "errors":
            errors = True
        elif colon and name == "kind":
            if value not in _KINDS:
                raise QueryError(f"Unknown kind {value!r}; use one of {', '.join(_KINDS)}")
            kinds.add(value)
        elif colon and name == "source" and value:
            sources.append(value.casefold())
        elif colon and name == "re" and value:
            patterns.append(_compile(value))
        elif term.strip('"'):
            patterns.append(_compile(re.escape(term.strip('"'))))
    return Query(frozenset(kinds), tuple(sources), errors, tuple(patterns))
