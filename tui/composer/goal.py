"""Text area for a goal or a message, in which Enter submits the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult, Selection

from beray.sanitize import printable
from beray.schema import MAX_GOAL_CHARS
from tui._textual_compat import read_alt_enter_as_line_break

read_alt_enter_as_line_break()

NEWLINE_KEYS: Final = frozenset({"ctrl+j", "shift+enter", "alt+enter", "ctrl+enter", "shift+\r"})
"""Keys that insert a line break; terminals report them under different names."""
_MAX_WRITTEN_CHARS: Final = 1_000_000
"""Maximum length of text from the editor, which the user may then shorten."""
PLACEHOLDER: Final = Content(
    "Describe what should be done.\nA goal that starts with ! is a shell command."
)


class GoalArea(TextArea):
    """Text area for a goal.

    Inserted text is sanitized, so that the displayed text is the text that is sent.
    ``EditRejected`` is posted if text was changed or not inserted.
    """

    class Submitted(Message):
        """Enter was pressed."""

    @dataclass(eq=False, repr=False)
    class EditRejected(Message):
        """Text was changed or not inserted; ``text`` is the message for the user."""

        text: str

    @dataclass(eq=False, repr=False)
    class HistoryRequested(Message):
        """The cursor was moved beyond the first or the last line.

        Attributes:
            older: Whether the next older entry of the history is requested, else a newer one.
        """

        older: bool

    def __init__(
        self, text: str = "", *, placeholder: Content = PLACEHOLDER, id: str = "goal-text"
    ) -> None:
        super().__init__(
            printable(text), placeholder=placeholder, highlight_cursor_line=False, id=id
        )
        self._max_chars = MAX_GOAL_CHARS
        # Set here because keys may arrive before the screen is mounted.
        self.set_reactive(TextArea.selection, Selection.cursor(self.document.end))

    def replace_text(self, text: str, *, at_end: bool = True) -> None:
        """Replace the whole text, even by one that is too long. The user can undo this.

        Args:
            text: The new text.
            at_end: Whether the cursor is placed at the end, else at the end of the first line.
        """
        self._max_chars = _MAX_WRITTEN_CHARS
        self.replace(text, (0, 0), self.document.end)
        self._max_chars = MAX_GOAL_CHARS
        self.move_cursor(self.document.end if at_end else (0, len(self.document[0])))

    def edit(self, edit: Edit) -> EditResult:
        replaced = self.get_text_range(*sorted((edit.from_location, edit.to_location)))
        length = len(self.text) - len(replaced) + len(edit.text)
        if length > self._max_chars and length > len(self.text):
            self.post_message(
                self.EditRejected(
                    f"Not inserted: {length:,} characters; the maximum is {self._max_chars:,}."
                )
            )
            edit.text = replaced
        shown = printable(edit.text)
        if shown != edit.text.replace("\r\n", "\n").replace("\r", "\n"):
            self.post_message(self.EditRejected("Control characters were replaced or removed."))
        edit.text = shown
        return super().edit(edit)

    def on_key(self, event: events.Key) -> None:
        if event.key == "enter" or event.key in NEWLINE_KEYS:
            event.stop()
            event.prevent_default()  # ``TextArea`` would insert a line break for enter
            if event.key == "enter":
                self.post_message(self.Submitted())
            else:
                self.replace("\n", *self.selection, maintain_selection_offset=False)

    def action_cursor_up(self, select: bool = False) -> None:
        if not select and self.navigator.is_first_wrapped_line(self.cursor_location):
            self.post_message(self.HistoryRequested(older=True))
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if not select and self.navigator.is_last_wrapped_line(self.cursor_location):
            self.post_message(self.HistoryRequested(older=False))
        else:
            super().action_cursor_down(select)
