"""Dialog to edit the MCP servers of a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui import sanitize
from tui.composer import mcp_servers
from tui.composer.attachment_list import AttachmentList
from tui.composer.sanitized_input import SanitizedInput
from tui.state.task_draft import Tool


class McpServersScreen(ModalScreen[list[Tool] | None]):
    """Dialog that returns the edited list of MCP servers.

    Args:
        tools: The current MCP servers of the task.
    """

    CSS_PATH = "picker.tcss"
    AUTO_FOCUS = "SanitizedInput"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Done")]

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__()
        self._tools = list(tools)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog picker") as dialog:
            dialog.border_title = "MCP servers"
            dialog.border_subtitle = "enter adds · del on a line removes · esc closes"
            yield Static(
                "A name and a URL, a name that the operator has defined, or JSON",
                classes="hint",
                markup=False,
            )
            yield SanitizedInput(placeholder="docs https://example.org/mcp", id="server")
            yield Static(classes="notice problem", markup=False)
            yield AttachmentList("servers")

    def on_mount(self) -> None:
        self._update()

    def _update(self, problem: str = "") -> None:
        self.query_one(AttachmentList).show((), self._tools)
        notice = self.query_one(".notice", Static)
        notice.update(sanitize.line(problem))
        notice.display = bool(problem)

    @on(Input.Submitted)
    def _add(self) -> None:
        text_input = self.query_one(SanitizedInput)
        if not text_input.value.strip():
            self.dismiss(self._tools)
            return
        try:
            self._tools = mcp_servers.merge_servers(
                self._tools, mcp_servers.parse_servers(text_input.value)
            )
        except mcp_servers.InvalidServer as error:
            self._update(str(error))
            return
        text_input.value = ""
        self._update()

    @on(Input.Changed)
    def _typing(self) -> None:
        self.query_one(".notice", Static).display = False

    def on_attachment_list_removed(self, message: AttachmentList.Removed) -> None:
        item = message.item
        self._tools = [tool for tool in self._tools if tool is not item]
        if not self._tools:
            self.set_focus(self.query_one(SanitizedInput))
        self._update()

    def action_leave(self) -> None:
        self.dismiss(self._tools)
