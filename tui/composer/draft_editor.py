"""Draft of a goal or a message while it is edited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from beray.sanitize import printable
from tui.composer.attachments import add_attachments
from tui.composer.history_navigation import HistoryNavigator
from tui.state.task_draft import DraftOrigin, TaskDraft, Tool
from tui.state.user_state import UserState


class DraftText(Protocol):
    """Editable text; implemented by ``GoalArea``."""

    @property
    def text(self) -> str: ...

    def replace_text(self, text: str, *, at_end: bool = True) -> None: ...


class DraftEditor:
    """Attachments and MCP servers of a draft; saves the draft and recalls earlier ones.

    A recalled draft replaces the saved one only when it is edited.

    Args:
        area: Returns the text of the draft.
        history: Returns the drafts that can be recalled, oldest first.
        user_state: Storage of the draft.
        key: Key under which the draft is saved, or None to save nothing.
        initial: Initial attachments and MCP servers.

    Attributes:
        attachments: Local files and directories.
        tools: MCP servers.
        origin: Checkpoint that the task continues, or None.
    """

    def __init__(
        self,
        *,
        area: Callable[[], DraftText],
        history: Callable[[], Sequence[TaskDraft]],
        user_state: UserState,
        key: str | None,
        initial: TaskDraft,
    ) -> None:
        self._area = area
        self._history = history
        self._user_state = user_state
        self._navigator: HistoryNavigator | None = None
        self.open(key, initial)

    def open(self, key: str | None, draft: TaskDraft) -> None:
        """Edit another draft, whose text is already in the text area.

        Args:
            key: Key under which it is saved.
            draft: The draft.
        """
        self.key = key
        self._navigator = None
        self.attachments = draft.attachments
        self.tools: Sequence[Tool] = draft.tools or ()
        self.origin = draft.origin

    @property
    def draft(self) -> TaskDraft:
        """Current content."""
        return TaskDraft(
            self._area().text, list(self.tools) or None, self.attachments, origin=self.origin
        )

    @property
    def last_directory(self) -> Path:
        """Directory of the last attachment, in which further ones are probably found."""
        return self.attachments[-1].parent if self.attachments else Path.cwd()

    @property
    def is_recalled(self) -> bool:
        """True if the content is an unchanged entry of the history."""
        return self._navigator is not None

    # Saving

    def save(self) -> None:
        """Save the current content, unless it is an unchanged entry of the history."""
        if self.key is None or self.is_recalled:
            return
        draft = self.draft
        if draft.is_empty:
            self._user_state.drop_draft(self.key)
        elif draft != self._user_state.draft(self.key):
            self._user_state.keep_draft(self.key, draft)

    # Changes

    def text_changed(self) -> None:
        """Save the draft after a change of the text by the user."""
        navigator = self._navigator
        if navigator is None or self._area().text != printable(navigator.current.goal):
            self._changed()

    def add_attachments(self, paths: Sequence[Path]) -> str:
        """Add files and directories; return the reason why one was not added, or ""."""
        self.attachments, problem = add_attachments(self.attachments, paths)
        self._changed()
        return problem

    def set_tools(self, tools: Sequence[Tool]) -> None:
        """Replace the MCP servers."""
        self.tools = tools
        self._changed()

    def remove(self, item: Path | Tool | DraftOrigin) -> None:
        """Remove an attachment, an MCP server or the origin."""
        self.origin = None if item == self.origin else self.origin
        self.attachments = tuple(path for path in self.attachments if path is not item)
        self.tools = [tool for tool in self.tools if tool is not item]
        self._changed()

    def remove_all(self) -> None:
        """Remove all attachments and MCP servers, and the origin."""
        self.attachments, self.tools, self.origin = (), (), None
        self._changed()

    def _changed(self) -> None:
        self._navigator = None
        self.save()

    # History

    def recall(self, *, older: bool) -> bool:
        """Show the next older or newer entry of the history.

        Returns:
            Whether there was one; its MCP servers have then replaced the current ones.
        """
        if self._navigator is None:
            if not older:
                return False
            self._navigator = HistoryNavigator(self._history(), self.draft)
        entry = self._navigator.older() if older else self._navigator.newer()
        if entry is None:
            return False
        self.tools = entry.tools or ()
        self._area().replace_text(entry.goal, at_end=not older)
        return True

    def replace(self, draft: TaskDraft) -> None:
        """Replace text and MCP servers by those of ``draft``."""
        self._area().replace_text(draft.goal)
        self.set_tools(draft.tools or ())
