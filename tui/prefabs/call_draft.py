"""What a user has filled in: which function, its parameters, its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui.prefabs.spec import FileKey, Function


@dataclass(frozen=True)
class Order:
    """A call that can be made."""

    prefab_id: str
    version: str
    function: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)


@dataclass
class Draft:
    """What stands in the form of a function, valid or not."""

    texts: dict[str, str] = field(default_factory=dict)
    """By the names of the fields."""
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """By the keys of the inputs."""


def file_problems(function: Function, files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """What is wrong with ``files``, by key; their contents are not looked at."""
    problems = {}
    for place in function.inputs:
        problem = _file_problem(place, files.get(place.key, ()))
        if problem:
            problems[place.key] = problem
    return problems


def refused_file(place: FileKey, path: Path, there: Sequence[Path]) -> str:
    """Why ``path`` cannot be added to those that are ``there``; "" where it can."""
    if not place.takes(path.name):
        return f"{path.name}: it has to be {_or(place.types)}."
    if path in there:
        return f"{path.name} is there already."
    if any(path.name == other.name for other in there):
        return f"{path.name}: a file of that name is there already."
    return ""


def _file_problem(place: FileKey, given: Sequence[Path]) -> str:
    if not given:
        return "A file is needed." if place.required else ""
    if len(given) > 1 and not place.many:
        return "One file only."
    wrong = next((path for path in given if not place.takes(path.name)), None)
    return "" if wrong is None else f"{wrong.name}: it has to be {_or(place.types)}."


def _or(types: Sequence[str]) -> str:
    return " or ".join((", ".join(types[:-1]), types[-1])) if len(types) > 1 else types[0]


def places(errors: object) -> list[tuple[str, str, str]]:
    """Where a refusal of the server belongs: (``parameters`` or ``files`` or "", name, words).

    Args:
        errors: ``errors`` of its detail: each has ``loc``, such as ``["calls", 0, "inputs",
            "parameters", "x", "y"]``, and ``msg``.
    """
    found = []
    for one in errors[:50] if isinstance(errors, list) else ():
        message = one.get("msg") if isinstance(one, Mapping) else None
        if not isinstance(message, str):
            continue
        loc = one.get("loc")
        parts = [str(part) for part in loc] if isinstance(loc, (list, tuple)) else []
        if "inputs" in parts:
            parts = parts[parts.index("inputs") + 1 :]
        if parts and parts[0] in ("parameters", "files"):
            inner = ".".join(parts[2:])
            words = f"{inner}: {message}" if inner else message
            found.append((parts[0], parts[1] if len(parts) > 1 else "", words))
        else:
            found.append(("", "", message))
    return found
