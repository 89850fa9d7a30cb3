"""What background work tells the screens of prefabs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from tui.prefabs.run import Run


class PrefabsArrived(Message):
    def __init__(self, infos: list[Any]) -> None:
        super().__init__()
        self.infos = infos


class PrefabsFailed(Message):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class SpecArrived(Message):
    """The spec of a prefab, in the version that was asked for."""

    def __init__(self, prefab_id: str, version: str, told: dict[str, Any]) -> None:
        super().__init__()
        self.prefab_id = prefab_id
        self.version = version
        self.told = told


class SpecFailed(Message):
    def __init__(self, prefab_id: str, version: str, error: Exception) -> None:
        super().__init__()
        self.prefab_id = prefab_id
        self.version = version
        self.error = error


class RunTold(Message):
    """``run`` has something to take over."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class OutputArrived(Message):
    """The first ``content`` of a file that a run has made; ``complete`` where that is all."""

    def __init__(self, content: bytes, complete: bool) -> None:
        super().__init__()
        self.content = content
        self.complete = complete


class OutputFailed(Message):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class SecretKept(Message):
    """The server has the secret that was missing."""


class SecretRefused(Message):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
