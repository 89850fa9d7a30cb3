"""Preview of an output file."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher, Static

from tui import preview, sanitize
from tui.io import background
from tui.prefabs import report
from tui.prefabs.messages import OutputArrived, OutputFailed
from tui.widgets.line_view import LineView


class PreviewScreen(ModalScreen[bool]):
    """Dialog that shows the beginning of a file; returns True if the user wants to save it.

    Args:
        name: Name of the file.
        read: Reads the beginning of the file. Called in a thread.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss(False)", "Close"),
        Binding("d", "dismiss(True)", "Save"),
    ]

    def __init__(self, name: str, read: Callable[[], OutputArrived]) -> None:
        super().__init__()
        self._file_name = name
        self._read = read

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = sanitize.line(self._file_name, 60)
            dialog.border_subtitle = "d saves · esc closes"
            with ContentSwitcher(initial="look-note", id="look"):
                yield Static("Loading …", id="look-note", classes="note", markup=False)
                yield LineView(id="look-text")

    def on_mount(self) -> None:
        background.run(self, self._read, OutputFailed)

    def on_output_arrived(self, message: OutputArrived) -> None:
        page = preview.document(message.content, message.complete)
        if not message.content:
            text = "An empty file." if message.complete else "The file is too large for a preview."
            self._say(Content(f"{text}\nPress d to save it."))
        elif page is None:
            self._say(Content("A binary file.\nPress d to save it."))
        else:
            view = self.query_one(LineView)
            view.show(page)
            self.query_one("#look", ContentSwitcher).current = "look-text"
            self.set_focus(view)

    def on_output_failed(self, message: OutputFailed) -> None:
        self._say(sanitize.block(report.error_text(message.error), 1000), failed=True)

    def _say(self, text: Content, *, failed: bool = False) -> None:
        note = self.query_one("#look-note", Static)
        note.update(text)
        note.set_class(failed, "failed")
