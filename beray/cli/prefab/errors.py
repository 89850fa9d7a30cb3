"""What a gateway refuses of a call, in the words of who typed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from beray.gateway import RejectedInput


def told(error: RejectedInput, places: Sequence[tuple[str, str]]) -> list[str]:
    """Each problem by the option that it is about; none where the gateway names no problems.

    Args:
        places: the keys and places of the files, as they were given.
    """
    problems = error.details.get("errors")
    found = []
    for one in problems if isinstance(problems, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("msg"), str):
            place = _option(one.get("loc"), places)
            found.append(f"{place}: {one['msg']}" if place else one["msg"])
    return found


def _option(loc: Any, places: Sequence[tuple[str, str]]) -> str:
    parts = [str(part) for part in loc if part != "body"] if isinstance(loc, list) else []
    inner = parts[parts.index("inputs") + 1 :] if "inputs" in parts else []
    match inner:
        case ["parameters", name, *rest]:
            return ": ".join(filter(None, [f"--param {name}", ".".join(rest)]))
        case ["parameters"]:
            return "--param"
        case ["files", key, *rest]:
            return f"--file {key}{_named(key, rest, places)}"
        case ["files"]:
            return "--file"
    return ".".join(parts)


def _named(key: str, rest: Sequence[str], places: Sequence[tuple[str, str]]) -> str:
    """Which file it is, where the gateway says its number."""
    given = [place for other, place in places if other == key]
    if rest and rest[0].isdecimal() and int(rest[0]) < len(given):
        return f" ({PurePath(given[int(rest[0])]).name})"
    return ""
