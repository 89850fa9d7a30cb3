"""Pages of the documentation as sequences of steps.

A step is a fenced block, a hidden command, or a set-up. HTML comments of the form
``<!-- test: … -->`` describe everything that the rendered page does not show; CONTRIBUTING.md
lists them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LANGUAGES: Final = ("python", "sh", "console")
"""Languages of the blocks that are executed without a directive."""
SETUPS: Final = ("model", "mcp", "mail", "server", "port")
"""Set-ups in the order in which those of one directive start."""
_HIDDEN: Final = ("sh", "python")
_OPTIONS: Final = ("skip", "exit", "raises", "stdin", "file", "output", "background", "terminal")
_COMMENT = re.compile(r"^ *<!-- test: (?P<text>.*?) *-->", re.M | re.S)
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[a-z]+)(?: [^\n]*)?\n(?P<code>.*?)^(?P=indent)```$",
    re.M | re.S,
)


class PageError(ValueError):
    """A directive that is unknown, or has no block."""


@dataclass(frozen=True)
class Setup:
    """Set-up by name, with settings."""

    line: int
    name: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Replacement:
    """Replacement of a string in the following blocks."""

    line: int
    old: str
    new: str


@dataclass(frozen=True)
class Block:
    """Block of code.

    Attributes:
        line: Line of its first line of code in the page.
        language: Language of the block, or of the hidden command.
        code: Content without the indentation of the block.
        options: Directives before it, by name.
    """

    line: int
    language: str
    code: str
    options: dict[str, str] = field(default_factory=dict)


Step = Setup | Replacement | Block


def documents() -> list[Path]:
    """Return all documents whose blocks are executed."""
    pages = [path for path in ROOT.glob("docs/**/*.md") if path.parent.name != "decisions"]
    return [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted(pages)]


def steps(text: str) -> list[Step]:
    """Return the steps of a page that have an effect.

    Raises:
        PageError: A directive is unknown, or is not followed by a block.
    """
    found: list[Step] = []
    options: dict[str, str] = {}
    for match in _matches(text):
        if "language" in match.groupdict():
            line = text.count("\n", 0, match.start("code")) + 1
            code = textwrap.dedent(match["code"])
            if match["language"] in LANGUAGES or options:
                found.append(Block(line, match["language"], code, options))
            options = {}
            continue
        line = text.count("\n", 0, match.start("text")) + 1
        word, _, rest = match["text"].partition("\n" if "\n" in match["text"] else " ")
        word, rest = word.strip(), rest.strip("\n")
        if word in _OPTIONS:
            options[word] = rest
        elif options:
            raise PageError(f"line {line}: {sorted(options)} must be directly before a block")
        elif word in _HIDDEN:
            # The code begins in the line after that of the word, or in the same line.
            start = line + ("\n" in match["text"])
            found.append(Block(start, word, textwrap.dedent(rest) + "\n"))
        elif word == "replace":
            old, arrow, new = rest.partition(" => ")
            if not arrow:
                raise PageError(f"line {line}: expected replace OLD => NEW, got {rest!r}")
            found.append(Replacement(line, old, new))
        else:
            found += _setups(line, match["text"])
    if options:
        raise PageError(f"{sorted(options)} at the end of the page is not followed by a block")
    return found


def skipped(text: str) -> list[tuple[int, str]]:
    """Return the lines and reasons of the blocks of a page that are not executed."""
    blocks = [step for step in steps(text) if isinstance(step, Block)]
    return [(block.line, block.options["skip"]) for block in blocks if "skip" in block.options]


def _matches(text: str) -> Iterator[re.Match[str]]:
    """Yield comments and blocks; a comment within a block is part of the block."""
    position = 0
    while True:
        found = [
            match for pattern in (_COMMENT, _BLOCK) if (match := pattern.search(text, position))
        ]
        if not found:
            return
        first = min(found, key=lambda match: match.start())
        yield first
        position = first.end()


def _setups(line: int, text: str) -> list[Setup]:
    """Return the set-ups of ``server NAME=VALUE …`` or ``model, server``."""
    name, _, settings = text.partition(" ")
    if name in SETUPS:
        pairs = [pair.partition("=") for pair in settings.split()]
        return [Setup(line, name, {key: value for key, _, value in pairs})]
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in SETUPS]:
        raise PageError(f"line {line}: unknown directive {unknown[0]!r}")
    return [Setup(line, name, {}) for name in SETUPS if name in names]
