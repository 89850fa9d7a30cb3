"""What the dashboard remembers between starts.

Everything is in one folder, in files that only the user can read, and is written by a
thread: nothing here waits for a disk. A dashboard that is killed loses what was changed
in its last 0.3 seconds at most; two at once keep what the other has added.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from beray.config import Target
from tui.state import saved_state
from tui.state.json_store import Keeper
from tui.state.task_draft import TaskDraft

FOLDER: Final = "dashboard"
"""The folder below ``beray.config.home()``."""


def account_of(target: Target) -> str:
    """By which name the account at ``target`` is remembered."""
    if target.embedded:
        return "embedded"
    return f"{target.url} {target.email or target.profile}"


class Memory:
    """What is remembered in ``folder``. From any thread; close it at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._keeper = Keeper(folder)
        # In the order in which a start needs them.
        self._settings = self._keeper.shelf(saved_state.SETTINGS)
        self._seen = self._keeper.shelf(saved_state.SEEN)
        self._drafts = self._keeper.shelf(saved_state.DRAFTS)
        self._history = self._keeper.shelf(saved_state.HISTORY)
        self._submitted: dict[str, TaskDraft] = {}
        self._keeper.start()

    def close(self) -> None:
        """Write what is not written yet; returns within a tenth of a second. Idempotent."""
        self._keeper.close()

    def tell(self, listener: Callable[[str], None]) -> None:
        """Have ``listener`` called with what goes wrong, each thing once, in any thread."""
        self._keeper.tell(listener)

    # Goals

    def history(self) -> tuple[TaskDraft, ...]:
        """The goals that were given, without attachments, the oldest first."""
        return self._history.value

    def add_to_history(self, order: TaskDraft) -> None:
        """Remember ``order`` as the newest of the history."""
        self._history.change(lambda history: saved_state.with_goal(history, order))

    def draft(self, account: str) -> TaskDraft | None:
        """What was begun for ``account`` and neither created nor taken back."""
        draft = self._drafts.value.get(account)
        return None if draft == self._submitted.get(account) else draft

    def keep_draft(self, account: str, order: TaskDraft) -> None:
        self._drafts.change(
            lambda drafts: saved_state.with_draft(drafts, account, order), f"draft {account}"
        )

    def drop_draft(self, account: str) -> None:
        """Forget the draft of ``account``, unless another dashboard has made another one."""
        known = self.draft(account)
        if known is not None:
            self._drafts.change(partial(saved_state.without_draft, account=account, known=known))

    def submitted(self, account: str, order: TaskDraft) -> None:
        """``order`` is on its way: it is in the history, and offered no more.

        Until ``created`` it is the draft in the file, so a crash does not lose it; another
        draft that is there stays.
        """
        self.add_to_history(order)
        if self.draft(account) in (None, order):
            self.keep_draft(account, order)
            self._submitted[account] = order

    def created(self, account: str, order: TaskDraft) -> None:
        """``order`` has become a task: it is no draft any more."""
        if self._submitted.get(account) == order:
            del self._submitted[account]
        self._drafts.change(partial(saved_state.without_draft, account=account, known=order))

    def refused(self, account: str, order: TaskDraft) -> None:
        """``order`` has not become a task: it is offered again, unless there is a newer draft."""
        if self._submitted.get(account) == order:
            del self._submitted[account]
        if self.draft(account) is None:
            self.keep_draft(account, order)

    # What was read

    def seen(self, account: str) -> dict[int, int]:
        """Of each task of ``account``, the seq that was read to."""
        return dict(self._seen.value.get(account, {}))

    def see(self, account: str, task_id: int, seq: int) -> None:
        """``task_id`` was read to ``seq``; to an earlier one changes nothing."""
        if self._seen.value.get(account, {}).get(task_id, -1) < seq:
            self._seen.change(
                lambda seen: saved_state.with_seen(seen, account, task_id, seq),
                f"seen {task_id} {account}",
            )

    def forget(self, account: str, task_id: int) -> None:
        """``task_id`` is no more."""
        if task_id in self._seen.value.get(account, {}):
            self._seen.change(lambda seen: saved_state.without_seen(seen, account, task_id))

    # Small settings

    def get(self, name: str, default: str = "") -> str:
        return self._settings.value.get(name, default)

    def set(self, name: str, value: str) -> None:
        self._settings.change(lambda settings: {**settings, name: value}, f"set {name}")
