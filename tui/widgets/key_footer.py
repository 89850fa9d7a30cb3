"""The line of the keys."""

from __future__ import annotations

from textual.message import Message
from textual.widgets import Footer


class KeyFooter(Footer):
    """Says when the keys are on the screen for the first time, and is made anew for new keys only.

    Textual makes its footer anew whenever the focus moves, which mostly leaves the keys as
    they are, and costs as much as to lay out the screen.
    """

    class Shown(Message):
        """What there is to do can be seen."""

    _told = False
    _made_of: object = None

    async def recompose(self) -> None:
        # On a screen that is being taken down, the widgets that the keys are asked of may be gone.
        if not self.is_attached or not self.display:
            return
        made_of = self._parts()
        if made_of == self._made_of:
            return
        self._made_of = made_of
        await super().recompose()
        if not self._told:
            self._told = True
            self.call_after_refresh(self.post_message, self.Shown())

    def _parts(self) -> object:
        """Everything that the line is made of."""
        keys = [
            (active.binding, active.enabled, active.tooltip)
            for active in self.screen.active_bindings.values()
        ]
        options = (self.compact, self.combine_groups, self.show_command_palette)
        return (self._bindings_ready, options, keys)
