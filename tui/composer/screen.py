"""Composer screen: goal, attachments and MCP servers of a new task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Footer, Static, TextArea

from beray.schema import MAX_GOAL_CHARS
from tui import sanitize
from tui.composer import editor
from tui.composer.attachment_list import AttachmentList
from tui.composer.draft_editor import DraftEditor
from tui.composer.goal import GoalArea
from tui.composer.history_screen import HistoryScreen
from tui.composer.mcp_servers_screen import McpServersScreen
from tui.composer.path_screen import PathScreen
from tui.state.task_draft import (
    TaskDraft,
    Tool,
    goal_problem,
    is_shell_command,
)
from tui.state.user_state import UserState

_SHOW_COUNT_FROM = MAX_GOAL_CHARS // 2


class ComposerScreen(ModalScreen[TaskDraft | None]):
    """Dialog that returns a draft to be created, or ``None``; then the draft is kept.

    Args:
        user_state: Storage of the history and the drafts.
        account: Account of the draft, as returned by ``tui.state.user_state.account_of``.
        initial: Initial content, instead of the account's draft.
        problem: Reason why the last attempt to create the task failed; shown below the goal.
    """

    CSS_PATH = "composer.tcss"
    AUTO_FOCUS = "#goal-text"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "attach", "Attach", priority=True),
        Binding("ctrl+t", "servers", "MCP servers", priority=True),
        Binding("ctrl+e", "editor", "Editor", priority=True),
        Binding("ctrl+r", "history", "History", priority=True),
        Binding("ctrl+l", "clear", "Clear", priority=True),
        Binding("escape", "leave", "Later"),
    ]

    def __init__(
        self,
        user_state: UserState,
        account: str,
        initial: TaskDraft | None = None,
        *,
        problem: str = "",
    ) -> None:
        super().__init__()
        self._user_state = user_state
        self._account = account
        draft = user_state.draft(account)
        if initial is not None and draft is not None and draft != initial and draft.goal:
            user_state.add_to_history(draft)  # the replaced draft can be found there
        self._supplied = initial
        self._initial_problem = problem
        self._initial = initial or draft or TaskDraft()
        self._editor = DraftEditor(
            area=lambda: self._area,
            history=user_state.history,
            user_state=user_state,
            key=account,
            initial=self._initial,
        )

    @property
    def draft(self) -> TaskDraft:
        """Current content."""
        return self._editor.draft

    @property
    def _area(self) -> GoalArea:
        return self.query_one(GoalArea)

    # Display

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "New task" if self._initial.origin is None else "Continue a task"
            dialog.border_subtitle = "enter creates · ctrl+j new line · esc saves draft"
            with Vertical(id="new-goal"):
                yield GoalArea(self._initial.goal)
                yield Static(classes="problem", markup=False)
            yield AttachmentList("attachments")
            with Horizontal(classes="buttons"):
                yield Button("Create", variant="primary", id="create")
                yield Button("Attach", id="attach")
                yield Button("MCP servers", id="servers")
                yield Button("Later", id="later")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        area = self._area
        self.call_after_refresh(area.scroll_cursor_visible)
        if area.text != self._initial.goal.replace("\r\n", "\n"):
            self._show_problem("Control characters were replaced or removed.")
        if self._initial_problem:
            self._show_problem(self._initial_problem)
        self._show_goal()
        self._show_attachments()

    def _show_goal(self) -> None:
        area, count = self._area, len(self._area.text)
        command = is_shell_command(area.text)
        area.set_class(command, "shell")
        area.border_title = "Shell command" if command else "Goal"
        area.border_subtitle = (
            f"{count:,} of {MAX_GOAL_CHARS:,}" if count > _SHOW_COUNT_FROM else ""
        )

    def _show_attachments(self) -> None:
        attachment_list, editor = self.query_one(AttachmentList), self._editor
        if attachment_list.has_focus and not (editor.attachments or editor.tools or editor.origin):
            self.set_focus(self._area)
        attachment_list.show(editor.attachments, editor.tools, editor.origin)

    def _show_problem(self, text: str) -> None:
        self.query_one(".problem", Static).update(sanitize.line(text))
        self.query_one("#new-goal").add_class("refused")

    def _clear_problem(self) -> None:
        self.query_one("#new-goal").remove_class("refused")

    # Changes

    @on(TextArea.Changed)
    def _changed(self) -> None:
        self._clear_problem()
        self._show_goal()
        self._editor.text_changed()

    def on_goal_area_edit_rejected(self, message: GoalArea.EditRejected) -> None:
        # After the change event of the same edit, which clears the problem.
        self.call_after_refresh(self._show_problem, message.text)

    def on_goal_area_history_requested(self, message: GoalArea.HistoryRequested) -> None:
        if self._editor.recall(older=message.older):
            self._show_attachments()

    def on_attachment_list_removed(self, message: AttachmentList.Removed) -> None:
        self._editor.remove(message.item)
        self._attachments_changed()

    def _attachments_changed(self) -> None:
        self._clear_problem()
        self._show_attachments()

    # Actions

    @on(GoalArea.Submitted)
    @on(Button.Pressed, "#create")
    def _create(self) -> None:
        draft = replace(self.draft, goal=self._area.text.strip())
        problem = goal_problem(draft.goal) or self.query_one(AttachmentList).problem
        if problem:
            self._show_problem(problem)
        else:
            self._user_state.keep_draft(self._account, draft)
            self.dismiss(draft)
            self.set_focus(self._area)

    @on(Button.Pressed, "#later")
    def action_leave(self) -> None:
        if self.draft != self._supplied:
            self._editor.save()
        self.dismiss(None)

    def action_clear(self) -> None:
        """Clear the goal; if it is empty, remove attachments and MCP servers."""
        if self._area.text:
            self._area.clear()
        else:
            self._editor.remove_all()
            self._attachments_changed()

    @on(Button.Pressed, "#attach")
    def action_attach(self) -> None:
        def chosen(paths: list[Path] | None) -> None:
            if paths is not None:
                problem = self._editor.add_attachments(paths)
                self._attachments_changed()
                if problem:
                    self._show_problem(problem)

        self.app.push_screen(PathScreen(self._editor.last_directory), chosen)

    @on(Button.Pressed, "#servers")
    def action_servers(self) -> None:
        def chosen(tools: list[Tool] | None) -> None:
            if tools is not None and tools != list(self._editor.tools):
                self._editor.set_tools(tools)
                self._attachments_changed()

        self.app.push_screen(McpServersScreen(self._editor.tools), chosen)

    def action_history(self) -> None:
        def chosen(draft: TaskDraft | None) -> None:
            if draft is not None:
                self._editor.replace(draft)
                self._attachments_changed()

        self.app.push_screen(HistoryScreen(self._user_state.history()), chosen)

    def action_editor(self) -> None:
        before = self._area.text
        outcome: str | editor.EditorFailed
        try:
            text = editor.editor_command()
            with self.app.suspend():
                # An exception here would leave the application suspended.
                try:
                    outcome = editor.edit_text(before, text)
                except editor.EditorFailed as failure:
                    outcome = failure
        except editor.EditorFailed as failure:
            outcome = failure
        except SuspendNotSupported:
            outcome = editor.EditorFailed("An editor cannot be started in this terminal.")
        if isinstance(outcome, str):
            if outcome != before:
                self._area.replace_text(outcome)
        else:
            self._show_problem(str(outcome))
        self.set_focus(self._area)
