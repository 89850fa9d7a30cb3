"""The line of the keys."""

from __future__ import annotations

from textual.message import Message
from textual.widgets import Footer


class KeyFooter(Footer):
    """Says when the keys are on the screen for the first time."""

    class Shown(Message):
        """What there is to do can be seen."""

    _told = False

    async def recompose(self) -> None:
        await super().recompose()
        if not self._told:
            self._told = True
            self.call_after_refresh(self.post_message, self.Shown())
