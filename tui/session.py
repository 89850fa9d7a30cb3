"""Coming in, going elsewhere and leaving: the half of the app that knows about accounts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from textual.app import App, SystemCommand
from textual.message import Message
from textual.notifications import SeverityLevel
from textual.screen import Screen

from beray.config import Profiles, Target
from beray.exceptions import AuthenticationError
from beray.sanitize import one_line
from tui import messages
from tui.io import background
from tui.terminal import Terminal

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.screens.profiles import SignInWanted, SignOutWanted, Switched
    from tui.screens.sign_in import SignInScreen

_OWN: Final = "\nThis is your own server: quit, and start beray again."


class Access(App[None]):
    """Holds the one client in use. The tasks themselves are ``tasks_screen``."""

    target: Target
    profiles: Profiles
    client: BeRayClient
    connect: Callable[[Target], BeRayClient]
    renew: Callable[[], Target] | None
    terminal: Terminal
    _looking = False
    _ended = ""
    """Why the session of the target is no more, where it is not."""
    _said = ""

    def tasks_screen(self) -> Screen[None]:
        """The main screen, for the current client."""
        raise NotImplementedError

    def target_changed(self) -> None:
        """``target`` is another one, or has another token, or none."""

    def say(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, wherever it comes from, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def come_in(self) -> None:
        """Show the tasks, or ask who it is."""
        self._show_alone(self.tasks_screen() if self.target.token else self._sign_in())

    def access_commands(self) -> Iterable[SystemCommand]:
        """What the palette offers everywhere."""
        yield SystemCommand("Switch server…", "Or add one, or sign out", self.action_switch_server)
        if self.target.token and not self.target.embedded:
            yield SystemCommand("Sign out", "Ask for the password again", self.action_sign_out)

    def _sign_in(self, reason: str = "") -> SignInScreen:
        from tui.screens.sign_in import SignInScreen

        return SignInScreen(self._stranger(self.target), self.target, self.profiles, reason)

    def _stranger(self, target: Target) -> BeRayClient:
        """A client of its own, for signing in."""
        return self.connect(replace(target, token=None))

    def _show_alone(self, screen: Screen[None]) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.terminal.show()
        self.push_screen(screen)

    def _lies_open(self, kind: type[Screen[None]]) -> bool:
        return any(isinstance(screen, kind) for screen in self.screen_stack)

    def _is_asked_again(self) -> bool:
        from tui.screens.sign_in import SignInAgainScreen

        return self._lies_open(SignInAgainScreen)

    # Signing in

    def on_signed_in(self, message: messages.SignedIn) -> None:
        before, self.target = self.target, message.target
        again = self._is_asked_again() and _same_account(before, self.target)
        if again:
            self._go_on()
        else:
            self._go_to(self.target)
        self._read_profiles()
        if message.unsaved:
            self.say(f"Signed in, but not remembered: {message.unsaved}", "warning")

    def _go_on(self) -> None:
        """Give the screens that the sign-in was asked over the client of the new session."""
        while self._is_asked_again():
            self.pop_screen()
        self._ended = ""
        self._take(self.connect(self.target))
        for screen in self.screen_stack[1:]:
            screen.post_message(messages.Renewed(self.target, self.client))

    def _go_to(self, target: Target) -> None:
        """Begin afresh at ``target``."""
        self.target, self._ended = target, ""
        self.renew = self.own_server if target.embedded else None
        self._take(self.connect(target))
        self.come_in()

    def _take(self, client: BeRayClient) -> None:
        before, self.client = self.client, client
        if before is not client:
            before.close()
        self.target_changed()

    def on_renewed(self, message: messages.Renewed) -> None:
        if message.target.profile == self.target.profile:  # not of one that was just left
            self.target = message.target
            self._take(message.client)

    # A session that has ended

    def on_session_ended(self, message: messages.SessionEnded) -> None:
        """A call was refused. Ask the server whether that is so, then the user, once."""
        if self._looking or self._is_asked_again() or self.target.token is None:
            return
        self._looking = True
        client = self.client
        background.run(
            self,
            lambda: _looked(client, message.reason),
            lambda error: Looked(client, message.reason, error),
        )

    def on_looked(self, message: Looked) -> None:
        self._looking = False
        if message.client is not self.client or not self.screen_stack:
            return
        if isinstance(message.error, AuthenticationError):
            self._ended = message.reason + (_OWN if self.target.embedded else "")
            self._ask_again()
        elif message.error is None and message.reason != self._said:
            # The session lives: it was one call that is not allowed, or one of the last session.
            self._said = message.reason
            self.say(message.reason, "error")

    def _ask_again(self) -> None:
        from tui.screens.sign_in import SignInAgainScreen, SignInScreen

        if not self._lies_open(SignInScreen):
            client, reason = self._stranger(self.target), self._ended
            self.push_screen(SignInAgainScreen(client, self.target, self.profiles, reason))

    # Other servers

    def own_server(self) -> Target:
        """Start or join the user's own server. Blocks."""
        from beray import local_server

        return local_server.ensure()

    def action_switch_server(self) -> None:
        from tui.screens.profiles import ProfilesScreen

        if self._lies_open(ProfilesScreen):
            while not isinstance(self.screen, ProfilesScreen):
                self.pop_screen()
            return
        self._read_profiles(wanted=True)

    def _read_profiles(self, words: str = "", *, wanted: bool = False) -> None:
        path = self.profiles.path
        background.run(self, lambda: ProfilesRead(Profiles(path), words, wanted), ProfilesFailed)

    def on_profiles_read(self, message: ProfilesRead) -> None:
        from tui.screens.profiles import ProfilesScreen

        self.profiles = message.profiles
        for screen in self.screen_stack:
            if isinstance(screen, ProfilesScreen):
                screen.show(self.profiles, self.target)
                if message.words:
                    screen.say(message.words)
                return
        if message.wanted and self.screen_stack:
            self.push_screen(ProfilesScreen(self.profiles, self.target, self.own_server))

    def on_profiles_failed(self, message: ProfilesFailed) -> None:
        from tui import account

        self.say(f"The profiles: {account.problem(message.error)}", "error")

    def on_switched(self, message: Switched) -> None:
        self._go_to(message.target)
        profiles, name = self.profiles, message.target.profile
        background.change_settings(self, lambda: _used(profiles, name), ProfilesFailed)

    def on_sign_in_wanted(self, message: SignInWanted) -> None:
        from tui.screens.sign_in import SignInElsewhereScreen

        client = self._stranger(message.target)
        self.push_screen(SignInElsewhereScreen(client, message.target, self.profiles))

    def action_leave(self) -> None:
        """From signing in elsewhere to where the user was."""
        self.pop_screen()
        if self._ended and self.target.token:
            self._ask_again()

    # Signing out

    def action_sign_out(self) -> None:
        self._sign_out(self.target.profile)

    def on_sign_out_wanted(self, message: SignOutWanted) -> None:
        self._sign_out(message.name)

    def _sign_out(self, name: str) -> None:
        """Remove the saved token, then end the session on the server."""
        here = name == self.target.profile and not self.target.embedded
        saved, profiles = self.profiles.get(name), self.profiles
        targets = [] if saved is None else [Target(saved.url, name, saved.token)]
        if here:
            targets.append(self.target)
        given = os.environ.get("BERAY_TOKEN")
        tokens = {target.token: target for target in targets if target.token not in (None, given)}
        clients = [self.connect(target) for target in tokens.values()]
        kept = "; BERAY_TOKEN is set and stays as it is" if given and here else ""
        background.change_settings(
            self, lambda: self._forget(profiles, name, clients, kept), ProfilesFailed
        )
        if here:
            self.target = replace(self.target, token=None)
            self.target_changed()
            self._ended = ""
            self._show_alone(self._sign_in(f"Signed out of {name}."))

    def _forget(
        self, profiles: Profiles, name: str, clients: list[BeRayClient], kept: str
    ) -> ProfilesRead:
        """Remove the token of a profile, and start ending its session on the server. Blocks."""
        from tui import account

        profiles.sign_out(name)
        background.run(
            self, lambda: SignedOut(account.end_session(name, clients) + kept), ProfilesFailed
        )
        return ProfilesRead(Profiles(profiles.path))

    def on_signed_out(self, message: SignedOut) -> None:
        if not self.screen_stack:
            return  # the app is being left
        from tui.screens.profiles import ProfilesScreen
        from tui.screens.sign_in import SignInScreen

        if isinstance(self.screen, SignInScreen):
            self.screen.give_reason(message.words)
        elif not self._lies_open(ProfilesScreen):
            self.say(message.words)
        self._read_profiles(message.words)


def _same_account(one: Target, other: Target) -> bool:
    """Whether both are surely the same account: what is shown of one may stay for the other."""
    if one.url != other.url or one.email is None or other.email is None:
        return False
    return one.email.casefold() == other.email.casefold()


def _looked(client: BeRayClient, reason: str) -> Looked:
    client.get_current_user()
    return Looked(client, reason, None)


def _used(profiles: Profiles, name: str) -> ProfilesRead:
    from tui import account

    account.use(profiles, name)
    return ProfilesRead(Profiles(profiles.path))


class Looked(Message):
    """What the server says of the session of ``client``, ``None`` where it lives."""

    def __init__(self, client: BeRayClient, reason: str, error: Exception | None) -> None:
        super().__init__()
        self.client = client
        self.reason = reason
        self.error = error


class ProfilesRead(Message):
    def __init__(self, profiles: Profiles, words: str = "", wanted: bool = False) -> None:
        super().__init__()
        self.profiles = profiles
        self.words = words
        self.wanted = wanted


class ProfilesFailed(Message):
    """The profiles could not be read or written."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class SignedOut(Message):
    """It is forgotten here; ``words`` say how it went at the server."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words = words
