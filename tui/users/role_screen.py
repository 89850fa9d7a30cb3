"""Dialog to choose the role of a user."""

from __future__ import annotations

from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from beray.schema import Role
from tui import sanitize

ROLES: Final[dict[Role, str]] = {
    "user": "Own tasks, chats and files",
    "administrator": "Also manages the users of the server",
}


class RoleScreen(ModalScreen[Role | None]):
    """Dialog that returns the chosen role, or None.

    Args:
        email: Address of the user.
        current: Current role.
    """

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, email: str, current: str) -> None:
        super().__init__()
        self._email = email
        self._current = current

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Role"
            dialog.border_subtitle = "enter selects · esc cancels"
            yield Static(sanitize.line(self._email, 200), classes="subject", markup=False)
            yield OptionList(
                *(
                    Option(
                        Content.assemble(
                            "▸ " if role == self._current else "  ",
                            (f"{role:<14}", "bold"),
                            (words, "dim"),
                        )
                    )
                    for role, words in ROLES.items()
                ),
                markup=False,
                compact=True,
            )

    def on_mount(self) -> None:
        names = list(ROLES)
        at = next((place for place, name in enumerate(names) if name == self._current), 0)
        self.query_one(OptionList).highlighted = at

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(list(ROLES)[event.option_index])
