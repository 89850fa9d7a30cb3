"""List of attachments: one line for each file, directory and MCP server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from beray.transfers.transfer import Transfer
from tui import sanitize, status
from tui.composer import mcp_servers, messages
from tui.composer.attachments import Attachment, inspect_attachment
from tui.composer.listing import display_path
from tui.io import background
from tui.state.task_draft import DraftOrigin, Tool

MUTED: Final = "$foreground 60%"
"""Style of secondary text. ``auto`` colours do not work in ``Content``."""


class AttachmentList(OptionList):
    """List of attachments, MCP servers and the origin; inspects the files in the background.

    Posts ``Removed`` if the user deletes a line.

    Args:
        id: Identifier of the widget.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("delete,backspace", "remove", "Remove", key_display="del")
    ]

    @dataclass(eq=False, repr=False)
    class Removed(Message):
        """Request to remove an attachment, an MCP server or the origin."""

        item: Path | Tool | DraftOrigin

    def __init__(self, id: str) -> None:
        super().__init__(id=id, markup=False, compact=True)
        self._paths: tuple[Path, ...] = ()
        self._tools: tuple[Tool, ...] = ()
        self._origin: DraftOrigin | None = None
        self._inspections: dict[Path, Transfer] = {}
        self._inspected: dict[Path, Attachment] = {}

    @property
    def problem(self) -> str:
        """Reason why one of the files inspected so far cannot be sent, or ""."""
        inspected = filter(None, map(self._inspected.get, self._paths))
        problems = (f"{file.name}: {file.problem}" for file in inspected if file.problem)
        return next(problems, "")

    def show(
        self,
        paths: Sequence[Path],
        tools: Sequence[Tool] = (),
        origin: DraftOrigin | None = None,
    ) -> None:
        """Show attachments. Details of the files appear once they are inspected.

        Args:
            paths: Local files and directories.
            tools: MCP servers.
            origin: Checkpoint that the task continues.
        """
        self._paths, self._tools, self._origin = tuple(paths), tuple(tools), origin
        wanted = set(paths)
        for path in self._inspections.keys() - wanted:
            self._inspections.pop(path).cancel()
            self._inspected.pop(path, None)
        for path in wanted - self._inspections.keys():
            self._inspect(path)
        self._update_options()

    def _update_options(self) -> None:
        at, lines = self.highlighted, self._list_lines()
        self.set_options(Option(line) for line in lines)
        self.display = bool(lines)
        if lines:
            self.highlighted = min(at or 0, len(lines) - 1)

    def _list_lines(self) -> list[Content]:
        files = [_file_line(path, self._inspected.get(path)) for path in self._paths]
        origin = [] if self._origin is None else [_origin_line(self._origin)]
        return origin + files + [_server_line(tool) for tool in self._tools]

    # Inspection of files

    def _inspect(self, path: Path) -> None:
        inspection = self._inspections[path] = Transfer()
        background.run(
            self,
            lambda: messages.AttachmentInspected(
                inspect_attachment(path, lambda: inspection.wait(0))
            ),
            lambda _: messages.InspectionCancelled(),
        )

    def on_attachment_inspected(self, message: messages.AttachmentInspected) -> None:
        message.stop()
        if message.attachment.path in self._inspections:
            self._inspected[message.attachment.path] = message.attachment
            self._update_options()

    def on_inspection_cancelled(self, message: messages.InspectionCancelled) -> None:
        message.stop()

    def on_unmount(self) -> None:
        for inspection in self._inspections.values():
            inspection.cancel()

    def action_remove(self) -> None:
        if self.highlighted is not None:
            items: list[Path | Tool | DraftOrigin] = [*self._paths, *self._tools]
            if self._origin is not None:
                items.insert(0, self._origin)
            self.post_message(self.Removed(items[self.highlighted]))


def _file_line(path: Path, inspected: Attachment | None) -> Content:
    if inspected is None:
        return _assembled("", path.name or str(path), "")
    if inspected.problem:
        return _assembled("?", path.name, inspected.problem, "$text-error")
    place = display_path(path.parent)
    if not inspected.is_dir:
        return _assembled("file", path.name, f"{status.size(inspected.size)}  {place}")
    facts = f"{inspected.files:,} {'file' if inspected.files == 1 else 'files'}"
    facts += f", {status.size(inspected.size)}" if inspected.files else ""
    facts += f", {inspected.left_out:,} skipped" if inspected.left_out else ""
    return _assembled("folder", f"{path.name}/" if path.name else str(path), f"{facts}  {place}")


def _origin_line(origin: DraftOrigin) -> Content:
    return _assembled(
        "from",
        f"task {origin.task} @ {origin.checkpoint}",
        "files, and conversation if any",
    )


def _server_line(tool: Tool) -> Content:
    return _assembled("MCP", mcp_servers.server_name(tool), mcp_servers.server_location(tool))


def _assembled(kind: str, name: str, facts: str, style: str = MUTED) -> Content:
    return Content.assemble(
        (f"{kind:<8}", style), sanitize.line(name, 120), "  ", sanitize.line(facts, 300, style)
    )
