"""View of the changed lines of one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from beray.history_schema import DiffHunk
from tui._textual_compat import scroll_immediately
from tui.diff.drawing import COMPONENT_STYLES, DiffPainter
from tui.diff.layout import DiffLayout, columns
from tui.diff.lines import DiffRow, diff_rows
from tui.diff.messages import LayoutComputed
from tui.io import background

_MAX_LINES_AT_ONCE: Final = 1500
"""Lines of a file up to which the layout is computed without a thread."""
_LEAD_ROWS: Final = 3
"""Rows above a change that was jumped to."""
_NO_BACKGROUND: Final = frozenset({"diff--number", "diff--current"})


class DiffView(ScrollView, can_focus=True):
    """Changed lines of a file, side by side or unified. Draws only the visible rows."""

    BINDING_GROUP_TITLE = "Changes"
    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENT_STYLES)
    DEFAULT_CSS = """
    DiffView {
        height: 1fr; overflow-x: hidden; scrollbar-gutter: stable; scrollbar-size-vertical: 1;
        background: $surface;
        .diff--context { color: $foreground 78%; background: $surface; }
        .diff--added { color: $foreground; background: $success 14%; }
        .diff--deleted { color: $foreground; background: $error 14%; }
        .diff--added-words { color: $foreground; background: $success 40%; text-style: bold; }
        .diff--deleted-words { color: $foreground; background: $error 40%; text-style: bold; }
        .diff--number { color: $foreground 45%; }
        .diff--current { color: $text-primary; text-style: bold; }
        .diff--heading { color: $text-accent; background: $surface; }
        .diff--empty { background: $foreground 4%; }
        .diff--divider { color: $foreground 22%; background: $surface; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        Binding("home,g", "scroll_home", "Top", show=False),
        Binding("end,G", "scroll_end", "End", show=False),
        Binding("space", "page_down", "Page down", show=False),
    ]

    class Changed(Message):
        """The view shows another change, or its layout was computed."""

        def can_replace(self, message: Message) -> bool:
            return isinstance(message, DiffView.Changed)

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._hunks: Sequence[DiffHunk] = ()
        self._side_by_side = False
        self._width = 0
        self._layout: DiffLayout | None = None
        self._painter: DiffPainter | None = None
        self._styles: dict[str, Style] = {}
        self._request = 0
        self._current: int | None = None
        """Index of the current change."""
        self._current_rows = range(0)
        """Indices of the logical rows of the current change."""
        self._wanted_change: int | None = None
        """Change to show once the layout is computed; -1 for the last one."""

    @property
    def row_texts(self) -> list[str]:
        """Text of every row on the screen and below it."""
        layout, painter = self._layout, self._painter
        if layout is None or painter is None:
            return []
        strips = (painter.strip(number, range(0)) for number in range(layout.total))
        return [strip.text.rstrip() for strip in strips if strip is not None]

    @property
    def is_ready(self) -> bool:
        """True once the layout of the current file is computed."""
        return self._layout is not None

    @property
    def change(self) -> tuple[int, int]:
        """Number of the current change, starting at 1 (0 for none), and number of all changes."""
        total = len(self._layout.changes) if self._layout is not None else 0
        return 0 if self._current is None else self._current + 1, total

    # Content

    def show(self, hunks: Sequence[DiffHunk], *, side_by_side: bool, change: int = 0) -> None:
        """Show another file.

        Args:
            hunks: Changes of the file.
            side_by_side: Whether old and new lines are on the same row.
            change: Index of the change to show first; -1 for the last one.
        """
        self._hunks, self._side_by_side = hunks, side_by_side
        self._current, self._current_rows, self._wanted_change = None, range(0), change
        self._layout = self._painter = None
        self.scroll_to(y=0, animate=False, force=True)
        self._lay_out()

    def set_side_by_side(self, side_by_side: bool) -> None:
        """Change the arrangement of the lines; the line at the top and the change are kept."""
        if side_by_side != self._side_by_side:
            self._side_by_side = side_by_side
            self._lay_out()

    def _lay_out(self) -> None:
        self._request += 1
        if not self._width:
            return
        request, hunks = self._request, self._hunks
        width, side_by_side = self._width, self._side_by_side
        if sum(len(hunk["lines"]) for hunk in hunks) <= _MAX_LINES_AT_ONCE:
            self._use(_layout(hunks, width, side_by_side=side_by_side))
            return
        self.refresh()
        background.run(
            self,
            lambda: LayoutComputed(request, _layout(hunks, width, side_by_side=side_by_side)),
            _unexpected,
        )

    def on_layout_computed(self, message: LayoutComputed) -> None:
        message.stop()
        if message.request == self._request:
            self._use(message.layout)

    def _use(self, layout: DiffLayout) -> None:
        before, top = self._layout, self.scroll_offset.y
        anchor = before.locate(top) if before is not None else None
        self._layout, self._painter = layout, DiffPainter(layout, self._style_of)
        self._current_rows = self._rows_of_change(self._current)
        self.virtual_size = Size(0, layout.total)
        if before is not None and anchor is not None:
            index = _row_with_line(layout.rows, before.rows[anchor[0]])
            self.scroll_to(y=layout.first_row(index), animate=False, force=True)
        elif self._wanted_change is not None and layout.changes:
            wanted = self._wanted_change
            self.go_to_change(wanted if wanted >= 0 else len(layout.changes) + wanted)
        self._wanted_change = None
        self.refresh()
        self.post_message(self.Changed())

    # Changes

    def next_change(self, step: int) -> bool:
        """Go to the next change, or for -1 to the previous one.

        Returns:
            Whether there was one; also True while the layout is being computed.
        """
        layout = self._layout
        if layout is None:
            return bool(self._hunks)
        top = self.scroll_offset.y
        if self._current is not None and self._is_visible(layout.changes[self._current]):
            index: int | None = self._current + step
        elif step > 0:
            index = layout.next_change(top - 1, step)
        else:
            index = layout.next_change(top + self.size.height, step)
        if index is None or not 0 <= index < len(layout.changes):
            return False
        self.go_to_change(index)
        return True

    def _is_visible(self, number: int) -> bool:
        return 0 <= number - self.scroll_offset.y < self.size.height

    def go_to_change(self, index: int) -> None:
        """Make a change the current one, and scroll to it if it is not completely visible."""
        layout = self._layout
        assert layout is not None
        self._current, self._current_rows = index, self._rows_of_change(index)
        first = layout.changes[index]
        last = layout.first_row(self._current_rows[-1])
        if not (self._is_visible(first) and self._is_visible(last)):
            self.scroll_to(y=max(0, first - _LEAD_ROWS), animate=False, force=True)
        self.refresh()
        self.post_message(self.Changed())

    def _rows_of_change(self, index: int | None) -> range:
        """Return the indices of the logical rows of a change."""
        layout = self._layout
        if layout is None or index is None or index >= len(layout.changes):
            return range(0)
        found = layout.locate(layout.changes[index])
        assert found is not None
        first = last = found[0]
        while last < len(layout.rows) and _is_changed(layout.rows[last]):
            last += 1
        return range(first, last)

    # Drawing

    def _style_of(self, name: str) -> Style:
        style = self._styles.get(name)
        if style is None:
            style = self.get_component_rich_style(name)
            if name in _NO_BACKGROUND:
                style = Style(color=style.color, bold=style.bold)
            self._styles[name] = style
        return style

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self.call_later(self._reload_styles)

    def _reload_styles(self) -> None:
        # Usually only the focus has changed, which does not affect the rows.
        before, self._styles = self._styles, {}
        if self._layout is not None and any(
            self._style_of(name) != before[name] for name in before
        ):
            self._painter = DiffPainter(self._layout, self._style_of)
            self.refresh()

    def on_mount(self) -> None:
        # An animation would draw many rows on its way.
        scroll_immediately(self)

    def on_resize(self, event: Resize) -> None:
        width = self.scrollable_content_region.width
        if width != self._width:
            self._width = width
            self._lay_out()

    @property
    def allow_vertical_scroll(self) -> bool:
        # True even before the next layout shows the scrollbar, so that no key is lost.
        return self._layout is not None and self._layout.total > self.size.height

    def render_line(self, y: int) -> Strip:
        base, width = self.rich_style, self.size.width
        if self._painter is None:
            return Strip.blank(width, base)
        strip = self._painter.strip(self.scroll_offset.y + y, self._current_rows)
        return strip.adjust_cell_length(width, base) if strip else Strip.blank(width, base)


def _layout(hunks: Sequence[DiffHunk], width: int, *, side_by_side: bool) -> DiffLayout:
    last = max(
        (
            max(hunk["old_start"] + hunk["old_lines"], hunk["new_start"] + hunk["new_lines"])
            for hunk in hunks
        ),
        default=0,
    )
    return DiffLayout(
        diff_rows(hunks, side_by_side=side_by_side), columns(width, last, side_by_side=side_by_side)
    )


def _unexpected(error: Exception) -> Message:
    raise error  # computing a layout does no I/O


def _is_changed(row: DiffRow) -> bool:
    return not row.note and row.old is not row.new


def _row_with_line(rows: Sequence[DiffRow], wanted: DiffRow) -> int:
    """Return the index of the row with a line of another row, or with the same note."""
    if wanted.note:
        return next((i for i, row in enumerate(rows) if row.note == wanted.note), 0)
    if wanted.new is not None:
        new = wanted.new.new
        return next((i for i, row in enumerate(rows) if row.new and row.new.new == new), 0)
    old = wanted.old.old if wanted.old is not None else 0
    return next((i for i, row in enumerate(rows) if row.old and row.old.old == old), 0)
