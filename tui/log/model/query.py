"""What a search or a filter asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tui.log.model import event_text
from tui.log.model.blocks import Block
from tui.log.model.text_stream import Kind

_KINDS: Final = ("text", "user", "output", "call", "result", "file", "error", "status", "note")
_QUOTED = re.compile(r'(?:[^\s"]|"[^"]*")+')
_DECORATION = re.compile(r"[*`]+|^ {0,3}(?:#{1,6}|>) ", re.MULTILINE)


class QueryError(ValueError):
    """What was typed is no query; the message says why, for a reader."""


@dataclass(frozen=True)
class Query:
    """Blocks, and words in them.

    Attributes:
        pattern: of what is to be marked; ``None`` where whole blocks are asked for.
        patterns: all of these must be in a line.
    """

    kinds: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    errors: bool = False
    patterns: tuple[re.Pattern[str], ...] = ()

    @property
    def pattern(self) -> re.Pattern[str] | None:
        if len(self.patterns) < 2:
            return self.patterns[0] if self.patterns else None
        both = "|".join(f"(?:{one.pattern})" for one in self.patterns)
        return re.compile(both, re.IGNORECASE | re.MULTILINE)

    def accepts(self, block: Block) -> bool:
        """Whether the block is of the kind that is asked for, whatever its words."""
        if block.kind is Kind.GAP or (self.errors and not block.failed):
            return False
        if self.kinds and not self.kinds & _kinds_of(block):
            return False
        return not self.sources or any(one in block.source.casefold() for one in self.sources)

    def has_words(self, text: str) -> bool:
        return all(pattern.search(text) for pattern in self.patterns)

    def finds(self, block: Block) -> bool:
        """Whether there is a match in the block."""
        if not self.accepts(block):
            return False
        if not self.patterns:
            return True
        text = text_of(block)
        if block.kind is not Kind.OUTPUT or not self.has_words(text):
            return self.has_words(text)
        return any(self.has_words(line) for line in text.split("\n"))


ERRORS: Final = Query(errors=True)
FILES: Final = Query(kinds=frozenset({"file"}))


def _kinds_of(block: Block) -> set[str]:
    kinds = {str(block.kind)}
    if block.answered:
        kinds.add("result")
    if block.failed:
        kinds.add("error")
    if block.paths:
        kinds.add("file")
    if block.kind is Kind.END:
        kinds.add("note")
    return kinds


def text_of(block: Block) -> str:
    """The words of a block as a reader sees them, more or less."""
    if block.kind is Kind.TEXT:
        return " ".join(_DECORATION.sub("", block.text).split())
    if block.foldable:
        said = event_text.result(block.result).text if block.answered else ""
        return " ".join((block.name, *block.arguments.split(), said))
    if block.paths:
        return "\n".join((block.text, *block.paths))
    return block.text


def _regex(source: str) -> re.Pattern[str]:
    try:
        return re.compile(source, re.IGNORECASE | re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise QueryError(f"not a regular expression: {error}") from None


def search(text: str) -> Query:
    """Plain words, or a regular expression behind ``re:``; small letters or capitals.

    Raises:
        QueryError: it is no regular expression.
    """
    text = text.strip()
    if text.startswith("re:"):
        source = text[3:].strip()
        return Query(patterns=(_regex(source),)) if source else Query()
    return Query(patterns=(_regex(re.escape(text)),)) if text else Query()


def filtering(text: str) -> Query:
    """``kind:…``, ``source:…``, ``errors``, ``re:…`` and plain words; all must hold.

    Quotes keep words together. Several kinds, or several sources, are alternatives.

    Raises:
        QueryError: a term is none of these.
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
                raise QueryError(f"kind: is one of {', '.join(_KINDS)}")
            kinds.add(value)
        elif colon and name == "source" and value:
            sources.append(value.casefold())
        elif colon and name == "re" and value:
            patterns.append(_regex(value))
        elif term.strip('"'):
            patterns.append(_regex(re.escape(term.strip('"'))))
    return Query(frozenset(kinds), tuple(sources), errors, tuple(patterns))
