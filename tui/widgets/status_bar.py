"""Status bar: application name, server, account and connection state."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from beray.config import Target
from tui import sanitize
from tui.state.tasks import ConnectionState
from tui.widgets.drawing import update_label

_STATES = {
    ConnectionState.CONNECTING: ("◌ connecting", "connecting"),
    ConnectionState.ONLINE: ("● online", "online"),
    ConnectionState.OFFLINE: ("○ offline", "offline"),
    ConnectionState.REFUSED: ("○ server error", "offline"),
}


class StatusBar(Horizontal):
    """Top line of a screen."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def compose(self) -> ComposeResult:
        yield Static(" BeRay ", id="brand", markup=False)
        yield Static(self._where(), id="where", markup=False)
        text, name = _STATES[ConnectionState.CONNECTING]
        yield Static(Content(text), id="connection", classes=name, markup=False)

    def _where(self) -> Content:
        target = self._target
        server = "local server" if target.embedded else target.profile
        parts = [sanitize.line(server, 60).stylize("bold")]
        if target.profile != target.url.rpartition("//")[2]:
            parts.append(sanitize.line(target.url, 120))
        if target.email and not target.embedded:
            parts.append(sanitize.line(target.email, 120))
        return Content("  ").join(parts)

    def show_target(self, target: Target) -> None:
        """Show another server or account."""
        self._target = target
        # Before it is composed, the query is empty and ``compose`` uses the new target.
        for where in self.query("#where").results(Static):
            where.update(self._where())

    def show(self, connection: ConnectionState, retry_in: int | None = None) -> None:
        """Show the state of the connection; ``retry_in`` is the time to the next attempt."""
        text, name = _STATES[connection]
        if retry_in is not None and retry_in > 0:
            text += f" · retry in {retry_in} s"
        update_label(self.query_one("#connection", Static), Content(text), name)
