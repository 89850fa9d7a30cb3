"""Dialogs for choosing, adding and signing out of servers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from beray.config import LOCAL, Profiles, Target
from beray.exceptions import ConfigurationError
from tui import account, messages, sanitize
from tui.io import background
from tui.widgets.field import Field

_CELLS: Final = 54
"""Width of a row, so that each row takes two lines."""


@dataclass(eq=False, repr=False)
class ServerSelected(Message):
    """The user selected ``target`` and is signed in there."""

    target: Target


@dataclass(eq=False, repr=False)
class SignInRequested(Message):
    """The user selected ``target`` and has to sign in there."""

    target: Target


@dataclass(eq=False, repr=False)
class SignOutRequested(Message):
    """The user wants to sign out of the profile ``name``."""

    name: str


@dataclass(frozen=True)
class ServerRow:
    """Server in the list; ``url`` is "" for the local server, whose port is not fixed."""

    name: str
    url: str = ""
    email: str = ""
    signed_in: bool = True
    current: bool = False

    @property
    def local(self) -> bool:
        """True for the local server."""
        return self.name == LOCAL


def rows(profiles: Profiles, current: Target) -> list[ServerRow]:
    """Return the local server, the saved profiles, and the current server if it is not saved."""
    found = [ServerRow(LOCAL, current=current.embedded)]
    for name in profiles.names():
        saved, here = profiles.get(name), name == current.profile and not current.embedded
        if saved is not None:
            signed_in = saved.token is not None or (here and current.token is not None)
            found.append(ServerRow(name, saved.url, saved.email or "", signed_in, here))
    if not any(row.current for row in found):
        signed_in = current.token is not None
        found.append(ServerRow(current.profile, current.url, current.email or "", signed_in, True))
    return found


def prompt(row: ServerRow) -> Content:
    """Return two lines: name and state, address and account."""
    state = "local server" if row.local else "signed in" if row.signed_in else "signed out"
    if row.current:
        state = f"current · {state}"
    where = " · ".join(filter(None, (row.url, row.email)))
    if row.local:
        where = "on this machine, no account needed"
    mark = "▸ " if row.current else "  "
    name = sanitize.fitted(row.name, 30)
    return Content.assemble(
        (mark + name, "bold"),
        f"  {state}\n",
        ("  ", ""),
        (sanitize.fitted(where, _CELLS).rstrip(), "dim"),
    )


class ProfilesScreen(ModalScreen[None]):
    """Dialog that posts ``ServerSelected``, ``SignInRequested`` or ``SignOutRequested``.

    Args:
        profiles: Saved profiles.
        current: Server in use.
        ensure: Starts or joins the local server. Blocks.
    """

    AUTO_FOCUS = "#profiles"
    CSS_PATH = "profiles.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("a", "add", "Add a server"),
        Binding("o", "sign_out", "Sign out"),
    ]

    def __init__(self, profiles: Profiles, current: Target, ensure: Callable[[], Target]) -> None:
        super().__init__()
        self._profiles = profiles
        self._current = current
        self._ensure = ensure
        self.rows = rows(profiles, current)
        self._busy = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Servers"
            dialog.border_subtitle = "enter switches · a adds · o signs out · esc closes"
            yield OptionList(id="profiles", markup=False)
            yield Static(classes="progress", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Add a server", id="add")
                yield Button("Sign out", id="out")

    def on_mount(self) -> None:
        self._fill()

    def show(self, profiles: Profiles, current: Target) -> None:
        """Show the current profiles; the cursor keeps its position."""
        self._profiles, self._current = profiles, current
        self.rows = rows(profiles, current)
        self._fill()

    def show_progress(self, text: str) -> None:
        """Show a progress message or a result."""
        self.query_one(".progress", Static).update(sanitize.line(text))

    def _fill(self) -> None:
        options = self.query_one(OptionList)
        names = [row.name for row in self.rows]
        at = options.highlighted
        current = next((place for place, row in enumerate(self.rows) if row.current), 0)
        options.clear_options()
        options.add_options([Option(prompt(row)) for row in self.rows])
        options.highlighted = current if at is None else min(at, len(names) - 1)

    @property
    def _chosen(self) -> ServerRow | None:
        at = self.query_one(OptionList).highlighted
        return None if at is None else self.rows[at]

    @on(OptionList.OptionHighlighted)
    def _show_buttons(self) -> None:
        row = self._chosen
        self.query_one("#out", Button).disabled = row is None or row.local or not row.signed_in

    @on(OptionList.OptionSelected)
    def _choose(self) -> None:
        row = self._chosen
        if row is None or self._busy:
            return
        if row.current:
            self.dismiss()  # to the tasks or the sign-in screen below
        elif row.local:
            self._start_own()
        else:
            self._switch_to(account.profile_target(self._profiles, row.name))

    def _start_own(self) -> None:
        self._busy = True
        self.show_progress("Starting the local server …")
        # If this screen is closed meanwhile, the result is dropped.
        background.run(
            self,
            lambda: ServerSelected(self._ensure()),
            lambda error: messages.OperationFailed("start the local server", error),
        )

    def on_operation_failed(self, message: messages.OperationFailed) -> None:
        message.stop()
        self._busy = False
        self.show_progress(f"Could not {message.action}: {sanitize.error_text(message.error)}")

    def _switch_to(self, target: Target) -> None:
        self.post_message(ServerSelected(target) if target.token else SignInRequested(target))

    @on(Button.Pressed, "#add")
    def action_add(self) -> None:
        def entered(target: Target | None) -> None:
            if target is not None:
                self._switch_to(target)

        if not self._busy:
            self.app.push_screen(AddServerScreen(self._profiles), entered)

    @on(Button.Pressed, "#out")
    def action_sign_out(self) -> None:
        row = self._chosen
        if row is None or row.local:
            self.show_progress("The local server has no account to sign out of.")
        elif not row.signed_in:
            self.show_progress(f"You are not signed in to {row.name}.")
        elif not self._busy:
            self.show_progress(f"Signing out of {row.name} …")
            self.post_message(SignOutRequested(row.name))


class AddServerScreen(ModalScreen[Target | None]):
    """Dialog that asks for the URL of a server; returns its target, or None."""

    AUTO_FOCUS = "#url Input"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, profiles: Profiles) -> None:
        super().__init__()
        self._profiles = profiles

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as dialog:
            dialog.border_title = "Add a server"
            dialog.border_subtitle = "enter continues · esc cancels"
            yield Static(
                "You will then sign in or create an account.", classes="hint", markup=False
            )
            yield Field("URL, such as https://beray.example.org", id="url")
            with Horizontal(classes="buttons"):
                yield Button("Continue", variant="primary", id="go")
                yield Button("Cancel", id="cancel")

    @on(Input.Submitted)
    @on(Button.Pressed, "#go")
    def _entered(self) -> None:
        field = self.query_one("#url", Field)
        try:
            self.dismiss(account.new_target(self._profiles, field.value))
        except ConfigurationError as error:
            field.show_problem(sanitize.error_text(error))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
