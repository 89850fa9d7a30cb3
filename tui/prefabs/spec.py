"""Typed description of a prefab, parsed from its spec. Invalid parts are omitted.

Source: docs/reference/wire.md, ``GET /v1/prefabs/{id}/{version}/spec``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DEPLOYED: Final = "deployed"
_MAX_LISTED: Final = 200


@dataclass(frozen=True)
class PrefabSummary:
    """Entry of the prefab list."""

    id: str
    version: str
    name: str = ""
    description: str = ""
    status: str = DEPLOYED
    is_official: bool = False
    requires_secrets: bool = False
    functions: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name, or the id if there is no name."""
        return self.name or self.id


@dataclass(frozen=True)
class FileInput:
    """Named set of input or output files.

    Attributes:
        key: Name of the input or output.
        description: Text for the user.
        required: Whether at least one file is needed.
        many: Whether several files are allowed.
        types: Allowed file extensions in lower case with their dot; empty for any.
    """

    key: str
    description: str = ""
    required: bool = False
    many: bool = False
    types: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Return True if the type of a file of this name is allowed."""
        return not self.types or name.casefold().endswith(self.types)


@dataclass(frozen=True)
class RequiredSecret:
    """Secret that a function requires."""

    name: str
    instructions: str = ""


@dataclass(frozen=True)
class PrefabFunction:
    """Function of a prefab.

    Attributes:
        parameters: JSON Schema of the parameters, unchecked.
        returns: JSON Schema of the return value, or None.
        seconds: Time limit, or None if unknown.
        memory_bytes: Memory limit, or None if unknown.
    """

    name: str
    description: str = ""
    streaming: bool = False
    parameters: Any = None
    returns: Any = None
    inputs: tuple[FileInput, ...] = ()
    outputs: tuple[FileInput, ...] = ()
    secrets: tuple[RequiredSecret, ...] = ()
    seconds: float | None = None
    memory_bytes: int | None = None
    network: bool = False
    gateway: bool = False


@dataclass(frozen=True)
class PrefabSpec:
    """Version of a prefab; ``versions`` lists all versions, newest first."""

    id: str
    version: str
    name: str = ""
    description: str = ""
    status: str = DEPLOYED
    versions: tuple[str, ...] = ()
    functions: tuple[PrefabFunction, ...] = ()

    @property
    def title(self) -> str:
        """Name, or the id if there is no name."""
        return self.name or self.id

    def function(self, name: str) -> PrefabFunction | None:
        """Return a function, or None if there is none of that name."""
        return next((one for one in self.functions if one.name == name), None)


def summary(info: object) -> PrefabSummary | None:
    """Return the list entry for ``info``, a ``PrefabInfo``; None if it has no id."""
    told = {
        name: getattr(info, name, None)
        for name in ("prefab_id", "version", "name", "description", "status", "functions")
    }
    prefab_id = _text(told["prefab_id"])
    if not prefab_id:
        return None
    return PrefabSummary(
        prefab_id,
        _text(told["version"]),
        _text(told["name"]),
        _text(told["description"]),
        _text(told["status"]) or DEPLOYED,
        getattr(info, "is_official", None) is True,
        getattr(info, "requires_secrets", None) is True,
        _texts(told["functions"]),
    )


def spec(told: Mapping[str, Any], asked: PrefabSummary) -> PrefabSpec:
    """Parse a spec; missing id, version and name are taken from the list entry ``asked``."""
    functions = told.get("functions")
    listed = functions if isinstance(functions, list) else []
    return PrefabSpec(
        _text(told.get("id")) or asked.id,
        _text(told.get("version")) or asked.version,
        _text(told.get("name")) or asked.name,
        _text(told.get("description")),
        _text(told.get("status")) or DEPLOYED,
        _texts(told.get("versions")),
        tuple(_functions(listed)),
    )


def _functions(listed: Sequence[Any]) -> Iterator[PrefabFunction]:
    for one in listed[:_MAX_LISTED]:
        if isinstance(one, Mapping) and _text(one.get("name")):
            yield _function(one)


def _function(told: Mapping[str, Any]) -> PrefabFunction:
    files = told.get("files")
    keys = files if isinstance(files, Mapping) else {}
    memory = _number(told.get("memory_bytes"))
    return PrefabFunction(
        _text(told.get("name")),
        _text(told.get("description")),
        told.get("streaming") is True,
        told.get("parameters"),
        told.get("returns"),
        tuple(_file_keys(keys.get("inputs"))),
        tuple(_file_keys(keys.get("outputs"))),
        tuple(_secrets(told.get("secrets"))),
        _number(told.get("seconds")),
        None if memory is None else int(memory),
        told.get("network") is True,
        told.get("gateway") is True,
    )


def _file_keys(told: object) -> Iterator[FileInput]:
    for key, own in list(told.items())[:_MAX_LISTED] if isinstance(told, Mapping) else ():
        if isinstance(key, str) and isinstance(own, Mapping):
            yield FileInput(
                key,
                _text(own.get("description")),
                own.get("required") is True,
                own.get("many") is True,
                tuple(ending.casefold() for ending in _texts(own.get("types"))),
            )


def _secrets(told: object) -> Iterator[RequiredSecret]:
    for one in told[:_MAX_LISTED] if isinstance(told, list) else ():
        if isinstance(one, Mapping) and _text(one.get("name")):
            yield RequiredSecret(_text(one.get("name")), _text(one.get("instructions")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(one for one in value[:_MAX_LISTED] if isinstance(one, str) and one)


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value < float("inf") else None
