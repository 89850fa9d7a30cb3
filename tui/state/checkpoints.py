"""Checkpoints of one task, and the positions in its log that they belong to."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from beray.history_schema import Checkpoint

LogPosition = int | str
"""Number of an event, or name of a checkpoint."""


class CheckpointIndex:
    """Checkpoints of a task in order.

    Args:
        checkpoints: As listed by the server.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint] = ()) -> None:
        self.checkpoints = checkpoints
        self._seqs = [checkpoint["seq"] for checkpoint in checkpoints]
        self._steps = [
            place for place, one in enumerate(checkpoints) if place and _has_changes(one)
        ]
        self._places = {one["checkpoint"]: place for place, one in enumerate(checkpoints)}

    @property
    def newest(self) -> Checkpoint | None:
        """Newest checkpoint."""
        return self.checkpoints[-1] if self.checkpoints else None

    def get(self, name: str) -> Checkpoint | None:
        """Return a checkpoint by its name, or ``None`` if it does not exist."""
        place = self._places.get(name)
        return None if place is None else self.checkpoints[place]

    def at(self, position: LogPosition) -> Checkpoint | None:
        """Return the state of the files at a position: the latest checkpoint until then.

        Before the first checkpoint, it is the first one. It is ``None`` for a name that does not
        exist.
        """
        if isinstance(position, str):
            return self.get(position)
        place = bisect_right(self._seqs, position) - 1
        return self.checkpoints[max(0, place)] if self.checkpoints else None

    def after(self, position: LogPosition) -> Checkpoint | None:
        """Return the first checkpoint at or after a position, or ``None``."""
        if isinstance(position, str):
            return self.get(position)
        place = bisect_left(self._seqs, position)
        return self.checkpoints[place] if place < len(self.checkpoints) else None

    def step_of(self, position: LogPosition) -> Checkpoint | None:
        """Return the checkpoint after the step at a position.

        For an event, it is the next one with changes; after the last one of them, that one. If
        nothing changed at all, it is the newest checkpoint. It is ``None`` for a name that
        does not exist.
        """
        if isinstance(position, str):
            return self.get(position)
        for place in self._steps:
            if self._seqs[place] >= position:
                return self.checkpoints[place]
        return self.checkpoints[self._steps[-1]] if self._steps else self.newest

    def step_beside(self, name: str, by: int) -> Checkpoint | None:
        """Return the checkpoint after the next step with changes, or for -1 the previous one.

        Args:
            name: Checkpoint after the current step; "" for the state before all steps, or for -1
                after all of them.
            by: 1 or -1.
        """
        place = self._places.get(name, -1 if by > 0 else len(self.checkpoints))
        beside = bisect_right(self._steps, place) if by > 0 else bisect_left(self._steps, place) - 1
        return self.checkpoints[self._steps[beside]] if 0 <= beside < len(self._steps) else None

    def before(self, name: str) -> Checkpoint | None:
        """Return the checkpoint before another one, or ``None``."""
        place = self._places.get(name, 0)
        return self.checkpoints[place - 1] if place else None


def _has_changes(checkpoint: Checkpoint) -> bool:
    """Return True unless a checkpoint is known to equal the one before."""
    counts = [checkpoint.get(change) for change in ("added", "modified", "deleted")]
    return None in counts or any(counts)
