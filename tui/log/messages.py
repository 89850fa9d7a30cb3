"""What the log tells the screen, and what the background tells the log."""

from __future__ import annotations

from collections.abc import Callable

from textual.message import Message


class FileWanted(Message):
    """The reader wants to see this file of the task."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


class Moved(Message):
    """Where the reader is; ``words`` is empty at the end of the log."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words


class ViewMoved(Message):
    """The view was scrolled, or what it shows has changed."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ViewMoved)


class EdgeWanted(Message):
    """The reader wants to go to the beginning of the log, or to its end."""

    def __init__(self, *, end: bool) -> None:
        super().__init__()
        self.end = end


class BlockOpened(Message):
    """A block was clicked, or opened by a key: the one that begins with event ``first``.

    ``path`` is that of the file, where one of several was clicked.
    """

    def __init__(self, first: int, path: str = "") -> None:
        super().__init__()
        self.first = first
        self.path = path


class Answered(Message):
    """What was asked for in the background; ``then`` takes it over."""

    def __init__(self, generation: int, then: Callable[[], None]) -> None:
        super().__init__()
        self.generation = generation
        self.then = then


class Refused(Message):
    """What was asked for in the background cannot be had."""

    def __init__(self, generation: int, error: Exception) -> None:
        super().__init__()
        self.generation = generation
        self.error = error
