"""Form of a prefab function: a control for each parameter and each input file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Button, Static

from tui import sanitize
from tui.composer.attachment_list import MUTED
from tui.prefabs.call_draft import CallDraft, FormDraft, file_problems
from tui.prefabs.form.field_widget import FormControl
from tui.prefabs.form.file_box import FileBox
from tui.prefabs.form.parameter_box import ParameterBox
from tui.prefabs.form.schema import fields
from tui.prefabs.form.values import parse_fields
from tui.prefabs.spec import PrefabFunction, PrefabSpec


class FunctionForm(VerticalScroll, can_focus=False):
    """Form with the controls of one function."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "choose_file", "File", tooltip="Select an input file"),
    ]

    class RunRequested(Message):
        """The user wants to run the function."""

    def __init__(
        self,
        spec: PrefabSpec,
        function: PrefabFunction,
        draft: FormDraft | None,
        *,
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self._spec = spec
        self._function = function
        self._draft = draft
        self._fields = fields(function.parameters)

    def compose(self) -> ComposeResult:
        if self._function.description:
            words = " ".join(self._function.description.split())
            yield Static(sanitize.line(words, 600), id="purpose", markup=False)
        yield Static(id="form-problem", classes="problem", markup=False)
        texts = self._draft.texts if self._draft else {}
        files = self._draft.files if self._draft else {}
        # Files first, because they are usually the subject of the call.
        for number, place in enumerate(self._function.inputs):
            yield FileBox(place, files.get(place.key, ()), id=f"file-{number}")
        for number, field in enumerate(self._fields):
            text = texts.get(field.name, field.initial)
            yield ParameterBox(field, text, id=f"field-{number}")
        if not self._fields and not self._function.inputs:
            yield Static("No parameters, no input files.", classes="about", markup=False)
        if any(field.required for field in self._fields):
            yield Static(Content.styled("* required", MUTED), classes="about", markup=False)
        yield Button("Run", variant="primary", id="run")

    @property
    def boxes(self) -> list[FormControl]:
        """All controls in display order."""
        return [*self.files, *self.parameters]

    @property
    def parameters(self) -> list[ParameterBox]:
        """Controls of the parameters."""
        return list(self.query(ParameterBox))

    @property
    def files(self) -> list[FileBox]:
        """Controls of the input files."""
        return list(self.query(FileBox))

    @property
    def draft(self) -> FormDraft:
        """Current content."""
        return FormDraft(
            {box.field.name: box.text for box in self.parameters},
            {box.place.key: box.paths for box in self.files},
        )

    def focus_input(self) -> None:
        """Focus the first control with an error, else the first control, else the button."""
        boxes = self.boxes
        refused = [box for box in boxes if box.has_class("refused")]
        first = next(iter(refused or boxes), None)
        if first is not None:
            first.focus_input()
        else:
            self.screen.set_focus(self.query_one("#run", Button))

    def on_descendant_focus(self) -> None:
        """Scroll the focused control into view, with its description."""
        boxes = self.boxes
        at = next((place for place, box in enumerate(boxes) if box.has_focus_within), None)
        if at == 0:
            self.call_after_refresh(self.scroll_home, animate=False)
        elif at is not None:
            self.call_after_refresh(self.scroll_to_widget, boxes[at], animate=False)

    def order(self) -> CallDraft | None:
        """Return the validated call, or None after showing the errors."""
        draft = self.draft
        parameters, wrong = parse_fields(self._fields, draft.texts)
        wrong_files = file_problems(self._function, draft.files)
        for box in self.files:
            if box.problem:
                wrong_files.setdefault(box.place.key, box.problem)
        self.clear_problem()
        if wrong or wrong_files:
            self._refuse("parameters", wrong)
            self._refuse("files", wrong_files)
            self.focus_input()
            return None
        files = {key: paths for key, paths in draft.files.items() if paths}
        spec = self._spec
        return CallDraft(spec.id, spec.version, self._function.name, parameters, files)

    def clear_problem(self) -> None:
        """Remove all error messages."""
        for box in self.boxes:
            box.clear_problem()
        self.query_one("#form-problem").display = False

    def show_problem(self, places: list[tuple[str, str, str]]) -> None:
        """Show errors of the server as returned by ``tui.prefabs.call_draft.places``."""
        left: list[str] = []
        for kind, name, words in places:
            if not self._refuse(kind, {name: words}):
                left.append(f"{name}: {words}" if name else words)
        if left:
            problem = self.query_one("#form-problem", Static)
            problem.update(sanitize.line("; ".join(left)))
            problem.display = True

    def _refuse(self, kind: str, problems: Mapping[str, str]) -> bool:
        """Show ``problems`` at their controls; return False if there is no such control."""
        found = False
        for name, box in self._places(kind):
            if name in problems:
                box.show_problem(problems[name])
                found = True
        return found

    def _places(self, kind: str) -> Iterator[tuple[str, FormControl]]:
        if kind == "files":
            yield from ((box.place.key, box) for box in self.files)
        elif kind == "parameters":
            yield from ((box.field.name, box) for box in self.parameters)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "choose_file" or bool(self._function.inputs)

    def action_choose_file(self) -> None:
        """Select a file for the focused input, else for the first empty one."""
        boxes = self.files
        empty = [box for box in boxes if not box.paths]
        focused = [box for box in boxes if box.has_focus_within]
        (focused or empty or boxes)[0].choose()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.RunRequested())
