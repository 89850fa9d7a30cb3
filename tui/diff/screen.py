"""Screen for the changes of a task between two of its checkpoints."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import ContentSwitcher, Static

from beray.history_schema import FileDiff, RestoreResult
from beray.sanitize import one_line
from tui import messages, sanitize
from tui.controllers.failures import FailureReporter
from tui.diff import file_facts
from tui.diff.changes import ChangesController, ChangeScope
from tui.diff.file_list import ChangedFileList
from tui.diff.messages import ChangesArrived, ChangesFailed
from tui.diff.restore import RestoreTarget, restored_text
from tui.diff.restore_screen import RestoreScreen
from tui.diff.view import DiffView
from tui.io.background import MessageTarget
from tui.state.current_server import CurrentServer
from tui.widgets.key_footer import KeyFooter

SIDE_BY_SIDE_COLUMNS: Final = 140
"""Width of the terminal from which old and new lines are next to each other."""


class DiffScreen(Screen[None]):
    """Changed files of a task, and the changed lines of the selected file.

    Args:
        task_id: The task.
        title: Goal of the task, which may be untrusted.
        scope: Changes to show first.
        server: Server of the task.
        target: Receives ``FilesRestored``.
    """

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right_square_bracket,n", "next_change(1)", "Next", tooltip="Next change"),
        Binding("left_square_bracket,N", "next_change(-1)", "Previous change", show=False),
        Binding("right_curly_bracket", "next_file(1)", "File", tooltip="Next file"),
        Binding("left_curly_bracket", "next_file(-1)", "Previous file", show=False),
        Binding("escape,v", "dismiss", "Back", tooltip="Go back"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys and symbols"),
        Binding("r", "restore_file", "Restore", tooltip="Restore the selected file"),
        Binding("R", "restore_all", "All", tooltip="Restore all files"),
        Binding("u", "toggle_side_by_side", "Unified", tooltip="Side by side or unified"),
        Binding("l", "toggle_files", "List", show=False, tooltip="Show or hide the list of files"),
        Binding("greater_than_sign", "step(1)", "Step", tooltip="Changes of the next step"),
        Binding("less_than_sign", "step(-1)", "Previous step", show=False),
        Binding("V", "all_steps", "All changes of the task", show=False),
        Binding("f5", "read", "Read the changes again", show=False),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(
        self,
        task_id: int,
        title: str,
        scope: ChangeScope,
        *,
        server: CurrentServer,
        target: MessageTarget,
    ) -> None:
        super().__init__()
        self._task_title = title
        self._server = server
        self._target = target
        self._side_by_side: bool | None = None
        """The user's choice; ``None`` to decide by the width."""
        self._shown: FileDiff | None = None
        self.failures = FailureReporter(
            target=self, notify=self.show_notification, has_successor=False
        )
        self.controller = ChangesController(
            task_id,
            scope,
            server=server,
            target=self,
            failures=self.failures,
            on_change=self._show,
        )

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, which may be untrusted, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    # Composition

    def compose(self) -> ComposeResult:
        with Horizontal(id="diff-head"):
            yield Static(id="diff-task", markup=False)
            yield Static(id="diff-range", markup=False)
        with ContentSwitcher(initial="diff-note", id="diff-body"):
            yield Static("Reading the changes …", id="diff-note", classes="note", markup=False)
            with Container(id="diff-panes"):
                with Vertical(id="diff-files-pane", classes="pane"):
                    yield ChangedFileList(id="diff-files")
                with Vertical(id="diff-file-pane", classes="pane"):
                    yield Static(id="diff-facts", markup=False)
                    with ContentSwitcher(initial="diff-lines", id="diff-content"):
                        yield DiffView(id="diff-lines")
                        yield Static(id="diff-file-note", classes="note", markup=False)
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        title = f"#{self.controller.task_id}  {self._task_title}"
        self.query_one("#diff-task", Static).update(sanitize.line(title))
        self.controller.read()

    @property
    def files(self) -> ChangedFileList:
        """The list of files."""
        return self.query_one(ChangedFileList)

    @property
    def lines(self) -> DiffView:
        """The lines of the selected file."""
        return self.query_one(DiffView)

    @property
    def selected(self) -> FileDiff | None:
        """The selected file."""
        files = self.controller.files
        at = self.files.cursor
        return files[at] if at < len(files) else None

    # Display

    def _show(self) -> None:
        changes, diff = self.controller, self.controller.diff
        note = self.query_one("#diff-note", Static)
        body = self.query_one("#diff-body", ContentSwitcher)
        self.query_one("#diff-range", Static).update(self._range())
        self.refresh_bindings()
        if changes.is_reading and diff is not None:
            return  # the changes before are shown until then
        note.set_class(bool(changes.failure), "failed")
        if changes.failure:
            text = sanitize.block(changes.failure, 1000)
            note.update(text.append(Content.styled("\n\nPress f5 to retry.", "dim")))
        elif diff is not None and not diff["files"]:
            note.update(self._nothing())
        elif diff is None:
            note.update("Reading the changes …")
        else:
            self._show_files()
            return
        self._shown = None
        body.current = "diff-note"

    def _range(self) -> Content:
        changes = self.controller
        if changes.diff is None:
            return Content("")
        what = "all changes" if changes.scope.step is None else "one step"
        return Content(f"{what} · {file_facts.summary(changes.diff)}")

    def _nothing(self) -> Content:
        diff = self.controller.diff
        assert diff is not None
        start, end = diff["from"]["checkpoint"], diff["to"]["checkpoint"]
        if start == end:
            return sanitize.line(f"{start} is the first state of the files; nothing changed yet.")
        return sanitize.line(f"No files changed between {start} and {end}.")

    def _show_files(self) -> None:
        files, body = self.controller.files, self.query_one("#diff-body", ContentSwitcher)
        diff = self.controller.diff
        if body.current != "diff-panes":
            body.current = "diff-panes"
            self.set_focus(self.lines)
        path = self._shown["path"] if self._shown is not None else None
        is_truncated = diff is not None and diff.get("truncated", False)
        end = "… more files changed; they are not listed" if is_truncated else ""
        self.files.show(files, file_facts.index_of(files, path), end)
        count = file_facts.file_count(len(files), more=is_truncated)
        self.query_one("#diff-files-pane").border_title = f"Changes · {count}"
        self._show_file()

    def _show_file(self, change: int = 0) -> None:
        file = self.selected
        if file is None or file is self._shown:
            return
        self._shown = file
        pane, content = self.query_one("#diff-file-pane"), self.query_one("#diff-content")
        assert isinstance(content, ContentSwitcher)
        pane.border_title = sanitize.line(file_facts.title(file), 2000)
        facts = self.query_one("#diff-facts", Static)
        facts.update(sanitize.line(" · ".join(file_facts.facts(file))))
        hunks = file_facts.shown_hunks(file)
        if hunks:
            content.current = "diff-lines"
            if self.focused is None:  # the lines of the file before were not shown
                self.set_focus(self.lines)
        else:
            content.current = "diff-file-note"
            reason = file_facts.reason_without_lines(file)
            self.query_one("#diff-file-note", Static).update(sanitize.block(reason))
        self.lines.show(hunks, side_by_side=self._is_side_by_side, change=change)
        self._show_position()

    def on_diff_view_changed(self, message: DiffView.Changed) -> None:
        message.stop()
        self._show_position()

    def _show_position(self) -> None:
        number, total = self.lines.change
        text = f"change {number} of {total}" if number else ""
        if self._shown is not None and file_facts.shown_hunks(self._shown):
            text = text if self.lines.is_ready else "preparing the lines …"
        self.query_one("#diff-file-pane").border_subtitle = text
        files = self.controller.files
        place = f"{self.files.cursor + 1} of {len(files)}" if files else ""
        self.query_one("#diff-files-pane").border_subtitle = place

    @property
    def _is_side_by_side(self) -> bool:
        if self._shown is not None and self._shown["change"] in ("added", "deleted"):
            return False  # one side would be empty
        if self._side_by_side is not None:
            return self._side_by_side
        return self.size.width >= SIDE_BY_SIDE_COLUMNS

    def on_resize(self, event: Resize) -> None:
        self.lines.set_side_by_side(self._is_side_by_side)

    # Results

    def on_changes_arrived(self, message: ChangesArrived) -> None:
        message.stop()
        self.controller.arrived(message)

    def on_changes_failed(self, message: ChangesFailed) -> None:
        message.stop()
        self.controller.failed(message)

    def on_client_replaced(self) -> None:
        if self.controller.failure:
            self.controller.read()

    # The list of files

    def on_changed_file_list_highlighted(self, message: ChangedFileList.Highlighted) -> None:
        message.stop()
        self._show_file()

    def on_changed_file_list_opened(self, message: ChangedFileList.Opened) -> None:
        message.stop()
        if self.lines.is_attached and self.query_one("#diff-content", ContentSwitcher).current == (
            "diff-lines"
        ):
            self.set_focus(self.lines)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if not self.is_mounted:
            return True
        has_files = bool(self.controller.files)
        if action in ("next_change", "next_file", "restore_file", "toggle_side_by_side"):
            return True if has_files else None
        if action == "restore_all":
            return True if self.controller.diff is not None else None
        return True

    def action_next_change(self, step: int) -> None:
        """Go to the next change, also in the next file; or for -1 to the previous one."""
        if not self.lines.next_change(step):
            self._move_file(step, "change", -1 if step < 0 else 0)

    def action_next_file(self, step: int) -> None:
        """Show the next file, or for -1 the previous one."""
        self._move_file(step, "file", 0)

    def _move_file(self, step: int, noun: str, change: int) -> None:
        at = self.files.cursor + step
        if not 0 <= at < len(self.controller.files):
            self.show_notification(f"This is the {'last' if step > 0 else 'first'} {noun}.")
            return
        with self.files.prevent(ChangedFileList.Highlighted):
            self.files.move_to(at)
        self._show_file(change)

    def action_toggle_side_by_side(self) -> None:
        before = self._side_by_side
        is_wide = self.size.width >= SIDE_BY_SIDE_COLUMNS
        self._side_by_side = not (is_wide if before is None else before)
        self.lines.set_side_by_side(self._is_side_by_side)

    def action_toggle_files(self) -> None:
        pane = self.query_one("#diff-files-pane")
        pane.toggle_class("hidden")
        if pane.has_class("hidden") and self.files.has_focus:
            self.set_focus(self.lines)

    def action_step(self, by: int) -> None:
        """Show the changes of the next step, or for -1 of the previous one."""
        if not self.controller.is_reading and not self.controller.step(by):
            self.show_notification(f"There is no {'later' if by > 0 else 'earlier'} step.")

    def action_all_steps(self) -> None:
        self.controller.show(ChangeScope())

    def action_read(self) -> None:
        self.controller.read()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))

    # Restoring

    def action_restore_file(self) -> None:
        file = self.selected
        if file is not None:
            old_path = file.get("old_path")
            self._restore([file["path"], *([old_path] if old_path else [])])

    def action_restore_all(self) -> None:
        self._restore([])

    def _restore(self, paths: list[str]) -> None:
        targets = [RestoreTarget(*target) for target in self.controller.restorable]
        if not targets:
            return

        def closed(result: RestoreResult | None) -> None:
            if result is not None:
                self.show_notification(restored_text(result))
                self._target.post_message(messages.FilesRestored(self.controller.task_id))
                self.controller.read()

        screen = RestoreScreen(
            self.controller.task_id,
            targets,
            paths,
            server=self._server,
            failures=self.failures,
        )
        self.app.push_screen(screen, closed)
