"""The first line: what this is, where it is connected to, as whom, and whether it is."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from beray.config import Target
from tui import sanitize
from tui.state.tasks import Connection
from tui.widgets.words import tell

_STATES = {
    Connection.CONNECTING: ("◌ connecting", "connecting"),
    Connection.ONLINE: ("● online", "online"),
    Connection.OFFLINE: ("○ offline", "offline"),
    Connection.REFUSED: ("○ server error", "offline"),
}


class StatusBar(Horizontal):
    """Is given the target and the state of the connection, and both as they change."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target

    def compose(self) -> ComposeResult:
        yield Static(" BeRay ", id="brand", markup=False)
        yield Static(self._where(), id="where", markup=False)
        words, name = _STATES[Connection.CONNECTING]
        yield Static(Content(words), id="connection", classes=name, markup=False)

    def _where(self) -> Content:
        target = self._target
        server = "own server" if target.embedded else target.profile
        parts = [sanitize.line(server, 60).stylize("bold")]
        if target.profile != target.url.rpartition("//")[2]:
            parts.append(sanitize.line(target.url, 120))
        if target.email and not target.embedded:
            parts.append(sanitize.line(target.email, 120))
        return Content("  ").join(parts)

    def show_target(self, target: Target) -> None:
        self._target = target
        # One that is not composed yet has it from the beginning.
        for where in self.query("#where").results(Static):
            where.update(self._where())

    def show(self, connection: Connection, retry_in: int | None = None) -> None:
        """Show the state; ``retry_in`` says in how many seconds the server is asked again."""
        words, name = _STATES[connection]
        if retry_in is not None and retry_in > 0:
            words += f" · again in {retry_in} s"
        tell(self.query_one("#connection", Static), Content(words), name)
