"""Where the reader of each task was."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from tui.log.render.row_layout import Spot

_MOST: Final = 32


@dataclass(frozen=True)
class Reader:
    """How a log was left.

    Attributes:
        spot: the row at the top of the screen; ``None`` for a reader who followed.
        seen: the number of the newest event that had been on the screen.
        unfolded: the first events of the blocks that were unfolded.
    """

    spot: Spot | None = None
    seen: int = 0
    unfolded: frozenset[int] = field(default_factory=frozenset)


class Readers:
    """The last tasks that were looked at."""

    def __init__(self) -> None:
        self._readers: OrderedDict[int, Reader] = OrderedDict()

    def leave(self, task_id: int, reader: Reader) -> None:
        self._readers[task_id] = reader
        self._readers.move_to_end(task_id)
        while len(self._readers) > _MOST:
            self._readers.popitem(last=False)

    def come_back(self, task_id: int) -> Reader:
        return self._readers.get(task_id, Reader())
