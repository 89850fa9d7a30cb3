"""Log pane: the log of a task with all its key bindings."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.log.replay_mode import ReplayMode


class LogPane(ReplayMode):
    """Log of the selected task, with search, filter and replay."""

    DEFAULT_CSS = """
    LogPane { layers: base above; }
    LogPane #log-new {
        layer: above; dock: bottom; width: auto; height: 1; display: none; offset: 2 0;
        padding: 0 1; background: $primary; color: $background; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "pause", "Pause", show=False),
        Binding("right", "step", "One event", show=False),
        Binding("plus,equals_sign", "faster", "Faster", show=False),
        Binding("minus", "slower", "Slower", show=False),
        Binding("p", "replay", "Replay", show=False),
        Binding("home,g", "home", "Beginning", show=False),
        Binding("end,G", "end", "End", show=False),
        Binding("j,ctrl+down", "cursor(1)", "Next block", show=False),
        Binding("k,ctrl+up", "cursor(-1)", "Block before", show=False),
        Binding("space", "open", "Fold", show=False),
        Binding("enter", "open", "Open", show=False),
        # With priority, so that keys typed directly afterwards reach the bar.
        Binding("slash", "find", "Search", key_display="/", priority=True),
        Binding("ampersand", "filter", "Filter", key_display="&", priority=True),
        Binding("n", "next_match", "Next"),
        Binding("N", "previous_match", "Match before", show=False),
        Binding("left_square_bracket", "previous_error", "Error before", show=False),
        Binding("right_square_bracket", "next_error", "Next error", show=False),
        Binding("left_curly_bracket", "previous_file", "File before", show=False),
        Binding("right_curly_bracket", "next_file", "Next file", show=False),
        Binding("escape", "leave", "Back", show=False),
    ]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("next_match", "previous_match"):
            return self.is_searching
        if action in ("find", "filter"):
            return not self.is_typing
        if action in ("pause", "step", "faster", "slower"):
            return self.is_replaying
        if action == "leave":
            return self.can_leave()
        return True
