"""The view of the log: what it shows, where it is scrolled to, and its cursor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from textual import events
from textual.actions import SkipAction
from textual.geometry import Size
from textual.timer import Timer

from tui.log.messages import BlockOpened, EdgeWanted, ViewMoved
from tui.log.model.blocks import Block, Kind
from tui.log.render.renderer import Drawing
from tui.log.render.row_layout import Anchor, Place, Sheet, Spot, near
from tui.log.render.row_segments import GUTTER

_REFINE_SECONDS: Final = 0.02


class LogView(Drawing, can_focus=True):
    """Shows blocks, and follows their end unless the reader has scrolled up."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.following = True
        self.at_newest = True
        """Whether the last block shown is the newest there is."""
        self._blocks: Sequence[Block] = ()
        self._width = 0
        self._placing = False
        self._refining: Timer | None = None

    # What is shown

    def show(self, blocks: Sequence[Block], anchor: Anchor | Spot | None = None) -> None:
        """Show ``blocks``; the rows on the screen stay where they are.

        Args:
            anchor: the row to have at the top instead.
        """
        top = self.scroll_offset.y
        seen = self._sheet.anchor(top)
        self._blocks = blocks
        if not self._width:
            return
        moved = anchor or seen
        middle = None if self.following or moved is None else near(blocks, moved)
        self._sheet.lay_out(blocks, self._width, middle)
        self.marks.lay_out(self._sheet)
        target = self._sheet.find(moved) if moved is not None else 0
        if anchor is None:
            self._origin += top - target if seen is not None else 0
        elif self.text_selection is not None:
            self.screen.clear_selection()
        with self._moving():
            self._set_height(self._sheet.total)
            self._go_to_row(self.max_scroll_y if self.following else target)
        self.refresh()
        if self._sheet.rough and self._refining is None:
            self._refining = self.set_timer(_REFINE_SECONDS, self._refine)

    def _refine(self) -> None:
        """Go on with what was laid out roughly, when there is time."""
        self._refining = None
        self.again()

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Whatever scrolls in here does not count as the reader's doing."""
        before, self._placing = self._placing, True
        try:
            yield
        finally:
            self._placing = before

    def _set_height(self, rows: int) -> None:
        size = Size(0, rows)
        if self.show_vertical_scrollbar and rows > self.container_size.height:
            # Nothing around the view has to be laid out for rows that are more or less.
            self.set_reactive(LogView.virtual_size, size)
            self._scroll_update(size)
        else:
            self.virtual_size = size

    def _go_to_row(self, number: int) -> None:
        # Forced: the scrollbar that allows it may not be there before the next layout.
        self.scroll_to(y=number, animate=False, force=True)

    def again(self, anchor: Anchor | Spot | None = None) -> None:
        """Lay out what is shown anew."""
        self.show(self._blocks, anchor)

    def go_to_beginning(self) -> None:
        """Show the first row, and stop following."""
        self.following = False
        with self._moving():
            self._go_to_row(0)

    def clear(self) -> None:
        """Another log: nothing of this one is kept."""
        self._sheet = Sheet(self._palette.markdown().rows)
        self.marks.lay_out(self._sheet)
        self._cursor, self._origin = None, 0
        self.following = self.at_newest = True
        with self._moving():
            self._go_to_row(0)
        if self.text_selection is not None:
            self.screen.clear_selection()

    def clear_place(self) -> None:
        """Another selection of the same log: the rows have nothing in common."""
        self._sheet.lay_out((), self._width or 1)
        self._cursor = None
        if self.text_selection is not None:
            self.screen.clear_selection()

    def top_anchor(self) -> Anchor | None:
        return self._sheet.anchor(self.scroll_offset.y)

    def point_at(self, place: Place, *, centre: bool = False) -> None:
        """Bring a row on the screen, with some around it, and stop following."""
        number = self._sheet.start(place.block) + place.row
        self.following = False
        block = self._sheet.blocks[place.block]
        self._cursor = None if block.kind is Kind.GAP else block.first
        if centre or not self.shows(place):
            with self._moving():
                self._go_to_row(max(0, number - self.size.height // 3))
        self.refresh()

    @property
    def allow_vertical_scroll(self) -> bool:
        # Also before the next layout, which shows the scrollbar: no key is lost.
        return self._sheet.total > self.size.height

    def _scroll_to(self, x: Any = None, y: Any = None, **options: Any) -> bool:
        # At once: an animation would land elsewhere after a page has been put before the rows.
        return super()._scroll_to(x, y, **{**options, "animate": False, "force": True})

    def on_mount(self) -> None:
        self._palette.forget()
        self._sheet.forget(self._palette.markdown().rows)

    def notify_style_update(self) -> None:
        super().notify_style_update()
        # Most often this is a change of focus: then no row looks different.
        if self._width and self._palette.forget():
            self._sheet.forget(self._palette.markdown().rows)
            self.call_later(self.again)

    def on_resize(self, event: events.Resize) -> None:
        width = self.scrollable_content_region.width - GUTTER
        if width != self._width and width > 0:
            anchor = self.top_anchor()
            self._width = width
            self.again(anchor)
        elif self.following:
            with self._moving():
                self._go_to_row(self.max_scroll_y)
        self.post_message(ViewMoved())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if not self._placing:  # the reader did it
            self.following = self.at_newest and round(new_value) >= self.max_scroll_y
        self.post_message(ViewMoved())

    # The cursor: on the blocks that can be folded or lead somewhere

    @property
    def cursor_block(self) -> Block | None:
        index = self._cursor_index()
        return None if index is None else self._sheet.blocks[index]

    def _cursor_index(self) -> int | None:
        if self._cursor is None:
            return None
        return next(
            (i for i, block in enumerate(self._sheet.blocks) if block.first == self._cursor), None
        )

    def _on_screen(self, index: int) -> bool:
        start, top = self._sheet.start(index), self.scroll_offset.y
        return start + len(self._sheet.rows(index)) > top and start < top + self.size.height

    def move_cursor(self, step: int) -> None:
        stops = [i for i, block in enumerate(self._sheet.blocks) if _opens(block)]
        at = self._cursor_index()
        if at is None or not self._on_screen(at):
            edge = self.edge(step)  # from the edge of the screen on
            at = (edge.block if edge is not None else 0) - step
        ahead = [i for i in stops if (i > at if step > 0 else i < at)]
        if ahead:
            index = ahead[0] if step > 0 else ahead[-1]
            self.point_at(Place(index, 0))

    def open_block(self) -> None:
        index = self._cursor_index()
        if index is None or not self._on_screen(index):
            self.move_cursor(-1)
            index = self._cursor_index()
        if index is not None and self._on_screen(index):
            self.post_message(BlockOpened(self._sheet.blocks[index].first))

    def fold(self, first: int) -> None:
        """Fold or unfold the block that begins with event ``first``, where it stands."""
        self.unfolded.symmetric_difference_update({first})
        top = self.top_anchor()
        if self.following:
            self.following = False  # what was opened is to be seen
        self.again(top)

    def on_click(self, event: events.Click) -> None:
        if self.text_selection is not None and self.screen.get_selected_text():
            return
        place = self._sheet.place(event.y + self.scroll_offset.y)
        if place is not None and _opens(self._sheet.blocks[place.block]):
            block, row = self._sheet.blocks[place.block], self._sheet.row(place)
            if row.path or (not block.paths and (block.files or place.row == 0)):
                self._cursor = block.first
                self.post_message(BlockOpened(block.first, row.path))

    def action_scroll_right(self) -> None:
        raise SkipAction  # nothing is wider than the view: the key is for others

    def action_scroll_home(self) -> None:
        self.post_message(EdgeWanted(end=False))

    def action_scroll_end(self) -> None:
        self.post_message(EdgeWanted(end=True))


def _opens(block: Block) -> bool:
    return block.foldable or bool(block.files)
