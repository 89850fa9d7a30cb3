"""Messages that background threads post to the screens of prefabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from tui.prefabs.run import Run


class PrefabsArrived(Message):
    """The list of prefabs was read."""

    def __init__(self, infos: list[Any]) -> None:
        super().__init__()
        self.infos = infos


class PrefabsFailed(Message):
    """The list of prefabs could not be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class SpecArrived(Message):
    """The spec of a prefab was read in the requested version."""

    def __init__(self, prefab_id: str, version: str, data: dict[str, Any]) -> None:
        super().__init__()
        self.prefab_id = prefab_id
        self.version = version
        self.data = data


class SpecFailed(Message):
    """The spec of a prefab could not be read."""

    def __init__(self, prefab_id: str, version: str, error: Exception) -> None:
        super().__init__()
        self.prefab_id = prefab_id
        self.version = version
        self.error = error


class RunUpdated(Message):
    """``run`` has received updates."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class OutputArrived(Message):
    """The beginning of an output file was read; ``complete`` if it is the whole file."""

    def __init__(self, content: bytes, complete: bool) -> None:
        super().__init__()
        self.content = content
        self.complete = complete


class OutputFailed(Message):
    """An output file could not be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class SecretSaved(Message):
    """The server has saved the missing secret."""


class SecretRejected(Message):
    """The server has not saved the secret."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
