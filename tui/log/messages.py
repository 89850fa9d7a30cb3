"""Messages of the log: to its screen, between its widgets, and from other threads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from tui.state.checkpoints import LogPosition


@dataclass
class FileRequested(Message):
    """Request to show a file of the task.

    Attributes:
        path: Path of the file.
        written: Number of the event that reports a new version of the file, or ``None``.
    """

    path: str
    written: int | None = None


@dataclass
class EventChanged(Message):
    """Change of the position at which the log is read; ``None`` at its end."""

    position: LogPosition | None

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, EventChanged)


@dataclass
class StepRequested(Message):
    """Request to show the changes of a step.

    Attributes:
        step: Checkpoint after the step, or number of an event in the step; ``None`` for all steps.
    """

    step: LogPosition | None


@dataclass
class PositionChanged(Message):
    """Change of the reading position. ``text`` describes it; it is empty at the log's end."""

    text: str


class ViewChanged(Message):
    """Change of the view: it was scrolled or resized."""

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ViewChanged)


@dataclass
class EdgeRequested(Message):
    """Request to show the start of the log, or its end."""

    end: bool


@dataclass
class BlockOpened(Message):
    """Request to open a block, by mouse or key.

    Attributes:
        first: Number of the first event of the block.
        path: Path of the file, if one of several in the block was clicked.
    """

    first: int
    path: str = ""


@dataclass
class CallbackReady(Message):
    """Request of another thread to call ``callback`` in the event loop."""

    callback: Callable[[], None]
