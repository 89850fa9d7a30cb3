"""The form of a function: a box for each parameter and each kind of file."""

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
from tui.prefabs.call_draft import Draft, Order, file_problems
from tui.prefabs.form.field_widget import Box
from tui.prefabs.form.file_box import FileBox
from tui.prefabs.form.parameter_box import ParameterBox
from tui.prefabs.form.schema import fields
from tui.prefabs.form.values import entered
from tui.prefabs.spec import Function, Spec


class Form(VerticalScroll, can_focus=False):
    """Is given a function and what was filled in before; makes the order."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "choose_file", "File", tooltip="Choose a file that goes in"),
    ]

    class Wanted(Message):
        """The function is to be run."""

    def __init__(
        self, spec: Spec, function: Function, draft: Draft | None, *, id: str | None = None
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
        # Files first: they are what a function is called for.
        for number, place in enumerate(self._function.inputs):
            yield FileBox(place, files.get(place.key, ()), id=f"file-{number}")
        for number, field in enumerate(self._fields):
            text = texts.get(field.name, field.initial)
            yield ParameterBox(field, text, id=f"field-{number}")
        if not self._fields and not self._function.inputs:
            yield Static("It takes no parameters and no files.", classes="about", markup=False)
        if any(field.required for field in self._fields):
            yield Static(Content.styled("* needed", MUTED), classes="about", markup=False)
        yield Button("Run", variant="primary", id="run")

    @property
    def boxes(self) -> list[Box]:
        """All parts, in their order."""
        return [*self.files, *self.parameters]

    @property
    def parameters(self) -> list[ParameterBox]:
        return list(self.query(ParameterBox))

    @property
    def files(self) -> list[FileBox]:
        return list(self.query(FileBox))

    @property
    def draft(self) -> Draft:
        """What stands in it now."""
        return Draft(
            {box.field.name: box.text for box in self.parameters},
            {box.place.key: box.paths for box in self.files},
        )

    def enter(self) -> None:
        """Put the cursor to what was refused, else to the first box, else to the button."""
        boxes = self.boxes
        refused = [box for box in boxes if box.has_class("refused")]
        first = next(iter(refused or boxes), None)
        if first is not None:
            first.enter()
        else:
            self.screen.set_focus(self.query_one("#run", Button))

    def on_descendant_focus(self) -> None:
        """Show all of the box that the cursor is in, with what is said about it."""
        boxes = self.boxes
        at = next((place for place, box in enumerate(boxes) if box.has_focus_within), None)
        if at == 0:
            self.call_after_refresh(self.scroll_home, animate=False)
        elif at is not None:
            self.call_after_refresh(self.scroll_to_widget, boxes[at], animate=False)

    def order(self) -> Order | None:
        """What can be called with; ``None`` where something is wrong, which is then said."""
        draft = self.draft
        parameters, wrong = entered(self._fields, draft.texts)
        wrong_files = file_problems(self._function, draft.files)
        for box in self.files:
            if box.problem:
                wrong_files.setdefault(box.place.key, box.problem)
        self.accept()
        if wrong or wrong_files:
            self._refuse("parameters", wrong)
            self._refuse("files", wrong_files)
            self.enter()
            return None
        files = {key: paths for key, paths in draft.files.items() if paths}
        spec = self._spec
        return Order(spec.id, spec.version, self._function.name, parameters, files)

    def accept(self) -> None:
        """Say nothing any more."""
        for box in self.boxes:
            box.accept()
        self.query_one("#form-problem").display = False

    def refuse(self, places: list[tuple[str, str, str]]) -> None:
        """Say what the server refuses, as ``tui.prefabs.call_draft.places`` gives it."""
        left: list[str] = []
        for kind, name, words in places:
            if not self._refuse(kind, {name: words}):
                left.append(f"{name}: {words}" if name else words)
        if left:
            problem = self.query_one("#form-problem", Static)
            problem.update(sanitize.line("; ".join(left)))
            problem.display = True

    def _refuse(self, kind: str, problems: Mapping[str, str]) -> bool:
        """Say each of ``problems`` beside what it is about; whether there is such a place."""
        found = False
        for name, box in self._places(kind):
            if name in problems:
                box.refuse(problems[name])
                found = True
        return found

    def _places(self, kind: str) -> Iterator[tuple[str, Box]]:
        if kind == "files":
            yield from ((box.place.key, box) for box in self.files)
        elif kind == "parameters":
            yield from ((box.field.name, box) for box in self.parameters)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "choose_file" or bool(self._function.inputs)

    def action_choose_file(self) -> None:
        """For the box that the cursor is in, else for the first one that still needs a file."""
        boxes = self.files
        empty = [box for box in boxes if not box.paths]
        focused = [box for box in boxes if box.has_focus_within]
        (focused or empty or boxes)[0].choose()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        self.post_message(self.Wanted())
