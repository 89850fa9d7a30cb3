"""A prefab as its spec says, in types. What is odd in it is left out, for it is from outside.

Source: docs/wire.md, ``GET /v1/prefabs/{id}/{version}/spec``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

DEPLOYED: Final = "deployed"
_MOST_LISTED: Final = 200


@dataclass(frozen=True)
class Summary:
    """A prefab of the list: what is known before its spec is read."""

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
        return self.name or self.id


@dataclass(frozen=True)
class FileKey:
    """A place for files, going in or coming out.

    Attributes:
        types: the endings that a file may have, in small letters with their dot; empty for any.
    """

    key: str
    description: str = ""
    required: bool = False
    many: bool = False
    types: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether a file of this name may go in."""
        return not self.types or name.casefold().endswith(self.types)


@dataclass(frozen=True)
class Secret:
    name: str
    instructions: str = ""


@dataclass(frozen=True)
class Function:
    """A function of a prefab.

    Attributes:
        parameters: the JSON Schema of its parameters, as it came.
        returns: that of what it returns, ``None`` where it says nothing.
        seconds: how long it may take; ``None`` where that is not said.
        memory_bytes: how much memory it may take, likewise.
    """

    name: str
    description: str = ""
    streaming: bool = False
    parameters: Any = None
    returns: Any = None
    inputs: tuple[FileKey, ...] = ()
    outputs: tuple[FileKey, ...] = ()
    secrets: tuple[Secret, ...] = ()
    seconds: float | None = None
    memory_bytes: int | None = None
    network: bool = False
    gateway: bool = False


@dataclass(frozen=True)
class Spec:
    """A version of a prefab; ``versions`` are all that there are, the newest first."""

    id: str
    version: str
    name: str = ""
    description: str = ""
    status: str = DEPLOYED
    versions: tuple[str, ...] = ()
    functions: tuple[Function, ...] = ()

    @property
    def title(self) -> str:
        return self.name or self.id

    def function(self, name: str) -> Function | None:
        return next((one for one in self.functions if one.name == name), None)


def summary(info: object) -> Summary | None:
    """What the list says of one prefab, by the attributes of ``info``, a ``PrefabInfo``."""
    told = {
        name: getattr(info, name, None)
        for name in ("prefab_id", "version", "name", "description", "status", "functions")
    }
    prefab_id = _text(told["prefab_id"])
    if not prefab_id:
        return None
    return Summary(
        prefab_id,
        _text(told["version"]),
        _text(told["name"]),
        _text(told["description"]),
        _text(told["status"]) or DEPLOYED,
        getattr(info, "is_official", None) is True,
        getattr(info, "requires_secrets", None) is True,
        _texts(told["functions"]),
    )


def spec(told: Mapping[str, Any], asked: Summary) -> Spec:
    """A spec as the server told it; what it is of, and was not told, is known from ``asked``."""
    functions = told.get("functions")
    listed = functions if isinstance(functions, list) else []
    return Spec(
        _text(told.get("id")) or asked.id,
        _text(told.get("version")) or asked.version,
        _text(told.get("name")) or asked.name,
        _text(told.get("description")),
        _text(told.get("status")) or DEPLOYED,
        _texts(told.get("versions")),
        tuple(_functions(listed)),
    )


def _functions(listed: Sequence[Any]) -> Iterator[Function]:
    for one in listed[:_MOST_LISTED]:
        if isinstance(one, Mapping) and _text(one.get("name")):
            yield _function(one)


def _function(told: Mapping[str, Any]) -> Function:
    files = told.get("files")
    keys = files if isinstance(files, Mapping) else {}
    memory = _number(told.get("memory_bytes"))
    return Function(
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


def _file_keys(told: object) -> Iterator[FileKey]:
    for key, own in list(told.items())[:_MOST_LISTED] if isinstance(told, Mapping) else ():
        if isinstance(key, str) and isinstance(own, Mapping):
            yield FileKey(
                key,
                _text(own.get("description")),
                own.get("required") is True,
                own.get("many") is True,
                tuple(ending.casefold() for ending in _texts(own.get("types"))),
            )


def _secrets(told: object) -> Iterator[Secret]:
    for one in told[:_MOST_LISTED] if isinstance(told, list) else ():
        if isinstance(one, Mapping) and _text(one.get("name")):
            yield Secret(_text(one.get("name")), _text(one.get("instructions")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(one for one in value[:_MOST_LISTED] if isinstance(one, str) and one)


def _number(value: object) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value < float("inf") else None
