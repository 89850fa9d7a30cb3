"""State that the dashboard keeps between starts: history, drafts, seen events and settings.

It is stored in one directory, in files that only the user can read. A background thread writes
it, so no method waits for the disk. A dashboard that is killed loses at most the changes of its
last 0.3 seconds; two dashboards that run at the same time keep each other's changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from beray.config import Target
from tui.state import saved_state
from tui.state.json_store import JsonWriter
from tui.state.task_draft import TaskDraft

STATE_DIRECTORY: Final = "dashboard"
"""Name of the directory below ``beray.config.home()``."""


def account_of(target: Target) -> str:
    """Return the key under which the state of the account at ``target`` is stored."""
    if target.embedded:
        return "embedded"
    return f"{target.url} {target.email or target.profile}"


class UserState:
    """Saved state in the directory ``folder``. Thread-safe; call ``close`` at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = JsonWriter(folder)
        # In the order in which they are needed at start.
        self._settings = self._writer.json_file(saved_state.SETTINGS)
        self._seen = self._writer.json_file(saved_state.SEEN)
        self._drafts = self._writer.json_file(saved_state.DRAFTS)
        self._history = self._writer.json_file(saved_state.HISTORY)
        self._submitted: dict[str, TaskDraft] = {}
        self._writer.start()

    def close(self) -> None:
        """Write the remaining changes, within a tenth of a second. Idempotent."""
        self._writer.close()

    def set_problem_listener(self, listener: Callable[[str], None]) -> None:
        """Have ``listener`` called once for each distinct problem, from any thread."""
        self._writer.set_problem_listener(listener)

    # Goals

    def history(self) -> tuple[TaskDraft, ...]:
        """Return the submitted goals without attachments, oldest first."""
        return self._history.value

    def add_to_history(self, order: TaskDraft) -> None:
        """Append ``order`` to the history."""
        self._history.change(lambda history: saved_state.with_goal(history, order))

    def draft(self, account: str) -> TaskDraft | None:
        """Return the draft of ``account`` that has been neither submitted nor discarded."""
        draft = self._drafts.value.get(account)
        return None if draft == self._submitted.get(account) else draft

    def keep_draft(self, account: str, order: TaskDraft) -> None:
        """Save ``order`` as the draft of ``account``."""
        self._drafts.change(
            lambda drafts: saved_state.with_draft(drafts, account, order), f"draft {account}"
        )

    def drop_draft(self, account: str) -> None:
        """Remove the draft of ``account``, unless another dashboard has saved a different one."""
        known = self.draft(account)
        if known is not None:
            self._drafts.change(partial(saved_state.without_draft, account=account, known=known))

    def submitted(self, account: str, order: TaskDraft) -> None:
        """Add ``order`` to the history and stop offering it as the draft.

        It remains the draft in the file until ``created``, so that a crash does not lose it. A
        different draft that is already stored is kept.
        """
        self.add_to_history(order)
        if self.draft(account) in (None, order):
            self.keep_draft(account, order)
            self._submitted[account] = order

    def created(self, account: str, order: TaskDraft) -> None:
        """Remove the draft of ``order``, which has become a task."""
        if self._submitted.get(account) == order:
            del self._submitted[account]
        self._drafts.change(partial(saved_state.without_draft, account=account, known=order))

    def refused(self, account: str, order: TaskDraft) -> None:
        """Offer ``order``, which could not be created, as the draft unless there is a newer one."""
        if self._submitted.get(account) == order:
            del self._submitted[account]
        if self.draft(account) is None:
            self.keep_draft(account, order)

    # Seen events

    def seen(self, account: str) -> dict[int, int]:
        """Return the last seen ``seq`` of each task of ``account``."""
        return dict(self._seen.value.get(account, {}))

    def mark_seen(self, account: str, task_id: int, seq: int) -> None:
        """Mark the events of ``task_id`` up to ``seq`` as seen."""
        if self._seen.value.get(account, {}).get(task_id, -1) < seq:
            self._seen.change(
                lambda seen: saved_state.with_seen(seen, account, task_id, seq),
                f"seen {task_id} {account}",
            )

    def forget(self, account: str, task_id: int) -> None:
        """Remove the state of ``task_id``, which has been deleted."""
        if task_id in self._seen.value.get(account, {}):
            self._seen.change(lambda seen: saved_state.without_seen(seen, account, task_id))

    # Small settings

    def get(self, name: str, default: str = "") -> str:
        """Return a setting."""
        return self._settings.value.get(name, default)

    def set(self, name: str, value: str) -> None:
        """Change a setting."""
        self._settings.change(lambda settings: {**settings, name: value}, f"set {name}")
