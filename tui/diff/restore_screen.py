"""Dialog that shows what a restore would change, and restores after a confirmation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from beray.history_schema import RestoredFile, RestoreResult
from tui import sanitize
from tui.controllers.failures import FailureReporter
from tui.diff.file_facts import change_mark, file_count
from tui.diff.messages import RestoreArrived, RestoreFailed
from tui.diff.restore import RestoreController, RestoreTarget
from tui.state.current_server import CurrentServer

_MAX_SHOWN: Final = 8
"""Changes that are listed."""
_MAX_PATH_CHARS: Final = 200
_COLOURS: Final = {
    "change--added": "$text-success",
    "change--modified": "$text-warning",
    "change--deleted": "$text-error",
    "change--renamed": "$text-primary",
}


class RestoreScreen(ModalScreen[RestoreResult | None]):
    """Dialog that returns the result of the restore, or ``None`` if nothing was restored.

    Args:
        task_id: The task.
        targets: States that can be restored; the first one is selected.
        paths: Files and directories to restore; empty for all.
        server: Server of the task.
        failures: Requests a new sign-in if the session has ended.
    """

    AUTO_FOCUS = "#no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "restore", "Yes"),
        Binding("n,escape", "cancel", "No"),
        Binding("o", "switch", "Other state"),
    ]

    def __init__(
        self,
        task_id: int,
        targets: Sequence[RestoreTarget],
        paths: Sequence[str],
        *,
        server: CurrentServer,
        failures: FailureReporter,
    ) -> None:
        super().__init__()
        self.controller = RestoreController(
            task_id,
            targets,
            paths,
            server=server,
            messages=self,
            failures=failures,
            on_change=self._show,
            on_restored=self._restored,
        )

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Restore files?"
            yield Static(classes="subject", markup=False)
            yield Static(id="restore-changes", markup=False)
            yield Static(
                "The present state is kept as a checkpoint, so this can be undone.",
                classes="hint",
                markup=False,
            )
            with Horizontal(classes="buttons"):
                yield Button("Restore", variant="error", id="yes")
                yield Button("Other state", id="other")
                yield Button("Cancel", id="no")

    def on_mount(self) -> None:
        self.controller.preview()

    def _restored(self, result: RestoreResult) -> None:
        self.dismiss(result)

    def _show(self) -> None:
        restore = self.controller
        target, paths = restore.target, restore.paths
        what = paths[0][:_MAX_PATH_CHARS] if paths else "All files"
        subject = f"{what} to {target.checkpoint}, the state {target.description}"
        self.query_one(".subject", Static).update(sanitize.line(subject))
        changes = self.query_one("#restore-changes", Static)
        changes.update(self._changes())
        changes.set_class(bool(restore.failure), "failed")
        self.query_one("#yes", Button).disabled = not restore.can_restore
        other = self.query_one("#other", Button)
        other.display = restore.other is not None
        if restore.other is not None:
            other.label = sanitize.line(f"To {restore.other.checkpoint}", 30)
        keys = ["y yes", "n no", *(["o other state"] if restore.other is not None else [])]
        self.query_one(".dialog").border_subtitle = " · ".join(keys)
        self.refresh_bindings()

    def _changes(self) -> Content:
        restore = self.controller
        if restore.failure:
            return sanitize.block(restore.failure, 1000)
        if restore.is_restoring:
            return Content("Restoring …")
        if restore.result is None:
            return Content("Reading what would change …")
        files = restore.result["files"]
        if not files:
            return Content("Nothing would change: the files are in this state already.")
        lines = [_line(file) for file in files[:_MAX_SHOWN]]
        if len(files) > _MAX_SHOWN:
            lines.append(Content.styled(f"… and {file_count(len(files) - _MAX_SHOWN)} more", "dim"))
        return Content("\n").join(lines)

    # Results

    def on_restore_arrived(self, message: RestoreArrived) -> None:
        message.stop()
        self.controller.arrived(message)

    def on_restore_failed(self, message: RestoreFailed) -> None:
        message.stop()
        self.controller.failed(message)

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "switch":
            return self.controller.other is not None
        if action == "restore":
            return True if self.controller.can_restore else None
        return True

    @on(Button.Pressed, "#yes")
    def action_restore(self) -> None:
        self.controller.restore()

    @on(Button.Pressed, "#other")
    def action_switch(self) -> None:
        self.controller.switch()

    @on(Button.Pressed, "#no")
    def action_cancel(self) -> None:
        if not self.controller.is_restoring:
            self.dismiss(None)


def _line(file: RestoredFile) -> Content:
    mark = change_mark(file["change"])
    return Content.assemble(
        (f"{mark.letter} ", _COLOURS[mark.style]), sanitize.line(file["path"], _MAX_PATH_CHARS)
    )
