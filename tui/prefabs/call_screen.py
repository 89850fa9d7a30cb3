"""A function, filled in and run: its form on one side, its run on the other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, cast

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
from tui.prefabs.call_draft import places
from tui.prefabs.form.form import Form
from tui.prefabs.messages import SecretKept, SecretRefused
from tui.prefabs.outcome import OutputFile
from tui.prefabs.preview_screen import LookScreen
from tui.prefabs.run import Run, State
from tui.prefabs.run_pane import RunPane
from tui.prefabs.run_registry import Call, Desk
from tui.prefabs.secret_screen import SecretScreen
from tui.prefabs.spec import Function, Spec
from tui.screens.save import SaveScreen
from tui.screens.task_actions import local_name
from tui.widgets.key_footer import KeyFooter

if TYPE_CHECKING:
    from tui.app import BeRayApp

_TICK_SECONDS: Final = 1.0


class CallScreen(Screen[None]):
    """Keeps what is filled in, and the run, on the desk; both are there when it is opened again.

    Args:
        desk: of the account.
        spec: of the version that is called.
        function: one of its functions.
    """

    CSS_PATH = "call.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "ctrl+r",
            "run",
            "Run",
            priority=True,
            tooltip="With what is filled in",
        ),
        Binding("f2", "turn", "Form/run", priority=True, tooltip="From the form to the run"),
        Binding("escape", "leave", "Back", tooltip="Back; what runs goes on"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="The keys, and glyphs"),
    ]

    def __init__(self, desk: Desk, spec: Spec, function: Function) -> None:
        super().__init__()
        self._desk = desk
        self.spec = spec
        self.function = function
        self._call: Call = desk.call(spec.id, function.name)
        self._refused: Run | None = None
        """The run whose refusal has been said in the form."""

    @property
    def dashboard(self) -> BeRayApp:
        return cast("BeRayApp", self.app)

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
            form = Form(spec, function, self._call.draft, id="form")
            form.border_title = "Form"
            yield form
            pane = RunPane(id="run-pane")
            pane.border_title = "Run"
            yield pane
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self._call.changed = self._show_run
        self.set_interval(_TICK_SECONDS, self._show_run)
        run = self._call.run
        if run is not None and run.state is State.REFUSED:
            self._refused = run  # it has been said where the form was left
        self._show_run()
        self._turn_to_run(run is not None and not run.is_over)

    def on_unmount(self) -> None:
        self._call.changed = lambda: None

    @property
    def form(self) -> Form:
        return self.query_one(Form)

    @property
    def pane(self) -> RunPane:
        return self.query_one(RunPane)

    # Which side

    def _turn_to_run(self, to_run: bool) -> None:
        """Put the cursor to a side; on a narrow terminal it is the one that is shown."""
        self.set_class(to_run, "-run")
        (self.pane if to_run else self.form).enter()

    def action_turn(self) -> None:
        self._turn_to_run(not self.pane.has_focus_within)

    def action_leave(self) -> None:
        self._call.draft = self.form.draft
        self.dismiss()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen())

    # The run

    def shows(self, run: Run) -> bool:
        """Whether ``run`` is what can be seen here."""
        return self._call.run is run

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "run":
            return True if self._call.run is None or self._call.run.is_over else None
        return True

    def on_form_wanted(self) -> None:
        self.action_run()

    def action_run(self) -> None:
        """Call the function with what is filled in, unless that is being done."""
        run = self._call.run
        if run is not None and not run.is_over:
            return
        self._call.draft = self.form.draft
        order = self.form.order()
        if order is None:
            self._turn_to_run(False)
            return
        self._desk.begin(self._call, order)
        self._show_run()
        self._turn_to_run(True)

    def on_run_pane_stop(self) -> None:
        if self._call.run is not None:
            self._call.run.stop()
            self._show_run()

    def _show_run(self) -> None:
        run = self._call.run
        if not self.is_mounted or not self.query(RunPane):
            return
        had_files = self.pane.selected is not None
        self.pane.show(run)
        if run is None:
            return
        if run.state is State.REFUSED and run is not self._refused:
            self._refused = run
            self._say_refused(run)
        elif self.pane.selected is not None and not had_files and self.pane.has_focus_within:
            self.pane.enter()

    def _say_refused(self, run: Run) -> None:
        error = run.error
        details = getattr(error, "details", None)
        wrong = places(details.get("errors")) if isinstance(details, dict) else []
        if wrong:
            self.form.refuse(wrong)
            self._turn_to_run(False)
        elif isinstance(error, AuthenticationError):
            self.session_ended(error)

    def session_ended(self, error: Exception) -> None:
        """A call was not allowed: have the user asked to sign in, where that is why."""
        if not self.dashboard.target.embedded:
            self.app.post_message(messages.SessionEnded(one_line(report.words(error))))

    def on_run_pane_secret(self) -> None:
        self._ask_for_secret()

    def _ask_for_secret(self, refusal: str = "") -> None:
        error = self._call.run.error if self._call.run is not None else None
        prefab_id, name = self.spec.id, getattr(error, "secret_name", None)
        if not isinstance(name, str):
            return
        gateway, instructions = self._desk.gateway, getattr(error, "instructions", None) or ""

        def keep(value: str) -> SecretKept:
            gateway.set_prefab_secret(prefab_id, name, value)
            return SecretKept()

        def given(value: str | None) -> None:
            if value is not None:
                background.run(self, partial(keep, value), SecretRefused)

        self.app.push_screen(SecretScreen(prefab_id, name, instructions, refusal), given)

    def on_secret_kept(self) -> None:
        self.action_run()

    def on_secret_refused(self, message: SecretRefused) -> None:
        self._ask_for_secret(report.words(message.error))

    # What it has made

    def on_run_pane_look(self, message: RunPane.Look) -> None:
        run, file = self._call.run, message.file
        if run is not None:
            read = partial(save_outputs.beginning, self._desk.gateway, run, file)
            screen = LookScreen(file.name, read)
            self.app.push_screen(screen, lambda save: self._save([file]) if save else None)

    def on_run_pane_save(self, message: RunPane.Save) -> None:
        self._save(list(message.files))

    def _save(self, files: list[OutputFile]) -> None:
        run, gateway = self._call.run, self._desk.gateway
        if run is None:
            return
        if len(files) == 1:
            title = Content.assemble(
                sanitize.line(files[0].name), "  ", sanitize.line(files[0].key, 60, MUTED)
            )
            suggested = Path.cwd() / local_name(files[0].name)
            download = partial(save_outputs.save, gateway, run, files[0])
        else:
            title = sanitize.line(f"{len(files)} files, in a folder")
            suggested = Path.cwd() / local_name(f"{self.spec.id}-{self.function.name}")
            download = partial(save_outputs.save_all, gateway, run, files)
        self.app.push_screen(SaveScreen(title, suggested, download), self._saved)

    def _saved(self, path: Path | None) -> None:
        if path is not None:
            self.notify(one_line(f"Saved {path}"), markup=False)
