"""Random trees and random changes of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.apply.trees import Tree

NAMES = (
    "a", "b", "c", "dir", "caf\u2426E9", "with space", "x\ny", "\u65e5\u672c", ".hidden", "A",
)  # fmt: skip
LINES = (b"one\n", b"two\n", b"three\n", b"\n", b"tail", b"\xff\r\n")
FILE_MODES = (0o644, 0o755, 0o600, 0o444)
DIRECTORY_MODES = (0o755, 0o700, 0o775)

Entry = Any
"""``(bytes, mode)`` for a file, ``(dict, mode)`` for a directory, ``Path`` for a link."""


def random_pair(chance: random.Random) -> tuple[Tree, Tree]:
    """Return a tree, and the same after random changes."""
    old = _random_entries(chance, 0)
    return dict(_flat(old)), dict(_flat(_changed_entries(chance, old, 0)))


def joined(trees: Iterable[Tree]) -> Tree:
    """Return the trees as subdirectories of one."""
    whole: Tree = {}
    for number, tree in enumerate(trees):
        whole |= {f"tree{number}": (None, 0o755)}
        whole |= {f"tree{number}/{path}": value for path, value in tree.items()}
    return whole


def _random_entries(chance: random.Random, depth: int) -> dict[str, Entry]:
    names = chance.sample(NAMES, chance.randint(0, 4))
    return {name: _random_entry(chance, depth) for name in names}


def _random_entry(chance: random.Random, depth: int) -> Entry:
    kind = chance.random()
    if kind < 0.35 and depth < 3:
        return _random_entries(chance, depth + 1), chance.choice(DIRECTORY_MODES)
    if kind < 0.45:
        target = "../" * chance.randint(0, depth) + chance.choice(("a", "b/c", "nowhere"))
        return Path(target)
    return _random_content(chance), chance.choice(FILE_MODES)


def _random_content(chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return chance.randbytes(chance.randint(0, 400))
    return b"".join(chance.choices(LINES, k=chance.randint(0, 60)))


def _changed_entries(
    chance: random.Random, entries: dict[str, Entry], depth: int
) -> dict[str, Entry]:
    changed: dict[str, Entry] = {}
    for name, entry in entries.items():
        fate = chance.random()
        if fate < 0.2:
            continue
        new_name = chance.choice(NAMES) if fate < 0.35 else name
        changed[new_name] = _changed_entry(chance, entry, depth)
    if chance.random() < 0.4:
        changed[chance.choice(NAMES)] = _random_entry(chance, depth)
    return changed


def _changed_entry(chance: random.Random, entry: Entry, depth: int) -> Entry:
    fate = chance.random()
    if fate < 0.1:
        return _random_entry(chance, depth)
    if isinstance(entry, Path):
        return entry
    content, mode = entry
    if isinstance(content, dict):
        if fate < 0.2:
            mode = chance.choice(DIRECTORY_MODES)
        return _changed_entries(chance, content, depth + 1), mode
    if fate < 0.2:
        return content, chance.choice(FILE_MODES)
    if fate < 0.5:
        cut = chance.randint(0, len(content))
        return content[:cut] + chance.choice(LINES) + content[cut:], mode
    return entry


def _flat(entries: dict[str, Entry], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, entry in entries.items():
        path = f"{prefix}{name}"
        if isinstance(entry, Path) or not isinstance(entry[0], dict):
            yield path, entry
        else:
            yield path, (None, entry[1])
            yield from _flat(entry[0], f"{path}/")
