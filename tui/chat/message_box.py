"""Where something is said in a chat: the text, and the files that go with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from tui.composer.attachment_list import Enclosed
from tui.composer.attachments import added
from tui.composer.goal import GoalArea
from tui.composer.history_navigation import Recall
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState

_PLACEHOLDER: Final = Content("Say something. What starts with ! is a shell command.")
_KEYS: Final = "enter sends · ctrl+j new line · ctrl+o attaches"
_ANSWERING: Final = "An answer is under way: say it when that has ended. esc and s stop it."
_SENDING: Final = "The last message is still on its way."


class MessageBox(Vertical):
    """Is given a chat; keeps what is being written in each, and gives ``Entered``.

    Args:
        history: what was said in the chat so far, the oldest first.
        memory: of the drafts, which are orders.
        account: whose they are, as ``tui.state.user_state.account_of`` names it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "attach", "Attach"),
        Binding("escape", "leave", "Log"),
    ]

    class Entered(Message):
        """This is to be said in the chat ``task_id``."""

        def __init__(self, task_id: int, draft: TaskDraft) -> None:
            super().__init__()
            self.task_id = task_id
            self.draft = draft

    def __init__(
        self,
        history: Callable[[], Sequence[str]],
        memory: UserState,
        account: str,
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._history = history
        self._memory = memory
        self._account = account
        self._task_id: int | None = None
        self._paths: tuple[Path, ...] = ()
        self._answering = self._sending = False
        self._recall: Recall | None = None

    def compose(self) -> ComposeResult:
        yield Enclosed("message-files")
        yield GoalArea(placeholder=_PLACEHOLDER, id="message-text")
        yield Static(classes="problem", markup=False)

    def on_mount(self) -> None:
        self.border_title, self.border_subtitle = "Message", _KEYS
        self._show_files()

    @property
    def area(self) -> GoalArea:
        return self.query_one(GoalArea)

    @property
    def draft(self) -> TaskDraft:
        """What is there now."""
        return TaskDraft(self.area.text, attachments=self._paths)

    # What it is given

    def show(self, task: Task, *, answering: bool, sending: bool) -> None:
        """Be for the chat ``task``.

        Args:
            answering: an answer is under way.
            sending: what was entered is under way.
        """
        if task["id"] != self._task_id:
            if self._recall is None:
                self._keep()
            self._task_id = task["id"]
            self._write(self._memory.draft(self._place(task["id"])) or TaskDraft())
        if (answering, sending) != (self._answering, self._sending):
            self._answering, self._sending = answering, sending
            title = "Sending …" if sending else "An answer is under way" if answering else "Message"
            self.border_title = title
            self.border_subtitle = "esc and s stop it" if answering else _KEYS
            self.set_class(answering or sending, "waiting")
            self._accept()

    def said(self, task_id: int, draft: TaskDraft) -> None:
        """``draft`` has arrived: it is not written again, unless it is another one by now."""
        self._memory.created(self._place(task_id), draft)
        if task_id == self._task_id and self.draft == draft:
            self._write(TaskDraft())

    def forget(self, task_id: int) -> None:
        """A chat is no more."""
        self._memory.drop_draft(self._place(task_id))

    def refuse(self, words: str) -> None:
        """Say beside the text what is wrong."""
        self.query_one(".problem", Static).update(sanitize.line(words))
        self.add_class("refused")

    def enter(self) -> None:
        """Put the cursor here, at once: the next key that was typed already belongs here."""
        self.screen.set_focus(self.area)

    def _accept(self) -> None:
        self.remove_class("refused")

    def _write(self, draft: TaskDraft) -> None:
        """Have ``draft`` here; what another chat had cannot be brought back by an undo."""
        self._recall = None
        self.area.load_text(draft.goal)
        self.area.move_cursor(self.area.document.end)
        self._paths = draft.attachments
        self._show_files()
        self._accept()

    def _place(self, task_id: int) -> str:
        """Under which name the draft of a chat is remembered."""
        return f"{self._account} #{task_id}"

    def _keep(self) -> None:
        """Have the draft be what is there now."""
        if self._task_id is None:
            return
        place = self._place(self._task_id)
        if self.draft.is_empty:
            self._memory.drop_draft(place)
        elif self.draft != self._memory.draft(place):
            self._memory.keep_draft(place, self.draft)

    # The files

    def _show_files(self) -> None:
        enclosed = self.query_one(Enclosed)
        if enclosed.has_focus and not self._paths:
            self.enter()
        enclosed.show(self._paths)

    def on_enclosed_removed(self, message: Enclosed.Removed) -> None:
        message.stop()
        self._paths = tuple(path for path in self._paths if path is not message.item)
        self._accept()
        self._show_files()
        self._keep()

    def action_attach(self) -> None:
        from tui.composer.path_screen import PathScreen

        task_id = self._task_id

        def chosen(paths: list[Path] | None) -> None:
            if paths is None or task_id != self._task_id:
                return
            self._paths, refused = added(self._paths, paths)
            self._accept()
            self._show_files()
            self._keep()
            if refused:
                self.refuse(refused)

        last = self._paths[-1].parent if self._paths else Path.cwd()
        self.app.push_screen(PathScreen(last), chosen)

    # The text

    @on(TextArea.Changed)
    def _changed(self, event: TextArea.Changed) -> None:
        event.stop()
        self._accept()
        if self._recall is not None:
            if self.area.text == printable(self._recall.current.goal):
                return  # what was typed before is the draft, until this one is made use of
            self._recall = None
        self._keep()

    def on_goal_area_refused(self, message: GoalArea.Refused) -> None:
        message.stop()
        # Behind the change that comes with it, which accepts.
        self.call_after_refresh(self.refuse, message.words)

    def on_goal_area_turned(self, message: GoalArea.Turned) -> None:
        message.stop()
        if self._recall is None:
            if not message.older:
                return
            said = [TaskDraft(printable(text)) for text in self._history()]
            self._recall = Recall(said, TaskDraft(self.area.text))
        found = self._recall.older() if message.older else self._recall.newer()
        if found is not None:
            self.area.write(found.goal, at_end=not message.older)

    def on_goal_area_entered(self, message: GoalArea.Entered) -> None:
        message.stop()
        refused = self._problem()
        if refused:
            self.refuse(refused)
        elif self._task_id is not None:
            self.post_message(self.Entered(self._task_id, self.draft))

    def _problem(self) -> str:
        """Why nothing can be said now; "" where it can."""
        if self._sending:
            return _SENDING
        if self._answering:
            return _ANSWERING
        if not self.area.text.strip():
            return "What is there to say?"
        return self.query_one(Enclosed).problem

    def action_leave(self) -> None:
        self.screen.set_focus(self.screen.query_one("#log", Widget))
