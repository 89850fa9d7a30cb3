"""Pane that shows a run: status, progress, streamed output and output files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList, ProgressBar, Static
from textual.widgets.option_list import Option

from tui import sanitize
from tui.composer.attachment_list import MUTED
from tui.prefabs import report
from tui.prefabs.outcome import RunFile
from tui.prefabs.report_view import ReportView
from tui.prefabs.run import Run, RunState
from tui.widgets.drawing import update_label

RESULT: Final = RunFile("result", "result.json")
"""The function's return value, which can be saved like an output file."""
_IDLE: Final = Content("What the function does is shown here.\n\nctrl+r runs it.")


class OutputList(OptionList):
    """List of a run's output files."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Preview", tooltip="Show the beginning of the file"),
    ]

    def __init__(self) -> None:
        super().__init__(id="run-outputs", markup=False, compact=True)


class RunPane(Vertical):
    """Run with its output files. Posts messages for the actions of the user."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop", tooltip="Stop the run"),
        Binding("d", "save", "Save", tooltip="Save the selected file"),
        Binding("D", "save_all", "Save all", tooltip="Save all files in a folder"),
        Binding("k", "secret", "Secret", tooltip="Enter the missing secret"),
        Binding("t", "traceback", "Traceback", tooltip="Show or hide the traceback"),
    ]

    class StopRequested(Message):
        """The user wants to stop the run."""

    class SecretRequested(Message):
        """The user wants to enter the missing secret."""

    @dataclass(eq=False, repr=False)
    class PreviewRequested(Message):
        """The user wants to preview ``file``."""

        file: RunFile

    @dataclass(eq=False, repr=False)
    class SaveRequested(Message):
        """The user wants to save ``files``, either one or all of them."""

        files: Sequence[RunFile]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run: Run | None = None
        self._shown: tuple[object, ...] = ()
        self._files: list[RunFile] = []
        self._unfolded = False

    def compose(self) -> ComposeResult:
        yield Static(_IDLE, id="run-idle", classes="note", markup=False)
        yield Static(id="run-standing", markup=False)
        yield ProgressBar(total=1.0, show_eta=False, id="run-progress")
        yield Static(id="run-message", markup=False)
        yield ReportView(id="run-report")
        yield OutputList()

    def on_mount(self) -> None:
        self.show(self._run)

    def show(self, run: Run | None) -> None:
        """Show the current state of ``run``."""
        if run is not self._run:
            self._shown, self._unfolded = (), False
        self._run = run
        self.query_one("#run-idle").display = run is None
        for part in ("#run-standing", "#run-report"):
            self.query_one(part).display = run is not None
        if run is None:
            for part in ("#run-progress", "#run-message", "#run-outputs"):
                self.query_one(part).display = False
            return
        standing = report.standing(run)
        update_label(
            self.query_one("#run-standing", Static), Content(standing.words), standing.style
        )
        self._show_progress(run)
        shown = (run.state, run.transcript.changes, self._unfolded)
        if shown != self._shown:
            before, self._shown = self._shown, shown
            page, ending = report.report(run, unfolded=self._unfolded)
            ends = run.is_over and (not before or before[0] is not run.state)
            self.query_one(ReportView).follow(page, ending if ends else None)
            self._show_files(run)
            if not before or before[0] is not run.state:
                self.refresh_bindings()  # rebuilds the footer, so not for every update

    def _show_progress(self, run: Run) -> None:
        progress, sending = run.progress, run.sending
        fraction = progress.fraction if progress is not None else None
        if sending is not None and sending[2]:
            fraction = sending[1] / sending[2]
        bar = self.query_one(ProgressBar)
        bar.display = fraction is not None and not run.is_over
        if fraction is not None:
            bar.update(progress=fraction)
        label = self.query_one("#run-message", Static)
        text = progress.message if progress is not None and not run.is_over else ""
        label.display = bool(text)
        update_label(label, sanitize.line(text, 300))

    def _show_files(self, run: Run) -> None:
        outputs = self.query_one(OutputList)
        files = list(run.outcome.files) if run.is_over else []
        if run.state is RunState.SUCCEEDED and run.outcome.result is not None:
            files.append(RESULT)
        if files != self._files:
            self._files = files
            outputs.set_options(Option(_line(file)) for file in files)
            outputs.highlighted = 0 if files else None
        outputs.display = bool(files)

    # Actions

    @property
    def selected(self) -> RunFile | None:
        """File under the cursor."""
        at = self.query_one(OutputList).highlighted if self._files else None
        return None if at is None else self._files[at]

    def focus_input(self) -> None:
        """Focus the output files if there are any, otherwise the output."""
        target = self.query_one(OutputList) if self._files else self.query_one(ReportView)
        self.screen.set_focus(target)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        run = self._run
        if action == "stop":
            return run is not None and not run.is_over
        if action == "save":
            return self.selected is not None
        if action == "save_all":
            return len(self._files) > 1
        if action == "secret":
            return run is not None and isinstance(getattr(run.error, "secret_name", None), str)
        if action == "traceback":
            problem = run.outcome.problem if run is not None else None
            return problem is not None and bool(problem.traceback)
        return True

    def action_stop(self) -> None:
        self.post_message(self.StopRequested())

    def action_secret(self) -> None:
        self.post_message(self.SecretRequested())

    @on(OptionList.OptionSelected)
    def _look(self) -> None:
        if self.selected is not None:
            self.post_message(self.PreviewRequested(self.selected))

    def action_save(self) -> None:
        if self.selected is not None:
            self.post_message(self.SaveRequested([self.selected]))

    def action_save_all(self) -> None:
        if len(self._files) > 1:
            self.post_message(self.SaveRequested(list(self._files)))

    def action_traceback(self) -> None:
        self._unfolded = not self._unfolded
        self.show(self._run)


def _line(file: RunFile) -> Content:
    if file is RESULT:
        return Content.assemble("result.json", ("  what it returned", MUTED))
    return Content.assemble(sanitize.line(file.name, 120), "  ", sanitize.line(file.key, 60, MUTED))
