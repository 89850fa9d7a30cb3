"""The MCP servers that a task may use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui import sanitize
from tui.composer import servers
from tui.composer.attachment_list import Enclosed
from tui.composer.sanitized_input import Line
from tui.composer.task_draft import Tool


class ServersScreen(ModalScreen[list[Tool] | None]):
    """Gives the servers as they are wanted; an entry that was begun and not added is asked for."""

    CSS_PATH = "choosing.tcss"
    AUTO_FOCUS = "Line"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Done")]

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__()
        self._tools = list(tools)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog choosing") as dialog:
            dialog.border_title = "MCP servers"
            dialog.border_subtitle = "enter adds · del on a line removes · esc is done"
            yield Static(
                "A name and an address, a name that the server defines, or JSON",
                classes="hint",
                markup=False,
            )
            yield Line(placeholder="docs https://example.org/mcp", id="server")
            yield Static(classes="nothing problem", markup=False)
            yield Enclosed("servers")

    def on_mount(self) -> None:
        self._show()

    def _show(self, problem: str = "") -> None:
        self.query_one(Enclosed).show((), self._tools)
        nothing = self.query_one(".nothing", Static)
        nothing.update(sanitize.line(problem))
        nothing.display = bool(problem)

    @on(Input.Submitted)
    def _add(self) -> None:
        line = self.query_one(Line)
        if not line.value.strip():
            self.dismiss(self._tools)
            return
        try:
            self._tools = servers.with_servers(self._tools, servers.parsed(line.value))
        except servers.Unusable as refusal:
            self._show(str(refusal))
            return
        line.value = ""
        self._show()

    @on(Input.Changed)
    def _typing(self) -> None:
        self.query_one(".nothing", Static).display = False

    def on_enclosed_removed(self, message: Enclosed.Removed) -> None:
        item: Path | Tool = message.item
        self._tools = [tool for tool in self._tools if tool is not item]
        if not self._tools:
            self.set_focus(self.query_one(Line))
        self._show()

    def action_leave(self) -> None:
        self.dismiss(self._tools)
