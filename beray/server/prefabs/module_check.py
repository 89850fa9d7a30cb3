"""Whether a prefab's module has the functions that its manifest says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from beray.server.http.validation_errors import InputLocation, InputProblem
from beray.server.prefabs.json_schema import Schema
from beray.server.prefabs.manifest import Function
from beray.server.prefabs.registry import Installed


def problems(prefab: Installed, found: dict[str, Any]) -> list[InputProblem]:
    """What does not fit, all at once.

    Args:
        found: what ``child`` says of the module; not trusted.
    """
    missing = found.get("missing")
    if isinstance(missing, list) and missing:
        names = ", ".join(map(str, missing))
        return [InputProblem(("prefab", "requires"), f"not installed: {names}")]
    functions = found.get("functions")
    told: list[InputProblem] = []
    for name, function in prefab.manifest.functions.items():
        one = functions.get(name) if isinstance(functions, dict) else None
        told += _of_function(("functions", name), function, one, prefab.module_file)
    return told


def _of_function(
    at: InputLocation, function: Function, found: object, module: str
) -> list[InputProblem]:
    if not isinstance(found, dict):
        return [InputProblem(at, f"{module} has no such function")]
    if found.get("is_async"):
        return [InputProblem(at, "is async; a function is plain, or a generator")]
    told: list[InputProblem] = []
    if not found.get("takes_call"):
        told.append(InputProblem(at, "takes no Call as its first argument"))
    if bool(found.get("is_generator")) is not function.streaming:
        known = "is a generator" if found.get("is_generator") else "is no generator"
        told.append(InputProblem((*at, "streaming"), f"does not fit: the function {known}"))
    return told + [
        InputProblem((*at, "parameters", *where), said)
        for where, said in _of_parameters(function.parameters_schema(), found)
    ]


def _of_parameters(schema: Schema, found: dict[str, Any]) -> Iterator[tuple[InputLocation, str]]:
    properties, takes_any = schema["properties"], bool(found.get("takes_any"))
    sure = set(schema.get("required", ()))
    sure |= {name for name, one in properties.items() if _has_default(one)}
    needed, optional = _names(found.get("required")), _names(found.get("optional"))
    for name in sorted(set(properties) - needed - optional):
        if not takes_any or name == found.get("first"):
            yield (name,), "is no parameter of the function"
    for name in sorted(needed - set(properties)):
        yield (name,), "is a parameter of the function, and not described"
    for name in sorted((needed & set(properties)) - sure):
        yield (name,), "must be required, or have a default: the function has none for it"
    for name in sorted(_names(found.get("unnamed"))):
        yield (name,), "cannot be given by name"
    if schema.get("additionalProperties") and not takes_any:
        yield ("additionalProperties",), "the function takes no others (**)"


def _names(found: object) -> set[str]:
    return {name for name in found if isinstance(name, str)} if isinstance(found, list) else set()


def _has_default(schema: object) -> bool:
    return isinstance(schema, dict) and "default" in schema
