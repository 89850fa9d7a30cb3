"""Screen for calling a prefab function: its form and its run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from beray.exceptions import AuthenticationError
from beray.sanitize import one_line
from tui import messages, sanitize
from tui.composer.attachment_list import MUTED
from tui.io import background
from tui.prefabs import report, save_outputs
from tui.prefabs.call_draft import problem_locations
from tui.prefabs.form.form import FunctionForm
from tui.prefabs.messages import SecretRejected, SecretSaved
from tui.prefabs.outcome import RunFile
from tui.prefabs.preview_screen import PreviewScreen
from tui.prefabs.run import Run, RunState
from tui.prefabs.run_pane import RunPane
from tui.prefabs.run_registry import CallState, RunRegistry
from tui.prefabs.secret_screen import SecretScreen
from tui.prefabs.spec import PrefabFunction, PrefabSpec
from tui.sanitize import local_name
from tui.screens.save import SaveScreen
from tui.widgets.key_footer import KeyFooter

_TICK_SECONDS: Final = 1.0


class CallScreen(Screen[None]):
    """Form and run of a function. Both are kept in the registry while the screen is closed.

    Args:
        desk: Forms and runs of the account.
        spec: Prefab version to call.
        function: Function of ``spec`` to call.
    """

    CSS_PATH = "call.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "run", "Run", priority=True, tooltip="Run with the values of the form"),
        Binding("f2", "turn", "Form/run", priority=True, tooltip="Switch between form and run"),
        Binding("escape", "leave", "Back", tooltip="Go back; the run continues"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys and symbols"),
    ]

    def __init__(self, registry: RunRegistry, spec: PrefabSpec, function: PrefabFunction) -> None:
        super().__init__()
        self._registry = registry
        self.spec = spec
        self.function = function
        self.call: CallState = registry.call(spec.id, function.name)
        """Values of the form and the run of the function."""
        self._refused: Run | None = None
        """Run whose rejection is already shown in the form."""

    def compose(self) -> ComposeResult:
        spec, function = self.spec, self.function
        with Horizontal(classes="head"):
            yield Static(" Prefab ", classes="brand", markup=False)
            title = Content("  ").join(
                [
                    sanitize.line(spec.title, 60).stylize("bold"),
                    sanitize.line(spec.version, 30),
                    sanitize.line(function.name, 60, "$text-primary"),
                ]
            )
            yield Static(title, classes="where", markup=False)
        with Container(id="call"):
            form = FunctionForm(spec, function, self.call.draft, id="form")
            form.border_title = "Form"
            yield form
            pane = RunPane(id="run-pane")
            pane.border_title = "Run"
            yield pane
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.call.changed = self._show_run
        self.set_interval(_TICK_SECONDS, self._show_run)
        run = self.call.run
        if run is not None and run.state is RunState.REFUSED:
            self._refused = run  # it was shown before the form was left
        self._show_run()
        self._turn_to_run(run is not None and not run.is_over)

    def on_unmount(self) -> None:
        self.call.changed = lambda: None

    @property
    def form(self) -> FunctionForm:
        return self.query_one(FunctionForm)

    @property
    def pane(self) -> RunPane:
        return self.query_one(RunPane)

    # Switching sides

    def _turn_to_run(self, to_run: bool) -> None:
        """Focus the form or the run; a narrow terminal shows only the focused side."""
        self.set_class(to_run, "-run")
        (self.pane if to_run else self.form).focus_input()

    def action_turn(self) -> None:
        self._turn_to_run(not self.pane.has_focus_within)

    def action_leave(self) -> None:
        self.call.draft = self.form.draft
        self.dismiss()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))

    # The run

    def shows(self, run: Run) -> bool:
        """Return True if ``run`` is shown here."""
        return self.call.run is run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "run":
            return True if self.call.run is None or self.call.run.is_over else None
        return True

    def on_function_form_run_requested(self) -> None:
        self.action_run()

    def action_run(self) -> None:
        """Run the function with the values of the form, unless a run is active."""
        run = self.call.run
        if run is not None and not run.is_over:
            return
        self.call.draft = self.form.draft
        order = self.form.order()
        if order is None:
            self._turn_to_run(False)
            return
        self._registry.begin(self.call, order)
        self._show_run()
        self._turn_to_run(True)

    def on_run_pane_stop_requested(self) -> None:
        if self.call.run is not None:
            self.call.run.stop()
            self._show_run()

    def _show_run(self) -> None:
        run = self.call.run
        if not self.is_mounted or not self.query(RunPane):
            return
        had_files = self.pane.selected is not None
        self.pane.show(run)
        if run is None:
            return
        if run.state is RunState.REFUSED and run is not self._refused:
            self._refused = run
            self._say_refused(run)
        elif self.pane.selected is not None and not had_files and self.pane.has_focus_within:
            self.pane.focus_input()

    def _say_refused(self, run: Run) -> None:
        error = run.error
        details = getattr(error, "details", None)
        wrong = problem_locations(details.get("errors")) if isinstance(details, dict) else []
        if wrong:
            self.form.show_problem(wrong)
            self._turn_to_run(False)
        elif isinstance(error, AuthenticationError):
            self.session_ended(error)

    def session_ended(self, error: Exception) -> None:
        """Have the app ask the user to sign in if the server requires it."""
        if not self._registry.target.embedded:
            self.app.post_message(messages.SessionEnded(one_line(report.error_text(error))))

    def on_run_pane_secret_requested(self) -> None:
        self._ask_for_secret()

    def _ask_for_secret(self, refusal: str = "") -> None:
        error = self.call.run.error if self.call.run is not None else None
        prefab_id, name = self.spec.id, getattr(error, "secret_name", None)
        if not isinstance(name, str):
            return
        gateway, instructions = self._registry.gateway, getattr(error, "instructions", None) or ""

        def keep(value: str) -> SecretSaved:
            gateway.set_prefab_secret(prefab_id, name, value)
            return SecretSaved()

        def given(value: str | None) -> None:
            if value is not None:
                background.run(self, partial(keep, value), SecretRejected)

        self.app.push_screen(SecretScreen(prefab_id, name, instructions, refusal), given)

    def on_secret_saved(self) -> None:
        self.action_run()

    def on_secret_rejected(self, message: SecretRejected) -> None:
        self._ask_for_secret(report.error_text(message.error))

    # Output files

    def on_run_pane_preview_requested(self, message: RunPane.PreviewRequested) -> None:
        run, file = self.call.run, message.file
        if run is not None:
            read = partial(save_outputs.beginning, self._registry.gateway, run, file)
            screen = PreviewScreen(file.name, read)
            self.app.push_screen(screen, lambda save: self._save([file]) if save else None)

    def on_run_pane_save_requested(self, message: RunPane.SaveRequested) -> None:
        self._save(list(message.files))

    def _save(self, files: list[RunFile]) -> None:
        run, gateway = self.call.run, self._registry.gateway
        if run is None:
            return
        if len(files) == 1:
            title = Content.assemble(
                sanitize.line(files[0].name), "  ", sanitize.line(files[0].key, 60, MUTED)
            )
            suggested = Path.cwd() / local_name(files[0].name)
            download = partial(save_outputs.save, gateway, run, files[0])
        else:
            title = sanitize.line(f"{len(files)} files in a folder")
            suggested = Path.cwd() / local_name(f"{self.spec.id}-{self.function.name}")
            download = partial(save_outputs.save_all, gateway, run, files)
        self.app.push_screen(SaveScreen(title, suggested, download), self._saved)

    def _saved(self, path: Path | None) -> None:
        if path is not None:
            self.notify(one_line(f"Saved {path}"), markup=False)
