"""Versions of prefabs, and which of two is the newer.

Source: Semantic Versioning 2.0.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Final, Self

LONGEST: Final = 64
"""Characters of a version, which is the name of a folder as well."""
_NUMBER: Final = r"(0|[1-9][0-9]*)"
_PRE_PART: Final = r"(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
_FORM: Final = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
    rf"(?:-({_PRE_PART}(?:\.{_PRE_PART})*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A version. Two that differ in their build alone are ordered by it, so that one is newest."""

    text: str
    numbers: tuple[int, int, int]
    pre: tuple[str, ...]
    build: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """The version that ``text`` is.

        Raises:
            ValueError: it is none, or a longer one than is taken.
        """
        found = _FORM.fullmatch(text) if len(text) <= LONGEST else None
        if found is None:
            raise ValueError("is no semantic version such as 1.0.0")
        major, minor, patch, pre, build = found.groups()
        numbers = (int(major), int(minor), int(patch))
        return cls(text, numbers, tuple(pre.split(".")) if pre else (), build or "")

    @property
    def is_release(self) -> bool:
        return not self.pre

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Version) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)

    def __lt__(self, other: Self) -> bool:
        return self._precedence() < other._precedence()

    def _precedence(self) -> tuple[object, ...]:
        # Numbers are below words, and what has fewer parts below what goes on.
        pre = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre)
        return self.numbers, self.is_release, pre, self.build


def newest_first(versions: list[Version]) -> list[Version]:
    """In order of precedence; pre-releases are behind all releases."""
    return sorted(versions, key=lambda one: (one.is_release, one), reverse=True)
