"""Messages of the log: to its screen, between its widgets, and from background requests."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message


class FileRequested(Message):
    """Request to show a file of the task."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


class PositionChanged(Message):
    """Change of the reading position. ``text`` describes it; it is empty at the log's end."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


class ViewChanged(Message):
    """Change of the view: it was scrolled or resized."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ViewChanged)


class EdgeRequested(Message):
    """Request to show the start of the log, or its end."""

    def __init__(self, *, end: bool) -> None:
        super().__init__()
        self.end = end


class BlockOpened(Message):
    """Request to open a block, by mouse or key.

    Args:
        first: Number of the first event of the block.
        path: Path of the file, if one of several in the block was clicked.
    """

    def __init__(self, first: int, path: str = "") -> None:
        super().__init__()
        self.first = first
        self.path = path


class FetchCompleted(Message):
    """Success of a background request; ``apply`` processes the result."""

    def __init__(self, generation: int, apply: Callable[[], None]) -> None:
        super().__init__()
        self.generation = generation
        self.apply = apply


class FetchFailed(Message):
    """Failure of a background request."""

    def __init__(self, generation: int, error: Exception) -> None:
        super().__init__()
        self.generation = generation
        self.error = error
