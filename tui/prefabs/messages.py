"""Messages that background threads post to the screens of prefabs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from tui.prefabs.run import Run


@dataclass(eq=False, repr=False)
class PrefabsArrived(Message):
    """The list of prefabs was read."""

    infos: list[Any]


@dataclass(eq=False, repr=False)
class PrefabsFailed(Message):
    """The list of prefabs could not be read."""

    error: Exception


@dataclass(eq=False, repr=False)
class SpecArrived(Message):
    """The spec of a prefab was read in the requested version."""

    prefab_id: str
    version: str
    data: dict[str, Any]


@dataclass(eq=False, repr=False)
class SpecFailed(Message):
    """The spec of a prefab could not be read."""

    prefab_id: str
    version: str
    error: Exception


@dataclass(eq=False, repr=False)
class RunUpdated(Message):
    """``run`` has received updates."""

    run: Run


@dataclass(eq=False, repr=False)
class OutputArrived(Message):
    """The beginning of an output file was read; ``complete`` if it is the whole file."""

    content: bytes
    complete: bool


@dataclass(eq=False, repr=False)
class OutputFailed(Message):
    """An output file could not be read."""

    error: Exception


class SecretSaved(Message):
    """The server has saved the missing secret."""


@dataclass(eq=False, repr=False)
class SecretRejected(Message):
    """The server has not saved the secret."""

    error: Exception
