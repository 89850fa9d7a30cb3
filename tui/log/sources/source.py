"""Interface of the sources of the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from beray.schema import TaskEvent
from tui.events.blocks import Block
from tui.log.block_view import Viewport
from tui.log.scroll_anchors import EventAnchor, ReadingPosition

AFTER_LAST_EVENT: Final = 1 << 62
"""Number of a line of the view that follows all events."""

OnChange = Callable[[EventAnchor | None], None]
"""Called after the blocks of a source have changed.

The argument is the row to show at the top of the screen; ``None`` keeps the rows in place.
"""


class LogSource(Protocol):
    """Source of the blocks that the log shows.

    Live events are added to the active source, which stores them in the buffer of the task.
    """

    @property
    def prompt(self) -> str:
        """Prompt of the bar while the source is active; empty to hide the bar."""

    @property
    def status_text(self) -> str:
        """State of the source, which the bar shows."""

    @property
    def at_newest(self) -> bool:
        """True if the blocks end with the newest event."""

    @property
    def is_live(self) -> bool:
        """True if the blocks end with the present state of the task, once they are complete."""

    @property
    def return_position(self) -> ReadingPosition | None:
        """Reading position to use instead of the visible one, or ``None``."""

    def blocks(self) -> list[Block]:
        """Return the blocks to show."""

    def append(self, events: list[TaskEvent], *, following: bool) -> None:
        """Add live events.

        Args:
            events: The events that follow the newest event.
            following: Whether the view follows the end of the blocks.
        """

    def prefetch(self, viewport: Viewport) -> None:
        """Fetch the events that the user is about to scroll to."""

    def go_to_start(self) -> bool:
        """Go to the start of the log.

        Returns:
            True if the blocks contain it; otherwise it is fetched first.
        """

    def go_to_end(self) -> None:
        """Let the blocks end with the newest event."""

    def scan_start(self, step: int) -> int | None:
        """Return the number of the event at which a search outside the blocks has to start.

        Args:
            step: 1 to search forward, -1 to search backward.

        Returns:
            The number, or ``None`` if no more events can be searched in this direction.
        """

    def position_text(self, number: int) -> str:
        """Return a description of the reading position at event ``number``."""

    def stop(self) -> None:
        """Stop timers and pending work, because another source becomes active."""
