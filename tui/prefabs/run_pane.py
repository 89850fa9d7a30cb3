"""A run, watched: how it stands, how far it is, what it says, and what it has made."""

from __future__ import annotations

from collections.abc import Sequence
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
from tui.prefabs.outcome import OutputFile
from tui.prefabs.report_view import ReportView
from tui.prefabs.run import Run, State
from tui.widgets.words import tell

RESULT: Final = OutputFile("result", "result.json")
"""What the function returned, to be saved as the files are."""
_IDLE: Final = Content("What the function does is shown here.\n\nctrl+r runs it.")


class OutputList(OptionList):
    """The files that a run has made; enter looks at one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Look", tooltip="At the beginning of the file"),
    ]

    def __init__(self) -> None:
        super().__init__(id="run-outputs", markup=False, compact=True)


class RunPane(Vertical):
    """Is given a run; says what is wanted of it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop", tooltip="Leave the run, which stops it"),
        Binding("d", "save", "Save", tooltip="Save the selected file"),
        Binding("D", "save_all", "Save all", tooltip="Save all files in a folder"),
        Binding("k", "secret", "Secret", tooltip="Give the secret that is missing"),
        Binding("t", "traceback", "Traceback", tooltip="Show it, or fold it"),
    ]

    class Stop(Message):
        """The run is not wanted any more."""

    class Secret(Message):
        """The secret that is missing is to be given."""

    class Look(Message):
        def __init__(self, file: OutputFile) -> None:
            super().__init__()
            self.file = file

    class Save(Message):
        """These are to be saved; all that there are where it is no single one."""

        def __init__(self, files: Sequence[OutputFile]) -> None:
            super().__init__()
            self.files = files

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._run: Run | None = None
        self._shown: tuple[object, ...] = ()
        self._files: list[OutputFile] = []
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
        """Show how ``run`` is now."""
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
        tell(self.query_one("#run-standing", Static), Content(standing.words), standing.style)
        self._show_progress(run)
        shown = (run.state, run.transcript.changes, self._unfolded)
        if shown != self._shown:
            before, self._shown = self._shown, shown
            page, ending = report.report(run, unfolded=self._unfolded)
            ends = run.is_over and (not before or before[0] is not run.state)
            self.query_one(ReportView).follow(page, ending if ends else None)
            self._show_files(run)
            if not before or before[0] is not run.state:
                self.refresh_bindings()  # not with every word: the footer is made anew

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
        words = progress.message if progress is not None and not run.is_over else ""
        label.display = bool(words)
        tell(label, sanitize.line(words, 300))

    def _show_files(self, run: Run) -> None:
        outputs = self.query_one(OutputList)
        files = list(run.outcome.files) if run.is_over else []
        if run.state is State.SUCCEEDED and run.outcome.result is not None:
            files.append(RESULT)
        if files != self._files:
            self._files = files
            outputs.set_options(Option(_line(file)) for file in files)
            outputs.highlighted = 0 if files else None
        outputs.display = bool(files)

    # What can be done

    @property
    def selected(self) -> OutputFile | None:
        """The file under the cursor."""
        at = self.query_one(OutputList).highlighted if self._files else None
        return None if at is None else self._files[at]

    @property
    def is_unfolded(self) -> bool:
        return self._unfolded

    def enter(self) -> None:
        """Put the cursor here: at the files where there are any, else at what is said."""
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
        self.post_message(self.Stop())

    def action_secret(self) -> None:
        self.post_message(self.Secret())

    @on(OptionList.OptionSelected)
    def _look(self) -> None:
        if self.selected is not None:
            self.post_message(self.Look(self.selected))

    def action_save(self) -> None:
        if self.selected is not None:
            self.post_message(self.Save([self.selected]))

    def action_save_all(self) -> None:
        if len(self._files) > 1:
            self.post_message(self.Save(list(self._files)))

    def action_traceback(self) -> None:
        self._unfolded = not self._unfolded
        self.show(self._run)


def _line(file: OutputFile) -> Content:
    if file is RESULT:
        return Content.assemble("result.json", ("  what it returned", MUTED))
    return Content.assemble(sanitize.line(file.name, 120), "  ", sanitize.line(file.key, 60, MUTED))
