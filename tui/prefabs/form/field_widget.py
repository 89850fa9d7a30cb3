"""Base class of the controls of a form."""

from __future__ import annotations

from textual.containers import Vertical
from textual.widgets import Static

from tui import sanitize


class FormControl(Vertical):
    """Container of a widget with the class ``box`` and its error message."""

    def show_problem(self, words: str) -> None:
        """Show an error message."""
        self.query_one(".problem", Static).update(sanitize.line(words))
        self.add_class("refused")

    def clear_problem(self) -> None:
        """Remove the error message."""
        self.remove_class("refused")

    def focus_input(self) -> None:
        """Focus the widget immediately, so that the next typed key arrives here."""
        self.screen.set_focus(self.query_one(".box"))
