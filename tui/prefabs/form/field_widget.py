"""A part of a form: what can be said to be wrong with it."""

from __future__ import annotations

from textual.containers import Vertical
from textual.widgets import Static

from tui import sanitize


class Box(Vertical):
    """Has a widget with the class ``box``, and one for problems."""

    def refuse(self, words: str) -> None:
        """Say what is wrong with it."""
        self.query_one(".problem", Static).update(sanitize.line(words))
        self.add_class("refused")

    def accept(self) -> None:
        self.remove_class("refused")

    def enter(self) -> None:
        """Put the cursor here, at once: the next key that was typed already belongs here."""
        self.screen.set_focus(self.query_one(".box"))
