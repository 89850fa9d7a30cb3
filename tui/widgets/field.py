"""A labelled input with a place beside it for what is wrong with it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from beray.text import one_line
from tui import safe


class Field(Vertical):
    """One input of a form. ``secret`` never shows what is typed."""

    def __init__(
        self, label: str, *, id: str, secret: bool = False, value: str = "", disabled: bool = False
    ) -> None:
        super().__init__(id=id, disabled=disabled)
        self._label = label
        self._secret = secret
        self._initial = value

    def compose(self) -> ComposeResult:
        box = Input(one_line(self._initial), password=self._secret)
        box.border_title = self._label
        yield box
        yield Static(classes="problem", markup=False)

    @property
    def input(self) -> Input:
        return self.query_one(Input)

    @property
    def value(self) -> str:
        return self.input.value

    def refuse(self, problem: str) -> None:
        """Say what is wrong, and put the cursor there."""
        self.query_one(".problem", Static).update(safe.line(problem))
        self.add_class("refused")
        self.enter()

    def enter(self) -> None:
        """Put the cursor here, at once: the next key that was typed already belongs here."""
        self.screen.set_focus(self.input)

    def accept(self) -> None:
        """Say nothing any more."""
        self.query_one(".problem", Static).update(Content(""))
        self.remove_class("refused")

    def on_input_changed(self, event: Input.Changed) -> None:
        self.accept()
