"""Input of a prefab call: form content, validated call, and validation of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui.prefabs.spec import FileInput, PrefabFunction


@dataclass(frozen=True)
class CallDraft:
    """Validated call of a prefab function."""

    prefab_id: str
    version: str
    function: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)


@dataclass
class FormDraft:
    """Content of a function's form, valid or not.

    Attributes:
        texts: Texts by field name.
        files: Paths by input key.
    """

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)


def file_problems(function: PrefabFunction, files: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """Return the problems with ``files`` by input key. File contents are not read."""
    problems = {}
    for place in function.inputs:
        problem = _file_problem(place, files.get(place.key, ()))
        if problem:
            problems[place.key] = problem
    return problems


def refused_file(place: FileInput, path: Path, there: Sequence[Path]) -> str:
    """Return why ``path`` cannot be added to the files ``there``, or ""."""
    if not place.takes(path.name):
        return f"{path.name}: the file type must be {_or(place.types)}."
    if path in there:
        return f"{path.name} has already been added."
    if any(path.name == other.name for other in there):
        return f"{path.name}: a file of the same name has already been added."
    return ""


def _file_problem(place: FileInput, given: Sequence[Path]) -> str:
    if not given:
        return "Add a file." if place.required else ""
    if len(given) > 1 and not place.many:
        return f"Only one file is allowed, got {len(given)}."
    wrong = next((path for path in given if not place.takes(path.name)), None)
    return "" if wrong is None else f"{wrong.name}: the file type must be {_or(place.types)}."


def _or(types: Sequence[str]) -> str:
    return " or ".join((", ".join(types[:-1]), types[-1])) if len(types) > 1 else types[0]


def problem_locations(errors: object) -> list[tuple[str, str, str]]:
    """Return the problems of a server's error response as (kind, name, message).

    ``kind`` is ``parameters``, ``files`` or "" for a problem of the call as a whole.

    Args:
        errors: Field ``errors`` of the response: objects with ``msg`` and ``loc``, such as
            ``["calls", 0, "inputs", "parameters", "x", "y"]``.
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
