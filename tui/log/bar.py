"""Status widgets of the log: the search and filter bar, and the indicator of new events."""

from __future__ import annotations

from typing import Final

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from beray.sanitize import printable
from tui import sanitize
from tui.log.messages import EdgeRequested
from tui.log.model.query import FILTER_PROMPT, FIND_PROMPT
from tui.widgets.field import FieldInput

_HINTS: Final = {
    FIND_PROMPT: "text, or re:… for a regular expression",
    FILTER_PROMPT: "words  kind:error  source:main  re:…  errors",
}


class BarInput(FieldInput):
    """Input for a query, whose value is always printable and on one line."""

    def __init__(self) -> None:
        super().__init__("", False, None)

    def validate_value(self, value: str) -> str:
        return printable(value).replace("\n", " ").replace("\t", " ")


class LogBar(Horizontal):
    """Bar below the log with a prompt, an optional input and a status text.

    The input posts its own messages, ``Input.Changed`` and ``Input.Submitted``.
    """

    DEFAULT_CSS = """
    LogBar { height: 1; display: none; background: $panel; }
    LogBar #bar-prompt { width: auto; padding: 0 0 0 1; color: $text-primary; text-style: bold; }
    LogBar Input, LogBar Input:focus {
        width: 1fr; height: 1; border: none; padding: 0 1; background: $panel;
        background-tint: $foreground 0%;
    }
    LogBar #bar-status { width: auto; max-width: 60%; padding: 0 1; color: $text-muted; }
    LogBar #bar-status.problem { color: $text-error; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._status = Content("")

    def compose(self) -> ComposeResult:
        yield Static(id="bar-prompt", markup=False)
        yield BarInput()
        yield Static(id="bar-status", markup=False)

    @property
    def input(self) -> BarInput:
        """Input for the query."""
        return self.query_one(BarInput)

    def show(self, prompt: str, value: str | None = None) -> None:
        """Show the bar, with ``value`` in the input; ``None`` hides the input."""
        self.display = True
        self.query_one("#bar-prompt", Static).update(Content(prompt))
        self.input.display = value is not None
        self.input.placeholder = _HINTS.get(prompt, "")
        if value is not None and self.input.value != value:
            with self.input.prevent(BarInput.Changed):
                self.input.value = value

    def open_input(self, prompt: str, value: str) -> None:
        """Show the bar and focus its input, with ``value`` selected."""
        self.show(prompt, value)
        self.show_status("")
        self.screen.set_focus(self.input)  # immediately: the next key belongs to the input
        self.input.action_select_all()

    def show_status(self, text: str, *, problem: bool = False) -> None:
        """Show ``text`` beside the input; ``problem`` shows it as an error."""
        status = self.query_one("#bar-status", Static)
        line = sanitize.line(text, 200)
        if line != self._status:
            # The layout depends only on the width of the text.
            same_width = line.cell_length == self._status.cell_length
            self._status = line
            status.update(line, layout=not same_width)
        status.set_class(problem, "problem")

    def hide(self) -> None:
        """Hide the bar."""
        self.display = False


class NewEventsIndicator(Static):
    """Number of new events below the visible part of the log; a click shows them."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._label = ""

    def show(self, count: int) -> None:
        """Show the number of new events; 0 hides the indicator."""
        label = f"▼ {count:,} new" if count > 0 else ""
        if label != self._label:
            # The layout depends only on the width of the text.
            same_width = len(label) == len(self._label)
            self._label = label
            self.display = bool(label)
            self.update(Content(label), layout=not same_width)

    def on_click(self, event: Click) -> None:
        event.stop()
        self.post_message(EdgeRequested(end=True))
