"""Help screen: the active key bindings and the meaning of the status symbols."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, ClassVar, Final, NamedTuple, get_args

from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from beray.schema import Task, TaskStatus
from tui import status

_KEY_CELLS: Final = 14


class HelpKey(NamedTuple):
    """Keys of one action, its description, and whether it is available now."""

    keys: str
    words: str
    enabled: bool


class HelpSection(NamedTuple):
    """Keys of one part of the screen."""

    title: str
    keys: list[HelpKey]


def sections(screen: Screen[object]) -> list[HelpSection]:
    """Return the active keys of ``screen``, those of the focused widget first.

    Keys with the same action are combined to one entry.
    """
    app = screen.app
    found: dict[DOMNode, dict[str, HelpKey]] = {}
    # Keys of the footer come before generally known ones.
    bindings = sorted(screen.active_bindings.values(), key=lambda active: not active.binding.show)
    for node, binding, enabled, tooltip in bindings:
        words = tooltip or binding.description
        if not words or binding.system or _is_idle(node, binding.action):
            continue
        keys = found.setdefault(node, {})
        shown = app.get_key_display(binding)
        before = keys.get(binding.action)
        if before is not None:
            shown = f"{before.keys} {shown}" if shown not in before.keys.split() else before.keys
        keys[binding.action] = HelpKey(shown, words, enabled)
    order = sorted(found, key=lambda node: (isinstance(node, App), isinstance(node, Screen)))
    return [HelpSection(_title(node), list(found[node].values())) for node in order]


def _is_idle(node: DOMNode, action: str) -> bool:
    """Return True for horizontal scrolling of a widget that cannot scroll horizontally."""
    sideways = action in ("scroll_left", "scroll_right", "page_left", "page_right")
    return sideways and isinstance(node, Widget) and not node.allow_horizontal_scroll


def commands(screen: Screen[object]) -> Iterator[SystemCommand]:
    """Yield the available key bindings of ``screen`` as commands of the palette."""
    app = screen.app
    offered: set[tuple[DOMNode, str]] = set()
    for node, binding, enabled, tooltip in screen.active_bindings.values():
        named = bool(binding.description) and binding.action != "command_palette"
        if named and enabled and not binding.system and (node, binding.action) not in offered:
            offered.add((node, binding.action))
            key = f"key {app.get_key_display(binding)}"
            words = f"{tooltip} · {key}" if tooltip else key
            yield SystemCommand(binding.description, words, _doing(app, binding.action, node))


def _doing(app: App[object], action: str, node: DOMNode) -> Callable[[], Awaitable[None]]:
    async def do() -> None:
        await app.run_action(action, node)

    return do


def _title(node: DOMNode) -> str:
    """Return the name of a part, derived from its class and never from displayed text."""
    if node.BINDING_GROUP_TITLE:
        return node.BINDING_GROUP_TITLE
    if isinstance(node, App):
        return "Everywhere"
    if isinstance(node, Screen):
        return "This screen"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(node).__name__)
    return words.capitalize()


def legend() -> Iterable[status.StatusDisplay]:
    """Yield the display of every status that a task can have."""
    for name in get_args(TaskStatus):
        yield status.status_display(name)
        if name == "QUEUED":
            yield status.task_display(Task(id=0, goal="", status=name, held=True))
        if name == "RUNNING":
            yield status.task_display(Task(id=0, goal="", status=name), stopping=True)
        if name == "INPUT_REQUIRED":
            yield status.task_display(Task(id=0, goal="", status=name, chat=""))


class HelpScreen(ModalScreen[None]):
    """Help for the screen below it.

    Args:
        below: That screen. At the time of ``compose``, it may not be below this one yet.
    """

    AUTO_FOCUS = "#help"
    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "Close"),
    ]

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        self._below = below

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Help"
            dialog.border_subtitle = "↑ ↓ scroll · esc closes"
            with VerticalScroll(id="help"):
                for section in sections(self._below):
                    yield Static(Content(section.title), classes="section", markup=False)
                    yield Static(_rows(section.keys), markup=False)
                yield Static("Status symbols", classes="section", markup=False)
                for look in legend():
                    words = f"{look.glyph:>{_KEY_CELLS}}  {look.word}"
                    yield Static(words, classes=look.style, markup=False)


def _rows(keys: Iterable[HelpKey]) -> Content:
    lines = []
    for key in keys:
        # The keys come first, even if they are wider than the column.
        name = f"{key.keys:>{_KEY_CELLS}}"
        style = "bold $text-primary" if key.enabled else "dim"
        words = key.words if key.enabled else f"{key.words} (not now)"
        lines.append(Content.assemble((name, style), "  ", (words, "" if key.enabled else "dim")))
    return Content("\n").join(lines)
