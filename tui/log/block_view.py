"""Interface of the view, as far as the objects of the log use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tui.events.blocks import Block
from tui.log.render.match_highlights import MatchHighlights
from tui.log.render.row_layout import RowLayout, RowPosition
from tui.log.scroll_anchors import EventAnchor, RowAnchor

_NEAR_SCREENS = 2


class Viewport(NamedTuple):
    """Part of the rows that is on the screen.

    Attributes:
        top: Number of the first row on the screen.
        height: Number of rows that the screen can show.
        total: Number of all rows.
        following: Whether the view follows the end of the rows.
    """

    top: int
    height: int
    total: int
    following: bool

    @property
    def is_near_start(self) -> bool:
        """True if there are few rows above the screen."""
        return self.top < _NEAR_SCREENS * self.height

    @property
    def is_near_end(self) -> bool:
        """True if there are few rows below the screen."""
        return self.total - self.top - self.height < _NEAR_SCREENS * self.height


class BlockView(Protocol):
    """View of the blocks of a log.

    Attributes:
        following: Whether the view follows the end of the rows.
        at_newest: Whether the last block is the newest one of the log.
    """

    following: bool
    at_newest: bool

    @property
    def viewport(self) -> Viewport:
        """Part of the rows that is on the screen."""

    @property
    def row_layout(self) -> RowLayout:
        """Layout of the rows that are shown."""

    @property
    def highlights(self) -> MatchHighlights:
        """Matches that are highlighted in the rows."""

    @property
    def selected_block(self) -> Block | None:
        """Block under the cursor, if it is on the screen."""

    @property
    def unfolded(self) -> set[int]:
        """Numbers of the first events of unfolded blocks."""

    def show(self, blocks: Sequence[Block], anchor: RowAnchor | EventAnchor | None = None) -> None:
        """Show ``blocks``, with the row at ``anchor`` at the top if it is given."""

    def clear_rows(self) -> None:
        """Discard the rows before unrelated blocks of the same log are shown."""

    def go_to_beginning(self) -> None:
        """Show the first row and stop following."""

    def reveal(self, position: RowPosition, *, centre: bool = False) -> None:
        """Scroll to a row if necessary, move the cursor to its block and stop following."""

    def is_row_visible(self, position: RowPosition) -> bool:
        """Return True if the row is on the screen."""

    def screen_edge(self, step: int) -> RowPosition | None:
        """Return the first row on the screen, or for -1 the row after the last one."""

    def refresh(self) -> object:
        """Draw the rows again, for example with other highlights."""
