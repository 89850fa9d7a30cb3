"""Messages about the changes of a task."""

from __future__ import annotations

from dataclasses import dataclass

from textual.message import Message

from beray.history_schema import Diff, RestoreResult
from tui.diff.layout import DiffLayout
from tui.state.checkpoints import CheckpointIndex


@dataclass(eq=False, repr=False)
class ChangesArrived(Message):
    """The changes were read.

    Attributes:
        request: Number of the request.
        checkpoints: All checkpoints of the task.
        diff: The changes; ``None`` if the task has no checkpoints.
    """

    request: int
    checkpoints: CheckpointIndex
    diff: Diff | None


@dataclass(eq=False, repr=False)
class ChangesFailed(Message):
    """The changes could not be read."""

    request: int
    error: Exception


@dataclass(eq=False, repr=False)
class RestoreArrived(Message):
    """The server returned the result of a restore, or of its dry run."""

    request: int
    result: RestoreResult


@dataclass(eq=False, repr=False)
class RestoreFailed(Message):
    """A restore, or its dry run, failed."""

    request: int
    error: Exception


@dataclass(eq=False, repr=False)
class LayoutComputed(Message):
    """The layout of a long file was computed; ``request`` is the number of the request."""

    request: int
    layout: DiffLayout
