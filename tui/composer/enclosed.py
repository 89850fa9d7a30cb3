"""What goes with a goal: one line for each file, folder and MCP server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui import safe, status
from tui.composer import servers
from tui.composer.attachments import Attachment
from tui.composer.listing import shown_folder
from tui.composer.order import Tool

MUTED: Final = "$foreground 60%"
"""Text on the surface that is beside the point; ``auto`` colours do not work in content."""


class Enclosed(OptionList):
    """Gives ``Removed`` for the line on which delete was pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("delete,backspace", "remove", "Remove", key_display="del")
    ]

    class Removed(Message):
        """An attachment or a server is not wanted any more."""

        def __init__(self, item: Path | Tool) -> None:
            super().__init__()
            self.item = item

    def __init__(self, id: str) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._items: list[Path | Tool] = []

    def show(
        self,
        attachments: Sequence[Path],
        tools: Sequence[Tool],
        looked_at: Mapping[Path, Attachment],
    ) -> None:
        """Show these, with what is known about them."""
        at = self.highlighted
        self._items = [*attachments, *tools]
        lines = [_file_line(path, looked_at.get(path)) for path in attachments]
        lines += [_server_line(tool) for tool in tools]
        self.set_options(Option(line) for line in lines)
        self.display = bool(lines)
        if lines:
            self.highlighted = min(at or 0, len(lines) - 1)

    def action_remove(self) -> None:
        if self.highlighted is not None:
            self.post_message(self.Removed(self._items[self.highlighted]))


def _file_line(path: Path, found: Attachment | None) -> Content:
    if found is None:
        return _assembled("", path.name or str(path), "")
    if found.problem:
        return _assembled("?", path.name, found.problem, "$text-error")
    place = shown_folder(path.parent)
    if not found.is_folder:
        return _assembled("file", path.name, f"{status.size(found.size)}  {place}")
    facts = f"{found.files:,} {'file' if found.files == 1 else 'files'}"
    facts += f", {status.size(found.size)}" if found.files else ""
    facts += f", {found.left_out:,} left out" if found.left_out else ""
    return _assembled("folder", f"{path.name}/" if path.name else str(path), f"{facts}  {place}")


def _server_line(tool: Tool) -> Content:
    return _assembled("MCP", servers.name_of(tool), servers.place_of(tool))


def _assembled(kind: str, name: str, facts: str, style: str = MUTED) -> Content:
    return Content.assemble(
        (f"{kind:<8}", style), safe.line(name, 120), "  ", safe.line(facts, 300, style)
    )
