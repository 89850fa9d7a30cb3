"""Input for a message to a chat, with attachments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from beray.sanitize import printable
from beray.schema import Task
from tui import sanitize
from tui.composer.attachment_list import AttachmentList
from tui.composer.draft_editor import DraftEditor
from tui.composer.goal import GoalArea
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState

_PLACEHOLDER: Final = Content("Write a message. Text that starts with ! is a shell command.")
_KEYS: Final = "enter sends · ctrl+j new line · ctrl+o attaches"
_ANSWERING: Final = "The agent is answering. Wait for the end of the answer, or stop it: esc, s."
_SENDING: Final = "The previous message is still being sent. Wait until it has arrived."


class MessageBox(Vertical):
    """Input for messages, which keeps a draft for each chat and posts ``MessageSubmitted``.

    Args:
        history: Returns the user's messages in the chat so far, oldest first.
        user_state: Storage of the drafts.
        account: Account of the drafts, as returned by ``tui.state.user_state.account_of``.
        id: Identifier of the widget.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "attach", "Attach"),
        Binding("escape", "leave", "Log"),
    ]

    @dataclass(eq=False, repr=False)
    class MessageSubmitted(Message):
        """Request to send ``draft`` as a message to the chat ``task_id``."""

        task_id: int
        draft: TaskDraft

    def __init__(
        self,
        history: Callable[[], Sequence[str]],
        user_state: UserState,
        account: str,
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._user_state = user_state
        self._account = account
        self._task_id: int | None = None
        self._answering = self._sending = False
        self.editor = DraftEditor(
            area=lambda: self.area,
            history=lambda: [TaskDraft(printable(text)) for text in history()],
            user_state=user_state,
            key=None,
            initial=TaskDraft(),
        )

    def compose(self) -> ComposeResult:
        yield AttachmentList("message-files")
        yield GoalArea(placeholder=_PLACEHOLDER, id="message-text")
        yield Static(classes="problem", markup=False)

    def on_mount(self) -> None:
        self.border_title, self.border_subtitle = "Message", _KEYS
        self._show_attachments()

    @property
    def area(self) -> GoalArea:
        """Text area of the message."""
        return self.query_one(GoalArea)

    # Display

    def show(self, task: Task, *, answering: bool, sending: bool) -> None:
        """Show the input for a chat.

        Args:
            task: The task of the chat.
            answering: Whether the agent is answering.
            sending: Whether the submitted message is being sent.
        """
        if task["id"] != self._task_id:
            self.editor.save()
            self._task_id, key = task["id"], self._draft_key(task["id"])
            self._load_draft(key, self._user_state.draft(key) or TaskDraft())
        if (answering, sending) != (self._answering, self._sending):
            self._answering, self._sending = answering, sending
            title = "Sending …" if sending else "The agent is answering" if answering else "Message"
            self.border_title = title
            self.border_subtitle = "esc, s stops the answer" if answering else _KEYS
            self.set_class(answering or sending, "waiting")
            self._clear_problem()

    def message_sent(self, task_id: int, draft: TaskDraft) -> None:
        """Remove the draft of a sent message; a draft that was changed meanwhile is kept."""
        key = self._draft_key(task_id)
        self._user_state.created(key, draft)
        if task_id == self._task_id and self.editor.draft == draft:
            self._load_draft(key, TaskDraft())

    def discard_draft(self, task_id: int) -> None:
        """Discard the draft of a deleted chat."""
        self._user_state.drop_draft(self._draft_key(task_id))

    def show_problem(self, text: str) -> None:
        """Show an error message below the text."""
        self.query_one(".problem", Static).update(sanitize.line(text))
        self.add_class("refused")

    def focus_text(self) -> None:
        """Focus the text area immediately, so that keys already typed reach it."""
        self.screen.set_focus(self.area)

    def _clear_problem(self) -> None:
        self.remove_class("refused")

    def _load_draft(self, key: str, draft: TaskDraft) -> None:
        """Replace the content by ``draft``. Undo cannot restore the text of another chat."""
        self.area.load_text(draft.goal)
        self.area.move_cursor(self.area.document.end)
        self.editor.open(key, draft)
        self._attachments_changed()

    def _draft_key(self, task_id: int) -> str:
        """Return the key under which the draft of a chat is stored."""
        return f"{self._account} #{task_id}"

    # Attachments

    def _attachments_changed(self) -> None:
        self._clear_problem()
        self._show_attachments()

    def _show_attachments(self) -> None:
        attachment_list = self.query_one(AttachmentList)
        if attachment_list.has_focus and not self.editor.attachments:
            self.focus_text()
        attachment_list.show(self.editor.attachments)

    def on_attachment_list_removed(self, message: AttachmentList.Removed) -> None:
        message.stop()
        self.editor.remove(message.item)
        self._attachments_changed()

    def action_attach(self) -> None:
        from tui.composer.path_screen import PathScreen

        task_id = self._task_id

        def chosen(paths: list[Path] | None) -> None:
            if paths is None or task_id != self._task_id:
                return
            problem = self.editor.add_attachments(paths)
            self._attachments_changed()
            if problem:
                self.show_problem(problem)

        self.app.push_screen(PathScreen(self.editor.last_directory), chosen)

    # Text

    @on(TextArea.Changed)
    def _changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._clear_problem()
        self.editor.text_changed()

    def on_goal_area_edit_rejected(self, message: GoalArea.EditRejected) -> None:
        message.stop()
        # After the change event of the same edit, which clears the problem.
        self.call_after_refresh(self.show_problem, message.text)

    def on_goal_area_history_requested(self, message: GoalArea.HistoryRequested) -> None:
        message.stop()
        self.editor.recall(older=message.older)

    def on_goal_area_submitted(self, message: GoalArea.Submitted) -> None:
        message.stop()
        problem = self._problem()
        if problem:
            self.show_problem(problem)
        elif self._task_id is not None:
            self.post_message(self.MessageSubmitted(self._task_id, self.editor.draft))

    def _problem(self) -> str:
        """Return the reason why the message cannot be sent now, or ""."""
        if self._sending:
            return _SENDING
        if self._answering:
            return _ANSWERING
        if not self.area.text.strip():
            return "The message is empty."
        return self.query_one(AttachmentList).problem

    def action_leave(self) -> None:
        self.screen.set_focus(self.screen.query_one("#log", Widget))
