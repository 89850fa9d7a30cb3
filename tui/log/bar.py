"""The line below the log: what is searched or filtered, and what came of it."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from beray.sanitize import printable
from tui import sanitize
from tui.widgets.field import FieldInput

FIND: Final = "/"
FILTER: Final = "&"
_HINTS: Final = {
    FIND: "words, or re: and a regular expression",
    FILTER: "words  kind:error  source:main  re:…  errors",
}


class BarInput(FieldInput):
    """What stands in it is always printable."""

    def __init__(self) -> None:
        super().__init__("", False, None)

    def validate_value(self, value: str) -> str:
        return printable(value).replace("\n", " ").replace("\t", " ")


class LogBar(Horizontal):
    """Is given what to ask for and what to say; the input tells the rest by its messages."""

    DEFAULT_CSS = """
    LogBar { height: 1; display: none; background: $panel; }
    LogBar #bar-prompt { width: auto; padding: 0 0 0 1; color: $text-primary; text-style: bold; }
    LogBar Input, LogBar Input:focus {
        width: 1fr; height: 1; border: none; padding: 0 1; background: $panel;
        background-tint: $foreground 0%;
    }
    LogBar #bar-says { width: auto; max-width: 60%; padding: 0 1; color: $text-muted; }
    LogBar #bar-says.problem { color: $text-error; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._said = Content("")

    def compose(self) -> ComposeResult:
        yield Static(id="bar-prompt", markup=False)
        yield BarInput()
        yield Static(id="bar-says", markup=False)

    @property
    def input(self) -> BarInput:
        return self.query_one(BarInput)

    def show(self, prompt: str, value: str | None = None) -> None:
        """Be there, with ``value`` in the input, or without one where nothing is asked for."""
        self.display = True
        self.query_one("#bar-prompt", Static).update(Content(prompt))
        self.input.display = value is not None
        self.input.placeholder = _HINTS.get(prompt, "")
        if value is not None and self.input.value != value:
            with self.input.prevent(BarInput.Changed):
                self.input.value = value

    def ask(self, prompt: str, value: str) -> None:
        """Let the reader type, in place of what is there."""
        self.show(prompt, value)
        self.say("")
        self.screen.set_focus(self.input)  # at once: the next key is for it
        self.input.action_select_all()

    def say(self, words: str, *, problem: bool = False) -> None:
        says = self.query_one("#bar-says", Static)
        line = sanitize.line(words, 200)
        if line != self._said:
            # As long as it is as wide as before, nothing has to move.
            same = line.cell_length == self._said.cell_length
            self._said = line
            says.update(line, layout=not same)
        says.set_class(problem, "problem")

    def hide(self) -> None:
        self.display = False
