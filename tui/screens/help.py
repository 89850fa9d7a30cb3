"""The keys of the main screen, and what the glyphs mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

_KEYS = (
    ("n", "new task; ! before the goal: a shell command"),
    ("s", "stop the task"),
    ("x", "delete the task, after a question"),
    ("e  f", "its events, its files"),
    ("d", "download the selected file"),
    ("z", "download all its files as a ZIP"),
    ("r", "read the files again"),
    ("tab", "the next pane"),
    ("↑ ↓", "move; home and end (g, G) go to the ends"),
    ("ctrl+p", "the palette: every action by name, and the theme"),
    ("q", "quit; tasks go on running on the server"),
)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Help"
            dialog.border_subtitle = "esc closes"
            lines = [
                Content.assemble((f"{keys:>7}", "bold $text-primary"), f"  {what}")
                for keys, what in _KEYS
            ]
            yield Static(Content("\n").join(lines), markup=False)
