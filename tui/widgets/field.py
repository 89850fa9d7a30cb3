"""Form controls with a label and an error message."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import Paste
from textual.widgets import Input, Static

from beray.sanitize import one_line
from tui import sanitize


def _first_line(text: str) -> str:
    return next(filter(None, text.splitlines()), "")


class FieldInput(Input):
    """Input that makes pasted text printable; a secret cannot be copied."""

    def __init__(self, value: str, secret: bool, whole: Callable[[str], str | None] | None) -> None:
        super().__init__(value, password=secret)
        self._whole = whole

    def on_paste(self, event: Paste) -> None:
        event.prevent_default()
        event.stop()
        self._take(event.text)

    def action_paste(self) -> None:
        self._take(self.app.clipboard)

    def action_copy(self) -> None:
        if not self.password:
            super().action_copy()

    def action_cut(self) -> None:
        if not self.password:
            super().action_cut()

    def _take(self, text: str) -> None:
        value = self._whole(text) if self._whole is not None else None
        if value is not None:
            self.replace(value, 0, len(self.value))
        else:
            self.replace(_first_line(text) if self.password else one_line(text), *self.selection)


class Field(Vertical):
    """Text field of a form.

    Args:
        label: Title of the field.
        id: Id of the widget.
        secret: Whether the typed text is hidden.
        value: Initial text.
        disabled: Whether the field is initially disabled.
        whole: Returns the new value of the field for pasted text, or None to insert that text.
    """

    def __init__(
        self,
        label: str,
        *,
        id: str,
        secret: bool = False,
        value: str = "",
        disabled: bool = False,
        whole: Callable[[str], str | None] | None = None,
    ) -> None:
        super().__init__(id=id, disabled=disabled)
        self._label = label
        self._secret = secret
        self._initial = value
        self._whole = whole

    def compose(self) -> ComposeResult:
        box = FieldInput(one_line(self._initial), self._secret, self._whole)
        box.border_title = self._label
        yield box
        yield Static(classes="problem", markup=False)

    @property
    def input(self) -> Input:
        """The input widget."""
        return self.query_one(Input)

    @property
    def value(self) -> str:
        """Current text."""
        return self.input.value

    def show_problem(self, problem: str, *, focus: bool = True) -> None:
        """Show an error message and, by default, focus the field."""
        self.query_one(".problem", Static).update(sanitize.line(problem))
        self.add_class("refused")
        if focus:
            self.focus_input()

    def focus_input(self) -> None:
        """Focus the field immediately, so that the next typed key arrives here."""
        self.screen.set_focus(self.input)

    def clear_problem(self) -> None:
        """Remove the error message."""
        self.query_one(".problem", Static).update(Content(""))
        self.remove_class("refused")

    def on_input_changed(self, event: Input.Changed) -> None:
        self.clear_problem()
