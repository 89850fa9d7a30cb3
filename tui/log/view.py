"""View of the log: blocks, scrolling and cursor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from textual import events
from textual.actions import SkipAction
from textual.geometry import Size
from textual.timer import Timer

from tui._textual_compat import scroll_immediately, update_scrollbars
from tui.events.blocks import Block, BlockKind
from tui.log.block_view import Viewport
from tui.log.messages import BlockOpened, EdgeRequested, ViewChanged
from tui.log.render.renderer import RowRenderer
from tui.log.render.row_layout import RowLayout, RowPosition, nearest_block
from tui.log.render.row_segments import GUTTER_WIDTH
from tui.log.scroll_anchors import EventAnchor, RowAnchor

_REFINE_SECONDS: Final = 0.02
"""Delay before the layout of Markdown is continued."""


class LogView(RowRenderer, can_focus=True):
    """View of blocks that follows their end unless the user has scrolled up."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.following = True
        self.at_newest = True
        """True if the last block is the newest one of the log."""
        self._blocks: Sequence[Block] = ()
        self._width = 0
        self._is_programmatic = False
        self._refine_timer: Timer | None = None

    # Display

    @property
    def viewport(self) -> Viewport:
        """Part of the rows that is on the screen."""
        height = max(1, self.size.height)
        return Viewport(self.scroll_offset.y, height, self._row_layout.total, self.following)

    def show(self, blocks: Sequence[Block], anchor: RowAnchor | EventAnchor | None = None) -> None:
        """Show ``blocks``. The rows on the screen keep their positions.

        Args:
            blocks: The blocks, in order.
            anchor: Row to scroll to the top.
        """
        top = self.scroll_offset.y
        top_anchor_before = self._row_layout.row_anchor(top)
        self._blocks = blocks
        if not self._width:
            return
        target_anchor = anchor or top_anchor_before
        middle = (
            None
            if self.following or target_anchor is None
            else nearest_block(blocks, target_anchor)
        )
        self._row_layout.lay_out(blocks, self._width, middle)
        self.highlights.lay_out(self._row_layout)
        target = self._row_layout.row_of_anchor(target_anchor) if target_anchor is not None else 0
        if anchor is None:
            self._first_row_number += top - target if top_anchor_before is not None else 0
        elif self.text_selection is not None:
            self.screen.clear_selection()
        with self._programmatic_scroll():
            self._set_height(self._row_layout.total)
            self._go_to_row(self.max_scroll_y if self.following else target)
        self.refresh()
        if self._row_layout.rough and self._refine_timer is None:
            self._refine_timer = self.set_timer(_REFINE_SECONDS, self._refine)

    def _refine(self) -> None:
        """Continue the layout of Markdown that was shown as plain text so far."""
        self._refine_timer = None
        self.relayout()

    @contextmanager
    def _programmatic_scroll(self) -> Iterator[None]:
        """Scroll in this context without changing ``following``."""
        before, self._is_programmatic = self._is_programmatic, True
        try:
            yield
        finally:
            self._is_programmatic = before

    def _set_height(self, rows: int) -> None:
        size = Size(0, rows)
        if self.show_vertical_scrollbar and rows > self.container_size.height:
            # The layout around the view does not depend on the number of rows.
            self.set_reactive(LogView.virtual_size, size)
            update_scrollbars(self, size)
        else:
            self.virtual_size = size

    def _go_to_row(self, number: int) -> None:
        # Forced, because the scrollbar may not exist before the next layout.
        self.scroll_to(y=number, animate=False, force=True)

    def relayout(self, anchor: RowAnchor | EventAnchor | None = None) -> None:
        """Lay out the current blocks again."""
        self.show(self._blocks, anchor)

    def go_to_beginning(self) -> None:
        """Show the first row and stop following."""
        self.following = False
        with self._programmatic_scroll():
            self._go_to_row(0)

    def clear(self) -> None:
        """Reset the view for another log."""
        self._row_layout = RowLayout(self._palette.markdown().rows)
        self.highlights.search(None)
        self.highlights.lay_out(self._row_layout)
        self._cursor, self._first_row_number = None, 0
        self.following = self.at_newest = True
        with self._programmatic_scroll():
            self._go_to_row(0)
        if self.text_selection is not None:
            self.screen.clear_selection()

    def clear_rows(self) -> None:
        """Discard the rows before unrelated blocks of the same log are shown."""
        self._row_layout.lay_out((), self._width or 1)
        self._cursor = None
        if self.text_selection is not None:
            self.screen.clear_selection()

    def top_anchor(self) -> RowAnchor | None:
        """Return the anchor of the row at the top of the screen."""
        return self._row_layout.row_anchor(self.scroll_offset.y)

    def reveal(self, position: RowPosition, *, centre: bool = False) -> None:
        """Scroll to a row if necessary, move the cursor to its block and stop following.

        Args:
            position: The row.
            centre: Scroll even if the row is visible.
        """
        number = self._row_layout.first_row(position.block) + position.row
        self.following = False
        block = self._row_layout.blocks[position.block]
        self._cursor = None if block.kind is BlockKind.GAP else block.first
        if centre or not self.is_row_visible(position):
            with self._programmatic_scroll():
                self._go_to_row(max(0, number - self.size.height // 3))
        self.refresh()
        self.post_message(ViewChanged())

    @property
    def allow_vertical_scroll(self) -> bool:
        # True even before the next layout shows the scrollbar, so that no key is lost.
        return self._row_layout.total > self.size.height

    def on_mount(self) -> None:
        # An animation would miss its target if a page is added before the rows.
        scroll_immediately(self)
        self._palette.reload()
        self._row_layout.invalidate(self._palette.markdown().rows)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._palette.clear()
        # Textual updates the styles of component classes after this call.
        if self._width:
            self.call_later(self._reload_markdown_styles)

    def _reload_markdown_styles(self) -> None:
        # Usually only the focus has changed, which does not affect the rows.
        if self._palette.reload():
            self._row_layout.invalidate(self._palette.markdown().rows)
            self.relayout()

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width - GUTTER_WIDTH
        if width != self._width and width > 0:
            anchor = self.top_anchor()
            self._width = width
            self.relayout(anchor)
        elif self.following:
            with self._programmatic_scroll():
                self._go_to_row(self.max_scroll_y)
        self.post_message(ViewChanged())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._is_programmatic:  # the user scrolled
            self.following = self.at_newest and round(new_value) >= self.max_scroll_y
        self.post_message(ViewChanged())

    # Cursor: moves between blocks that can be folded or link to a file

    @property
    def cursor_block(self) -> Block | None:
        """Block under the cursor."""
        index = self._cursor_index()
        return None if index is None else self._row_layout.blocks[index]

    @property
    def selected_block(self) -> Block | None:
        """Block under the cursor, if it is on the screen."""
        index = self._cursor_index()
        is_visible = index is not None and self._on_screen(index)
        return self._row_layout.blocks[index] if index is not None and is_visible else None

    def _cursor_index(self) -> int | None:
        if self._cursor is None:
            return None
        return next(
            (i for i, block in enumerate(self._row_layout.blocks) if block.first == self._cursor),
            None,
        )

    def _on_screen(self, index: int) -> bool:
        start, top = self._row_layout.first_row(index), self.scroll_offset.y
        return start + len(self._row_layout.rows(index)) > top and start < top + self.size.height

    def move_cursor(self, step: int) -> None:
        """Move the cursor to the next block that can be opened, or for -1 to the previous one."""
        stops = [i for i, block in enumerate(self._row_layout.blocks) if _can_open(block)]
        at = self._cursor_index()
        if at is None or not self._on_screen(at):
            edge = self.screen_edge(step)  # start at the edge of the screen
            at = (edge.block if edge is not None else 0) - step
        ahead = [i for i in stops if (i > at if step > 0 else i < at)]
        if ahead:
            index = ahead[0] if step > 0 else ahead[-1]
            self.reveal(RowPosition(index, 0))

    def open_block(self) -> None:
        """Open the block under the cursor, or the last visible one that can be opened."""
        index = self._cursor_index()
        if index is None or not self._on_screen(index):
            self.move_cursor(-1)
            index = self._cursor_index()
        if index is not None and self._on_screen(index):
            self.post_message(BlockOpened(self._row_layout.blocks[index].first))

    def toggle_fold(self, first: int) -> None:
        """Fold or unfold the block that starts with event ``first``, without scrolling."""
        self.unfolded.symmetric_difference_update({first})
        top = self.top_anchor()
        if self.following:
            self.following = False  # the opened block must stay visible
        self.relayout(top)

    def on_click(self, event: events.Click) -> None:
        if self.text_selection is not None and self.screen.get_selected_text():
            return
        position = self._row_layout.position(event.y + self.scroll_offset.y)
        if position is not None and _can_open(self._row_layout.blocks[position.block]):
            block, row = self._row_layout.blocks[position.block], self._row_layout.row(position)
            if row.path or (not block.paths and (block.files or position.row == 0)):
                self._cursor = block.first
                self.post_message(BlockOpened(block.first, row.path))

    def action_scroll_right(self) -> None:
        raise SkipAction  # no row is wider than the view: let other bindings use the key

    def action_scroll_home(self) -> None:
        self.post_message(EdgeRequested(end=False))

    def action_scroll_end(self) -> None:
        self.post_message(EdgeRequested(end=True))


def _can_open(block: Block) -> bool:
    return block.foldable or bool(block.files) or block.checkpoint is not None
