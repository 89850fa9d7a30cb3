"""Selection of the checkpoints that a task keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

KEPT_NEWEST: Final = 100
"""Number of the newest checkpoints of a task, all of which are kept."""
KEPT_STEPS: Final = 100
"""Number of older steps that are kept, at equal distances."""


class Numbered(Protocol):
    """Checkpoint with its number and its reason."""

    @property
    def number(self) -> int:
        """Number in the task."""

    @property
    def reason(self) -> str:
        """Occasion."""


class Thinning(NamedTuple):
    """Numbers of checkpoints to keep.

    Attributes:
        newest: Number of the newest checkpoints that are kept.
        steps: Number of older steps that are kept.
    """

    newest: int = KEPT_NEWEST
    steps: int = KEPT_STEPS


def superfluous(checkpoints: Sequence[Numbered], thinning: Thinning) -> list[int]:
    """Return the numbers of the checkpoints to delete.

    The first checkpoint, the newest ones, and those that are not steps of a run are kept.

    Args:
        checkpoints: All checkpoints of a task, in order.
        thinning: Numbers to keep.
    """
    older = checkpoints[1 : max(len(checkpoints) - thinning.newest, 1)]
    steps = [checkpoint.number for checkpoint in older if checkpoint.reason == "step"]
    if len(steps) <= thinning.steps:
        return []
    kept = {steps[index * len(steps) // thinning.steps] for index in range(thinning.steps)}
    return [number for number in steps if number not in kept]
