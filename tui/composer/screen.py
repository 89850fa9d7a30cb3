"""The composer: a goal, what goes with it, and the ways to find one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Footer, Static, TextArea

from beray.sanitize import printable
from tui import sanitize
from tui.composer import editor
from tui.composer.attachment_list import Enclosed
from tui.composer.attachments import added
from tui.composer.goal import GoalArea
from tui.composer.history_navigation import Recall
from tui.composer.history_screen import HistoryScreen
from tui.composer.path_screen import PathScreen
from tui.composer.servers_screen import ServersScreen
from tui.state.task_draft import MAX_GOAL_LENGTH, TaskDraft, Tool, is_command, problem
from tui.state.user_state import UserState

_COUNTED_FROM = MAX_GOAL_LENGTH // 2


class ComposerScreen(ModalScreen[TaskDraft | None]):
    """Gives the order, or ``None``; what was written then stays as a draft.

    Args:
        memory: of the history and the drafts.
        account: whose draft is taken up, as ``tui.state.user_state.account_of`` names it.
        initial: what is there at first, instead of the draft.
        refusal: why it was not taken the last time, to be shown beside it.
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
        memory: UserState,
        account: str,
        initial: TaskDraft | None = None,
        *,
        refusal: str = "",
    ) -> None:
        super().__init__()
        self._memory = memory
        self._account = account
        draft = memory.draft(account)
        if initial is not None and draft is not None and draft != initial and draft.goal:
            memory.add_to_history(draft)  # the draft gives way, and can be found again
        self._given = initial
        self._refusal = refusal
        self._initial = initial or draft or TaskDraft()
        self._attachments = self._initial.attachments
        self._tools: Sequence[Tool] = self._initial.tools or ()
        self._recall: Recall | None = None

    @property
    def order(self) -> TaskDraft:
        """What is there now."""
        return TaskDraft(self._area.text, list(self._tools) or None, self._attachments)

    @property
    def _area(self) -> GoalArea:
        return self.query_one(GoalArea)

    # What is on the screen

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "New task"
            dialog.border_subtitle = "enter creates · ctrl+j new line · esc keeps it"
            with Vertical(id="new-goal"):
                yield GoalArea(self._initial.goal)
                yield Static(classes="problem", markup=False)
            yield Enclosed("enclosed")
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
            self._refuse("Control characters in it were replaced or left out.")
        if self._refusal:
            self._refuse(self._refusal)
        self._show_goal()
        self._show_enclosed()

    def _show_goal(self) -> None:
        area, count = self._area, len(self._area.text)
        command = is_command(area.text)
        area.set_class(command, "shell")
        area.border_title = "Shell command" if command else "Goal"
        area.border_subtitle = f"{count:,} of {MAX_GOAL_LENGTH:,}" if count > _COUNTED_FROM else ""

    def _show_enclosed(self) -> None:
        enclosed = self.query_one(Enclosed)
        if enclosed.has_focus and not self._attachments and not self._tools:
            self.set_focus(self._area)
        enclosed.show(self._attachments, self._tools)

    def _refuse(self, words: str) -> None:
        self.query_one(".problem", Static).update(sanitize.line(words))
        self.query_one("#new-goal").add_class("refused")

    def _accept(self) -> None:
        self.query_one("#new-goal").remove_class("refused")

    # What was changed

    @on(TextArea.Changed)
    def _changed(self) -> None:
        self._accept()
        self._show_goal()
        if self._recall is not None:
            if self._area.text == printable(self._recall.current.goal):
                return  # what was typed before is the draft, until this one is made use of
            self._recall = None
        self._keep()

    def _keep(self) -> None:
        """Have the draft be what is there now."""
        order = self.order
        if order.is_empty:
            self._memory.drop_draft(self._account)
        else:
            self._memory.keep_draft(self._account, order)

    def on_goal_area_refused(self, message: GoalArea.Refused) -> None:
        # Behind the change that comes with it, which accepts.
        self.call_after_refresh(self._refuse, message.words)

    def on_goal_area_turned(self, message: GoalArea.Turned) -> None:
        if self._recall is None:
            if not message.older:
                return
            self._recall = Recall(self._memory.history(), self.order)
        found = self._recall.older() if message.older else self._recall.newer()
        if found is not None:
            self._tools = found.tools or ()
            self._area.write(found.goal, at_end=not message.older)
            self._show_enclosed()

    def on_enclosed_removed(self, message: Enclosed.Removed) -> None:
        self._attachments = tuple(path for path in self._attachments if path is not message.item)
        self._tools = [tool for tool in self._tools if tool is not message.item]
        self._enclosed_changed()

    def _enclosed_changed(self) -> None:
        self._accept()
        self._recall = None
        self._show_enclosed()
        self._keep()

    # What can be done

    @on(GoalArea.Entered)
    @on(Button.Pressed, "#create")
    def _create(self) -> None:
        order = replace(self.order, goal=self._area.text.strip())
        refused = problem(order.goal) or self.query_one(Enclosed).problem
        if refused:
            self._refuse(refused)
        else:
            self._memory.keep_draft(self._account, order)
            self.dismiss(order)
            self.set_focus(self._area)

    @on(Button.Pressed, "#later")
    def action_leave(self) -> None:
        if self._recall is None and self.order != self._given:
            self._keep()
        self.dismiss(None)

    def action_clear(self) -> None:
        """The goal first; where there is none, what goes with it."""
        if self._area.text:
            self._area.clear()
        else:
            self._attachments, self._tools = (), ()
            self._enclosed_changed()

    @on(Button.Pressed, "#attach")
    def action_attach(self) -> None:
        def chosen(paths: list[Path] | None) -> None:
            self._attachments, refused = added(self._attachments, paths or ())
            self._enclosed_changed()
            if refused:
                self._refuse(refused)

        last = self._attachments[-1].parent if self._attachments else Path.cwd()
        self.app.push_screen(PathScreen(last), chosen)

    @on(Button.Pressed, "#servers")
    def action_servers(self) -> None:
        def chosen(tools: list[Tool] | None) -> None:
            if tools is not None and tools != list(self._tools):
                self._tools = tools
                self._enclosed_changed()

        self.app.push_screen(ServersScreen(self._tools), chosen)

    def action_history(self) -> None:
        def chosen(order: TaskDraft | None) -> None:
            if order is not None:
                self._tools = order.tools or ()
                self._area.write(order.goal)
                self._enclosed_changed()

        self.app.push_screen(HistoryScreen(self._memory.history()), chosen)

    def action_editor(self) -> None:
        before = self._area.text
        outcome: str | editor.EditorFailed
        try:
            words = editor.command()
            with self.app.suspend():
                # Nothing may be raised in here: the terminal would not be taken back.
                try:
                    outcome = editor.edited(before, words)
                except editor.EditorFailed as failure:
                    outcome = failure
        except editor.EditorFailed as failure:
            outcome = failure
        except SuspendNotSupported:
            outcome = editor.EditorFailed("This terminal cannot be lent to an editor.")
        if isinstance(outcome, str):
            if outcome != before:
                self._area.write(outcome)
        else:
            self._refuse(str(outcome))
        self.set_focus(self._area)
