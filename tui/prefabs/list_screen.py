"""Screen that lists the prefabs of the server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import ContentSwitcher, OptionList, Static
from textual.widgets.option_list import Option

from beray.exceptions import APIError, AuthenticationError, InvalidResponseError, NotFoundError
from beray.sanitize import one_line
from tui import messages, sanitize
from tui.composer.attachment_list import MUTED
from tui.io import background
from tui.prefabs import details, report
from tui.prefabs.call_screen import CallScreen
from tui.prefabs.messages import PrefabsArrived, PrefabsFailed, SpecArrived, SpecFailed
from tui.prefabs.report_view import ReportView
from tui.prefabs.run_registry import RunRegistry
from tui.prefabs.spec import DEPLOYED, PrefabSpec, PrefabSummary, spec, summary
from tui.state.tasks import ConnectionState
from tui.widgets.key_footer import KeyFooter
from tui.widgets.status_bar import StatusBar

if TYPE_CHECKING:
    from beray.gateway import GatewayClient

_SETTLE_SECONDS: Final = 0.12
"""Time for which the cursor must rest on a prefab before its spec is read."""
_NO_PREFABS: Final = Content.assemble(
    ("No prefabs yet\n\n", "bold"),
    "A prefab is a small versioned service with named functions\n"
    "that take files and return files.\n\n",
    ("beray prefab new ID", "$text-primary"),
    " creates a working example.\n",
    ("beray prefab add FOLDER", "$text-primary"),
    " uploads it to the server.\n\n",
    ("Press f5 to reload.", MUTED),
)
_NO_GATEWAY: Final = Content.from_markup(
    "[b]This server has no prefabs[/b]\n\n"
    "It runs tasks only.\nYour local server has prefabs: press f3 to switch to it."
)


class PrefabRow(NamedTuple):
    """Row of the list: a prefab, or one of its functions."""

    summary: PrefabSummary
    function: str = ""


class PrefabOptionList(OptionList):
    """List of prefabs and their functions."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "select", "Call", tooltip="Open the form of the function"),
    ]

    def __init__(self) -> None:
        super().__init__(id="prefab-list", markup=False, compact=True)

    def on_resize(self) -> None:
        # Line positions are known only after the next layout.
        self.call_after_refresh(self.scroll_to_highlight)


def rows(found: list[PrefabSummary]) -> list[PrefabRow]:
    """Return a row for each prefab, followed by rows for its functions."""
    return [
        PrefabRow(one, function)
        for one in found
        for function in ("", *dict.fromkeys(one.functions))
    ]


class PrefabsScreen(Screen[None]):
    """List of prefabs with a description of the selected one."""

    CSS_PATH = "list_screen.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "version", "Version", tooltip="Show another version of the prefab"),
        Binding("f5", "read", "Reload", tooltip="Read the prefabs again"),
        Binding("escape", "dismiss", "Tasks", tooltip="Go back; active runs continue"),
        Binding("question_mark", "help", "Help", key_display="?", tooltip="Keys and symbols"),
        Binding("q", "app.quit", "Quit", show=False),
    ]

    def __init__(self, registry: RunRegistry) -> None:
        super().__init__()
        self._registry = registry
        self.rows: list[PrefabRow] = []
        self._specs: dict[tuple[str, str], PrefabSpec | Exception] = {}
        """Specs by id and version, or the exception of a failed request."""
        self._versions: dict[str, str] = {}
        """Displayed version by prefab id, if it is not the newest."""
        self._settling: Timer | None = None
        self._asked: set[tuple[str, str]] = set()

    # Composition

    def compose(self) -> ComposeResult:
        yield StatusBar(self._registry.target)
        with ContentSwitcher(initial="prefabs-note", id="prefabs-body"):
            yield Static("Loading prefabs …", id="prefabs-note", classes="note", markup=False)
            with Container(id="prefabs"):
                yield PrefabOptionList()
                yield ReportView(id="prefab-spec")
        yield KeyFooter(compact=True)

    def on_mount(self) -> None:
        self.action_read()

    def action_read(self) -> None:
        """Read the list and the displayed spec again."""
        gateway = self._registry.gateway
        self._specs.clear()
        self._asked.clear()
        background.run(self, lambda: PrefabsArrived(list(gateway.list_prefabs())), PrefabsFailed)

    def on_client_replaced(self) -> None:
        self.action_read()

    def show_target(self) -> None:
        """Show another server or account in the status bar."""
        for bar in self.query(StatusBar):
            bar.show_target(self._registry.target)

    def on_prefabs_arrived(self, message: PrefabsArrived) -> None:
        self.query_one(StatusBar).show(ConnectionState.ONLINE)
        before = self.selected
        self.rows = rows([one for one in map(summary, message.infos) if one is not None])
        listed = self.query_one(PrefabOptionList)
        count = sum(not row.function for row in self.rows)
        listed.border_title = f"Prefabs · {count}"
        listed.set_options(Option(_line(row)) for row in self.rows)
        if not self.rows:
            self._note(_NO_PREFABS)
            return
        keys = [(row.summary.id, row.function) for row in self.rows]
        at = (before.summary.id, before.function) if before else keys[0]
        listed.highlighted = keys.index(at) if at in keys else 0
        self.query_one("#prefabs-body", ContentSwitcher).current = "prefabs"
        self.set_focus(listed)
        self._show_spec()

    def on_prefabs_failed(self, message: PrefabsFailed) -> None:
        error = message.error
        if isinstance(error, AuthenticationError) and not self._registry.target.embedded:
            self.app.post_message(messages.SessionEnded(one_line(report.error_text(error))))
        refused = isinstance(error, (APIError, InvalidResponseError))
        state = ConnectionState.REFUSED if refused else ConnectionState.OFFLINE
        if isinstance(error, NotFoundError):
            self.query_one(StatusBar).show(ConnectionState.ONLINE)
            self._note(_NO_GATEWAY)
            return
        self.query_one(StatusBar).show(state)
        again = ("\n\nPress f5 to retry.", "dim")
        self._note(
            Content.assemble(sanitize.block(report.error_text(error), 1000), again), failed=True
        )

    def _note(self, text: Content, *, failed: bool = False) -> None:
        note = self.query_one("#prefabs-note", Static)
        note.update(text)
        note.set_class(failed, "failed")
        self.query_one("#prefabs-body", ContentSwitcher).current = "prefabs-note"

    # Selected prefab

    @property
    def selected(self) -> PrefabRow | None:
        """Row under the cursor."""
        # The footer also calls this while the list is not mounted.
        at = next((found.highlighted for found in self.query(PrefabOptionList)), None)
        return self.rows[at] if at is not None and at < len(self.rows) else None

    @property
    def spec(self) -> PrefabSpec | None:
        """Spec of the prefab under the cursor, once it has been read."""
        row = self.selected
        found = self._specs.get(self._key(row)) if row is not None else None
        return found if isinstance(found, PrefabSpec) else None

    def _key(self, row: PrefabRow) -> tuple[str, str]:
        one = row.summary
        return one.id, self._versions.get(one.id, one.version)

    @on(OptionList.OptionHighlighted)
    def _show_spec(self) -> None:
        """Show the prefab under the cursor; read its spec once the cursor rests."""
        row = self.selected
        if row is None:
            return
        found = self._specs.get(self._key(row))
        view = self.query_one(ReportView)
        view.border_title = sanitize.line(row.summary.title, 60)
        if isinstance(found, PrefabSpec):
            view.show(details.document(found, row.function))
        elif found is not None:
            view.show(details.problem(row.summary, report.error_text(found)))
        else:
            view.show(details.outline(row.summary))
            if self._settling is not None:
                self._settling.stop()
            self._settling = self.set_timer(_SETTLE_SECONDS, self._read_spec)
        self.refresh_bindings()

    def _read_spec(self) -> None:
        row = self.selected
        key = self._key(row) if row is not None else None
        if row is None or key is None or key in self._asked:
            return
        self._asked.add(key)
        background.run(
            self,
            partial(_read, self._registry.gateway, *key),
            lambda error: SpecFailed(*key, error),
        )

    def on_spec_arrived(self, message: SpecArrived) -> None:
        key = message.prefab_id, message.version
        known = next((row.summary for row in self.rows if row.summary.id == key[0]), None)
        if known is not None:
            self._specs[key] = spec(message.data, known)
            self._arrived(key)

    def on_spec_failed(self, message: SpecFailed) -> None:
        key = message.prefab_id, message.version
        self._specs[key] = message.error
        self._arrived(key)

    def _arrived(self, key: tuple[str, str]) -> None:
        row = self.selected
        if row is not None and self._key(row) == key:
            self._show_spec()

    # Actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "version":
            return self.spec is not None and len(self.spec.versions) > 1
        return True

    def action_version(self) -> None:
        """Show the next older version; after the oldest, show the newest."""
        row, found = self.selected, self.spec
        if row is None or found is None or len(found.versions) < 2:
            return
        versions = found.versions
        at = versions.index(found.version) if found.version in versions else -1
        self._versions[row.summary.id] = versions[(at + 1) % len(versions)]
        self._show_spec()

    @on(OptionList.OptionSelected)
    def _open(self) -> None:
        """Open the form of the selected function, or of the prefab's first function."""
        row, found = self.selected, self.spec
        if row is None or found is None or not found.functions:
            return
        if found.status != DEPLOYED:
            self._warn(f"{found.id} is {found.status} and cannot be called")
            return
        function = found.function(row.function) if row.function else found.functions[0]
        if function is None:
            self._warn(f"Version {found.version} has no function {row.function}")
            return
        self.app.push_screen(CallScreen(self._registry, found, function))

    def _warn(self, text: str) -> None:
        self.notify(one_line(text), severity="warning", markup=False)

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self))


def _read(gateway: GatewayClient, prefab_id: str, version: str) -> SpecArrived:
    return SpecArrived(prefab_id, version, gateway.get_prefab_spec(prefab_id, version or None))


def _line(row: PrefabRow) -> Content:
    one = row.summary
    if row.function:
        return Content.assemble("   ", sanitize.line(row.function, 80))
    facts = [one.version]
    if one.is_official:
        facts.append("official")
    if one.requires_secrets:
        facts.append("needs a secret")
    if one.status != DEPLOYED:
        facts.append(one.status)
    style = "bold" if one.status == DEPLOYED else f"bold {MUTED}"
    return Content.assemble(
        sanitize.line(one.title, 80, style), "  ", sanitize.line(" · ".join(facts), 120, MUTED)
    )
