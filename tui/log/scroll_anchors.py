"""Positions in a log that remain valid when its blocks and rows change."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tui.events.blocks import BlockKey

_MAX_SAVED: Final = 32
"""Number of tasks whose reading positions are kept."""


class RowAnchor(NamedTuple):
    """Row that can be found again after blocks were added, dropped or laid out again.

    Attributes:
        key: Key of the block.
        row: Index of the row in the block.
        below: Number of rows from this one to the end; used if the block no longer exists.
    """

    key: BlockKey
    row: int
    below: int


class EventAnchor(NamedTuple):
    """Row that is identified by its event, independently of the grouping into blocks.

    Attributes:
        number: Number of the event.
        row: Index of the row among the event's rows. A negative index counts from the end,
            which is present even if the start of the event is not.
    """

    number: int
    row: int = 0


@dataclass(frozen=True)
class ReadingPosition:
    """State in which the user left a log.

    Attributes:
        anchor: Row at the top of the screen; ``None`` if the log followed its end.
        seen: Number of the newest event that was on the screen.
        unfolded: Numbers of the first events of the unfolded blocks.
    """

    anchor: EventAnchor | None = None
    seen: int = 0
    unfolded: frozenset[int] = field(default_factory=frozenset)


class ReadingPositions:
    """Reading positions of the most recently shown tasks, in memory."""

    def __init__(self) -> None:
        self._positions: OrderedDict[int, ReadingPosition] = OrderedDict()

    def save(self, task_id: int, position: ReadingPosition) -> None:
        """Store the reading position of a task; the oldest one may be dropped."""
        self._positions[task_id] = position
        self._positions.move_to_end(task_id)
        while len(self._positions) > _MAX_SAVED:
            self._positions.popitem(last=False)

    def load(self, task_id: int) -> ReadingPosition:
        """Return the reading position of a task; by default the end of its log."""
        return self._positions.get(task_id, ReadingPosition())
