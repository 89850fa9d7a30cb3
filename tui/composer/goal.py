"""The text of a goal: several lines, of which enter is none."""

from __future__ import annotations

from typing import Final

from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.content import Content
from textual.keys import Keys
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult, Selection

from beray.sanitize import printable
from tui.state.task_draft import MAX_GOAL_LENGTH

# What terminals without the Kitty protocol send for alt+enter: Textual takes it for enter.
if isinstance(ANSI_SEQUENCES_KEYS, dict):
    ANSI_SEQUENCES_KEYS.setdefault("\x1b\r", (Keys.ControlJ,))

LINE_KEYS: Final = frozenset({"ctrl+j", "shift+enter", "alt+enter", "ctrl+enter", "shift+\r"})
"""Put a line break, whatever the terminal calls it."""
_MOST_WRITTEN: Final = 1_000_000
"""A text this long still answers to keys; the user's editor may bring one to be cut."""
PLACEHOLDER: Final = Content(
    "What should be done, in plain words.\nA goal that starts with ! is a shell command."
)


class GoalArea(TextArea):
    """Where the goal is written.

    What gets into it by whatever way is made printable first: what is seen is what is
    sent. ``Refused`` says what could not be taken as it was.
    """

    class Entered(Message):
        """Enter was pressed."""

    class Refused(Message):
        """Something could not be put in, or not as it was."""

        def __init__(self, words: str) -> None:
            super().__init__()
            self.words = words

    class Turned(Message):
        """Beyond the first or the last line: to an older goal, or a newer one."""

        def __init__(self, older: bool) -> None:
            super().__init__()
            self.older = older

    def __init__(
        self, text: str = "", *, placeholder: Content = PLACEHOLDER, id: str = "goal-text"
    ) -> None:
        super().__init__(
            printable(text), placeholder=placeholder, highlight_cursor_line=False, id=id
        )
        self._most = MAX_GOAL_LENGTH
        # At once: keys may come before the screen is mounted.
        self.set_reactive(TextArea.selection, Selection.cursor(self.document.end))

    def write(self, text: str, *, at_end: bool = True) -> None:
        """Make ``text`` the whole goal, too long a one as well; it can be undone."""
        self._most = _MOST_WRITTEN
        self.replace(text, (0, 0), self.document.end)
        self._most = MAX_GOAL_LENGTH
        self.move_cursor(self.document.end if at_end else (0, len(self.document[0])))

    def edit(self, edit: Edit) -> EditResult:
        replaced = self.get_text_range(*sorted((edit.from_location, edit.to_location)))
        length = len(self.text) - len(replaced) + len(edit.text)
        if length > self._most and length > len(self.text):
            self.post_message(
                self.Refused(f"That would be {length:,} characters: at most {self._most:,}.")
            )
            edit.text = replaced
        shown = printable(edit.text)
        if shown != edit.text.replace("\r\n", "\n").replace("\r", "\n"):
            self.post_message(self.Refused("Control characters in it were replaced or left out."))
        edit.text = shown
        return super().edit(edit)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Entered())
        elif event.key in LINE_KEYS:
            event.stop()
            event.prevent_default()
            self._replace_via_keyboard("\n", *self.selection)
        else:
            await super()._on_key(event)

    def action_cursor_up(self, select: bool = False) -> None:
        if not select and self.navigator.is_first_wrapped_line(self.cursor_location):
            self.post_message(self.Turned(older=True))
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if not select and self.navigator.is_last_wrapped_line(self.cursor_location):
            self.post_message(self.Turned(older=False))
        else:
            super().action_cursor_down(select)
