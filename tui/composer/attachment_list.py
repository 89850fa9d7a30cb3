"""What goes with a goal: one line for each file, folder and MCP server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from beray.transfers.transfer import Transfer
from tui import sanitize, status
from tui.composer import messages, servers
from tui.composer.attachments import Attachment, look_at
from tui.composer.listing import shown_folder
from tui.composer.task_draft import Tool
from tui.io import background

MUTED: Final = "$foreground 60%"
"""Text on the surface that is beside the point; ``auto`` colours do not work in content."""


class Enclosed(OptionList):
    """Looks at what it shows; gives ``Removed`` for the line on which delete was pressed."""

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
        self._paths: tuple[Path, ...] = ()
        self._tools: tuple[Tool, ...] = ()
        self._looks: dict[Path, Transfer] = {}
        self._looked_at: dict[Path, Attachment] = {}

    @property
    def problem(self) -> str:
        """Why one of the files cannot be sent, as far as they have been looked at."""
        found = (self._looked_at.get(path) for path in self._paths)
        return next((f"{one.name}: {one.problem}" for one in found if one and one.problem), "")

    def show(self, paths: Sequence[Path], tools: Sequence[Tool] = ()) -> None:
        """Show these, and what they hold as soon as it is known."""
        self._paths, self._tools = tuple(paths), tuple(tools)
        wanted = set(paths)
        for path in self._looks.keys() - wanted:
            self._looks.pop(path).cancel()
            self._looked_at.pop(path, None)
        for path in wanted - self._looks.keys():
            self._look_at(path)
        self._show()

    def _show(self) -> None:
        at, lines = self.highlighted, self._listed()
        self.set_options(Option(line) for line in lines)
        self.display = bool(lines)
        if lines:
            self.highlighted = min(at or 0, len(lines) - 1)

    def _listed(self) -> list[Content]:
        files = [_file_line(path, self._looked_at.get(path)) for path in self._paths]
        return files + [_server_line(tool) for tool in self._tools]

    # Looking at files

    def _look_at(self, path: Path) -> None:
        look = self._looks[path] = Transfer()
        background.run(
            self,
            lambda: messages.LookedAt(look_at(path, lambda: look.wait(0))),
            lambda _: messages.LookCalledOff(),
        )

    def on_looked_at(self, message: messages.LookedAt) -> None:
        message.stop()
        if message.attachment.path in self._looks:
            self._looked_at[message.attachment.path] = message.attachment
            self._show()

    def on_look_called_off(self, message: messages.LookCalledOff) -> None:
        message.stop()

    def on_unmount(self) -> None:
        for look in self._looks.values():
            look.cancel()

    def action_remove(self) -> None:
        if self.highlighted is not None:
            items: list[Path | Tool] = [*self._paths, *self._tools]
            self.post_message(self.Removed(items[self.highlighted]))


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
        (f"{kind:<8}", style), sanitize.line(name, 120), "  ", sanitize.line(facts, 300, style)
    )
