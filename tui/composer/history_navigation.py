"""Going through the goals that were given before."""

from __future__ import annotations

from collections.abc import Sequence

from tui.state.task_draft import TaskDraft


class Recall:
    """From what was typed to ever older goals that begin with it, and back.

    Args:
        history: the goals, the oldest first.
        typed: what is there before the first step.
    """

    def __init__(self, history: Sequence[TaskDraft], typed: TaskDraft) -> None:
        self._found = [typed]
        seen = {typed.goal}
        for order in reversed(history):
            if order.goal.startswith(typed.goal) and order.goal not in seen:
                seen.add(order.goal)
                self._found.append(order)
        self._at = 0

    @property
    def current(self) -> TaskDraft:
        return self._found[self._at]

    def older(self) -> TaskDraft | None:
        """The next older goal; ``None`` where there is none."""
        return self._step(1)

    def newer(self) -> TaskDraft | None:
        """The next newer one, what was typed in the end; ``None`` behind that."""
        return self._step(-1)

    def _step(self, by: int) -> TaskDraft | None:
        if not 0 <= self._at + by < len(self._found):
            return None
        self._at += by
        return self.current


def matching(history: Sequence[TaskDraft], wanted: str) -> list[TaskDraft]:
    """The goals that hold every word of ``wanted``, each once, the newest first."""
    words = wanted.casefold().split()
    found: dict[str, TaskDraft] = {}
    for order in reversed(history):
        goal = order.goal.casefold()
        if order.goal not in found and all(word in goal for word in words):
            found[order.goal] = order
    return list(found.values())
