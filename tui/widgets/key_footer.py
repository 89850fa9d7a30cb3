"""Footer with the available keys."""

from __future__ import annotations

from textual.message import Message
from textual.widgets import Footer

from tui._textual_compat import footer_is_ready


class KeyFooter(Footer):
    """Footer that announces its first display and is rebuilt only if the keys have changed.

    Textual rebuilds its footer whenever the focus moves. That rarely changes the keys and costs
    as much as a layout of the screen.
    """

    class Shown(Message):
        """The footer is displayed for the first time."""

    _told = False
    _made_of: object = None

    async def recompose(self) -> None:
        # While a screen is removed, the widgets that define the keys may be missing.
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
        """Return everything that the footer is built from."""
        keys = [
            (active.binding, active.enabled, active.tooltip)
            for active in self.screen.active_bindings.values()
        ]
        options = (self.compact, self.combine_groups, self.show_command_palette)
        return (footer_is_ready(self), options, keys)
