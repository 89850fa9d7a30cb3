"""Navigation in the history of goals."""

from __future__ import annotations

from collections.abc import Sequence

from tui.state.task_draft import TaskDraft


class HistoryNavigator:
    """Cursor over the goals in the history that start with the entered text.

    Args:
        history: The goals, oldest first.
        typed: The current draft, which is the newest entry.
    """

    def __init__(self, history: Sequence[TaskDraft], typed: TaskDraft) -> None:
        self._entries = [typed]
        seen = {typed.goal}
        for draft in reversed(history):
            if draft.goal.startswith(typed.goal) and draft.goal not in seen:
                seen.add(draft.goal)
                self._entries.append(draft)
        self._index = 0

    @property
    def current(self) -> TaskDraft:
        """Entry under the cursor."""
        return self._entries[self._index]

    def older(self) -> TaskDraft | None:
        """Move to the next older entry and return it, or ``None`` if there is none."""
        return self._step(1)

    def newer(self) -> TaskDraft | None:
        """Move to the next newer entry and return it, or ``None`` after the draft."""
        return self._step(-1)

    def _step(self, offset: int) -> TaskDraft | None:
        if not 0 <= self._index + offset < len(self._entries):
            return None
        self._index += offset
        return self.current


def find_in_history(history: Sequence[TaskDraft], text: str) -> list[TaskDraft]:
    """Return the goals that contain every word of ``text``, without duplicates, newest first."""
    words = text.casefold().split()
    found: dict[str, TaskDraft] = {}
    for draft in reversed(history):
        goal = draft.goal.casefold()
        if draft.goal not in found and all(word in goal for word in words):
            found[draft.goal] = draft
    return list(found.values())
