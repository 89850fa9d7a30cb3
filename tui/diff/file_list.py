"""List of the changed files of a diff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from beray.history_schema import FileDiff
from beray.sanitize import one_line
from tui import sanitize
from tui.diff.file_facts import MARK_STYLES, change_mark, counts
from tui.widgets.drawing import background_style, foreground_style

_PATH_CELLS: Final = 10
"""Minimum width of a path beside the counts."""
_MAX_PATH_CHARS: Final = 1000


class ChangedFileList(ScrollView, can_focus=True):
    """List of changed files with a cursor. Draws only the visible rows."""

    BINDING_GROUP_TITLE = "Changed files"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "changed-files--cursor",
        "changed-files--folder",
        *MARK_STYLES,
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "edge(-1)", "First", show=False),
        Binding("end,G", "edge(1)", "Last", show=False),
        Binding("enter,right", "open", "Changes", show=False),
    ]

    @dataclass(eq=False, repr=False)
    class Highlighted(Message):
        """The cursor is on another file."""

        index: int

    class Opened(Message):
        """The user wants to read the changes of the file under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._files: Sequence[FileDiff] = ()
        self._end = ""
        self._cursor = 0

    @property
    def cursor(self) -> int:
        """Index of the file under the cursor."""
        return self._cursor

    def show(self, files: Sequence[FileDiff], cursor: int = 0, end: str = "") -> None:
        """Show ``files`` with the cursor on one of them.

        Args:
            files: The files.
            cursor: Index of the file under the cursor.
            end: Text after the last file, or "".
        """
        self._files, self._cursor, self._end = files, cursor, end
        self.virtual_size = Size(0, len(files) + bool(end))
        self.refresh()
        self._scroll_to_cursor()

    def on_resize(self, event: Resize) -> None:
        self._scroll_to_cursor()

    def action_move(self, by: int) -> None:
        self.move_to(self._cursor + by)

    def action_page(self, by: int) -> None:
        self.move_to(self._cursor + by * max(1, self.size.height - 1))

    def action_edge(self, side: int) -> None:
        self.move_to(0 if side < 0 else len(self._files) - 1)

    def action_open(self) -> None:
        self.post_message(self.Opened())

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None:
            self.move_to(min(offset.y + self.scroll_offset.y, len(self._files) - 1))
            if event.chain == 2:
                self.action_open()

    def move_to(self, index: int) -> None:
        """Move the cursor to a file; an index beyond an end means the file at this end."""
        index = max(0, min(index, len(self._files) - 1))
        if self._files and index != self._cursor:
            self._cursor = index
            self._scroll_to_cursor()
            self.refresh()
            self.post_message(self.Highlighted(index))

    def _scroll_to_cursor(self) -> None:
        self.scroll_to_region(Region(0, self._cursor, 1, 1), animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        index = self.scroll_offset.y + y
        base = self.rich_style
        width = self.scrollable_content_region.width
        if index == len(self._files) and self._end:
            muted = base + foreground_style(self, "changed-files--folder")
            end = sanitize.fitted(self._end, width)
            return Strip([Segment(end, muted)]).adjust_cell_length(self.size.width, base)
        if index >= len(self._files):
            return Strip.blank(self.size.width, base)
        if index == self._cursor:
            base += background_style(self, "changed-files--cursor")
        segments = self._row(self._files[index], width, base)
        return Strip(segments).adjust_cell_length(self.size.width, base)

    def _row(self, file: FileDiff, width: int, base: Style) -> list[Segment]:
        mark = change_mark(file["change"])
        added = counts(file.get("lines_added"), None)
        deleted = counts(None, file.get("lines_deleted"))
        numbers = [part for part in (added, deleted) if part]
        numbers_width = sum(len(part) + 1 for part in numbers)
        if width - 2 - numbers_width < _PATH_CELLS:
            numbers, numbers_width = [], 0
        state = file.get("new") or file.get("old")
        path = f"{file['path']}/" if state and state["type"] == "directory" else file["path"]
        folder, name = path_parts(path, width - 2 - numbers_width)
        room = width - 2 - numbers_width - cell_len(folder) - cell_len(name)
        segments = [
            Segment(f"{mark.letter} ", base + foreground_style(self, mark.style)),
            Segment(folder, base + foreground_style(self, "changed-files--folder")),
            Segment(name + " " * room, base),
        ]
        for part in numbers:
            style = "change--added" if part is added else "change--deleted"
            segments.append(Segment(f" {part}", base + foreground_style(self, style)))
        return segments


def path_parts(path: str, width: int) -> tuple[str, str]:
    """Return the directory and the name of a path in at most ``width`` cells.

    If the path is too long, the start of the directory is omitted first, then the end of the name.
    """
    shown = one_line(path, _MAX_PATH_CHARS)
    name = shown[shown.rstrip("/").rfind("/") + 1 :]
    folder = shown[: len(shown) - len(name)]
    left = width - cell_len(name)
    if left < 0:
        return "", sanitize.fitted(name, width)
    if cell_len(folder) <= left:
        return folder, name
    if left < 2:
        return "", name
    while folder and cell_len(folder) > left - 1:
        folder = folder[1:]
    return f"…{folder}", name
