"""Which server, as whom: the own one and those that are saved; choose, add, sign out."""

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
"""What a row has room for, so that each takes two lines."""


class Switched(Message):
    """The user has chosen ``target``, and is signed in there."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target


class SignInWanted(Message):
    """The user has chosen ``target``, and is not signed in there."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target


class SignOutWanted(Message):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@dataclass(frozen=True)
class Row:
    """A server to choose; ``url`` is "" for the own one, which starts where it is free."""

    name: str
    url: str = ""
    email: str = ""
    signed_in: bool = True
    current: bool = False

    @property
    def local(self) -> bool:
        return self.name == LOCAL


def rows(profiles: Profiles, current: Target) -> list[Row]:
    """The own server, the saved profiles, and the current server where it is not saved."""
    found = [Row(LOCAL, current=current.embedded)]
    for name in profiles.names():
        saved, here = profiles.get(name), name == current.profile and not current.embedded
        if saved is not None:
            signed_in = saved.token is not None or (here and current.token is not None)
            found.append(Row(name, saved.url, saved.email or "", signed_in, here))
    if not any(row.current for row in found):
        signed_in = current.token is not None
        found.append(Row(current.profile, current.url, current.email or "", signed_in, True))
    return found


def prompt(row: Row) -> Content:
    """Two lines: the name and how it stands, the address and the account."""
    state = "own server" if row.local else "signed in" if row.signed_in else "signed out"
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
    """Tells the app what was chosen: ``Switched``, ``SignInWanted`` or ``SignOutWanted``.

    Args:
        ensure: starts or joins the user's own server; blocks.
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
        """Show the profiles as they are now; the cursor stays where it is."""
        self._profiles, self._current = profiles, current
        self.rows = rows(profiles, current)
        self._fill()

    def say(self, words: str) -> None:
        """Say what is going on, or what came of it."""
        self.query_one(".progress", Static).update(sanitize.line(words))

    def _fill(self) -> None:
        options = self.query_one(OptionList)
        names = [row.name for row in self.rows]
        at = options.highlighted
        current = next((place for place, row in enumerate(self.rows) if row.current), 0)
        options.clear_options()
        options.add_options([Option(prompt(row)) for row in self.rows])
        options.highlighted = current if at is None else min(at, len(names) - 1)

    @property
    def _chosen(self) -> Row | None:
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
            self.dismiss()  # to its tasks, or to signing in there
        elif row.local:
            self._start_own()
        else:
            self._go_to(account.at(self._profiles, row.name))

    def _start_own(self) -> None:
        self._busy = True
        self.say("Starting your own server …")
        # Whoever closes this screen meanwhile hears of it no more.
        background.run(
            self,
            lambda: Switched(self._ensure()),
            lambda error: messages.Failed("start your own server", error),
        )

    def on_failed(self, message: messages.Failed) -> None:
        message.stop()
        self._busy = False
        self.say(f"Could not {message.what}: {sanitize.words(message.error)}")

    def _go_to(self, target: Target) -> None:
        self.post_message(Switched(target) if target.token else SignInWanted(target))

    @on(Button.Pressed, "#add")
    def action_add(self) -> None:
        def entered(target: Target | None) -> None:
            if target is not None:
                self._go_to(target)

        if not self._busy:
            self.app.push_screen(AddServerScreen(self._profiles), entered)

    @on(Button.Pressed, "#out")
    def action_sign_out(self) -> None:
        row = self._chosen
        if row is None or row.local:
            self.say("Your own server has no account to sign out of.")
        elif not row.signed_in:
            self.say(f"You are not signed in to {row.name}.")
        elif not self._busy:
            self.say(f"Signing out of {row.name} …")
            self.post_message(SignOutWanted(row.name))


class AddServerScreen(ModalScreen[Target | None]):
    """Asks for the URL of a server; gives what is known of it, or ``None``."""

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
                "Then you sign in there, or create an account.", classes="hint", markup=False
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
            self.dismiss(account.added(self._profiles, field.value))
        except ConfigurationError as error:
            field.refuse(sanitize.words(error))

    @on(Button.Pressed, "#cancel")
    def _cancel(self) -> None:
        self.dismiss(None)
