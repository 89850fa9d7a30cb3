"""Sign-in, sign-out and switching of servers: base class of the application."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
    from tui.screens.profiles import ServerSelected, SignInRequested, SignOutRequested
    from tui.screens.sign_in import SignInScreen

_LOCAL_SERVER_HINT: Final = "\nThis is your local server: quit and start beray again."


class SessionApp(App[None]):
    """Application that owns the client in use and the account it belongs to."""

    target: Target
    profiles: Profiles
    client: BeRayClient
    connect: Callable[[Target], BeRayClient]
    renew: Callable[[], Target] | None
    terminal: Terminal
    _is_checking_session = False
    _session_end_reason = ""
    """Reason why the session of ``target`` ended, or ""."""
    _last_rejection = ""

    def create_main_screen(self) -> Screen[None]:
        """Return a new main screen for the current client."""
        raise NotImplementedError

    def target_changed(self) -> None:
        """Handle a new value of ``target``, or a token that was added or removed."""

    def show_notification(self, text: str, severity: SeverityLevel = "information") -> None:
        """Show ``text``, which may be untrusted, as a notification."""
        self.notify(one_line(text), severity=severity, markup=False)

    def show_tasks_or_sign_in(self) -> None:
        """Show the tasks, or the sign-in screen if there is no token."""
        self._replace_screens(
            self.create_main_screen() if self.target.token else self._create_sign_in_screen()
        )

    def session_commands(self) -> Iterable[SystemCommand]:
        """Return the commands that the palette offers on every screen."""
        yield SystemCommand("Switch server…", "Or add one, or sign out", self.action_switch_server)
        if self.target.token and not self.target.embedded:
            yield SystemCommand("Sign out", "Remove the saved token", self.action_sign_out)

    def _create_sign_in_screen(self, reason: str = "") -> SignInScreen:
        from tui.screens.sign_in import SignInScreen

        return SignInScreen(self._anonymous_client(self.target), self.target, self.profiles, reason)

    def _anonymous_client(self, target: Target) -> BeRayClient:
        """Return a separate client without a token, for signing in."""
        return self.connect(replace(target, token=None))

    def _replace_screens(self, screen: Screen[None]) -> None:
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.terminal.show()
        self.push_screen(screen)

    def _is_open(self, kind: type[Screen[None]]) -> bool:
        return any(isinstance(screen, kind) for screen in self.screen_stack)

    def _is_signing_in_again(self) -> bool:
        from tui.screens.sign_in import SignInAgainScreen

        return self._is_open(SignInAgainScreen)

    # Signing in

    def on_signed_in(self, message: messages.SignedIn) -> None:
        before, self.target = self.target, message.target
        again = self._is_signing_in_again() and _same_account(before, self.target)
        if again:
            self._resume_session()
        else:
            self._switch_to(self.target)
        self._read_profiles()
        if message.unsaved:
            self.show_notification(
                f"Signed in, but the token could not be saved: {message.unsaved}", "warning"
            )

    def _resume_session(self) -> None:
        """Close the sign-in screens and give the screens below a client of the new session."""
        while self._is_signing_in_again():
            self.pop_screen()
        self._session_end_reason = ""
        self._set_client(self.connect(self.target))
        for screen in self.screen_stack[1:]:
            screen.post_message(messages.ClientReplaced(self.target, self.client))

    def _switch_to(self, target: Target) -> None:
        """Connect to ``target`` and show its tasks from the beginning."""
        self.target, self._session_end_reason = target, ""
        self.renew = self.start_local_server if target.embedded else None
        self._set_client(self.connect(target))
        self.show_tasks_or_sign_in()

    def _set_client(self, client: BeRayClient) -> None:
        before, self.client = self.client, client
        if before is not client:
            before.close()
        self.target_changed()

    def on_client_replaced(self, message: messages.ClientReplaced) -> None:
        if message.target.profile == self.target.profile:  # ignores servers the user has left
            self.target = message.target
            self._set_client(message.client)

    # A session that has ended

    def on_session_ended(self, message: messages.SessionEnded) -> None:
        """Check whether a rejected token is invalid; if so, ask the user to sign in, once."""
        if self._is_checking_session or self._is_signing_in_again() or self.target.token is None:
            return
        self._is_checking_session = True
        client = self.client
        background.run(
            self,
            lambda: _check_session(client, message.reason),
            lambda error: SessionChecked(client, message.reason, error),
        )

    def on_session_checked(self, message: SessionChecked) -> None:
        self._is_checking_session = False
        if message.client is not self.client or not self.screen_stack:
            return
        if isinstance(message.error, AuthenticationError):
            self._session_end_reason = message.reason + (
                _LOCAL_SERVER_HINT if self.target.embedded else ""
            )
            self._ask_to_sign_in_again()
        elif message.error is None and message.reason != self._last_rejection:
            # The session is valid: one request was not allowed, or it used an earlier token.
            self._last_rejection = message.reason
            self.show_notification(message.reason, "error")

    def _ask_to_sign_in_again(self) -> None:
        from tui.screens.sign_in import SignInAgainScreen, SignInScreen

        if not self._is_open(SignInScreen):
            client, reason = self._anonymous_client(self.target), self._session_end_reason
            self.push_screen(SignInAgainScreen(client, self.target, self.profiles, reason))

    # Other servers

    def start_local_server(self) -> Target:
        """Start or join the local server. Blocks."""
        from beray import local_server

        return local_server.ensure()

    def action_switch_server(self) -> None:
        from tui.screens.profiles import ProfilesScreen

        if self._is_open(ProfilesScreen):
            while not isinstance(self.screen, ProfilesScreen):
                self.pop_screen()
            return
        self._read_profiles(wanted=True)

    def _read_profiles(self, text: str = "", *, wanted: bool = False) -> None:
        path = self.profiles.path
        background.run(self, lambda: ProfilesRead(Profiles(path), text, wanted), ProfilesFailed)

    def on_profiles_read(self, message: ProfilesRead) -> None:
        from tui.screens.profiles import ProfilesScreen

        self.profiles = message.profiles
        for screen in self.screen_stack:
            if isinstance(screen, ProfilesScreen):
                screen.show(self.profiles, self.target)
                if message.text:
                    screen.show_progress(message.text)
                return
        if message.wanted and self.screen_stack:
            self.push_screen(ProfilesScreen(self.profiles, self.target, self.start_local_server))

    def on_profiles_failed(self, message: ProfilesFailed) -> None:
        from tui import account

        self.show_notification(
            f"Cannot read or write the profiles: {account.profile_error(message.error)}", "error"
        )

    def on_server_selected(self, message: ServerSelected) -> None:
        self._switch_to(message.target)
        profiles, name = self.profiles, message.target.profile
        background.change_settings(
            self, lambda: _set_current_profile(profiles, name), ProfilesFailed
        )

    def on_sign_in_requested(self, message: SignInRequested) -> None:
        from tui.screens.sign_in import SignInElsewhereScreen

        client = self._anonymous_client(message.target)
        self.push_screen(SignInElsewhereScreen(client, message.target, self.profiles))

    def action_leave(self) -> None:
        """Return from signing in at another server to the previous screen."""
        self.pop_screen()
        if self._session_end_reason and self.target.token:
            self._ask_to_sign_in_again()

    # Signing out

    def action_sign_out(self) -> None:
        self._sign_out(self.target.profile)

    def on_sign_out_requested(self, message: SignOutRequested) -> None:
        self._sign_out(message.name)

    def _sign_out(self, name: str) -> None:
        """Remove the saved token, then end the session on the server."""
        here = name == self.target.profile and not self.target.embedded
        saved, profiles = self.profiles.get(name), self.profiles
        targets = [] if saved is None else [Target(saved.url, name, saved.token)]
        if here:
            targets.append(self.target)
        environment_token = os.environ.get("BERAY_TOKEN")
        tokens = {
            target.token: target
            for target in targets
            if target.token not in (None, environment_token)
        }
        clients = [self.connect(target) for target in tokens.values()]
        token_note = "; BERAY_TOKEN is set and remains in use" if environment_token and here else ""
        background.change_settings(
            self, lambda: self._remove_token(profiles, name, clients, token_note), ProfilesFailed
        )
        if here:
            self.target = replace(self.target, token=None)
            self.target_changed()
            self._session_end_reason = ""
            self._replace_screens(self._create_sign_in_screen(f"Signed out of {name}."))

    def _remove_token(
        self, profiles: Profiles, name: str, clients: list[BeRayClient], token_note: str
    ) -> ProfilesRead:
        """Remove the token of a profile and start ending its session on the server. Blocks."""
        from tui import account

        profiles.sign_out(name)
        background.run(
            self, lambda: SignedOut(account.end_session(name, clients) + token_note), ProfilesFailed
        )
        return ProfilesRead(Profiles(profiles.path))

    def on_signed_out(self, message: SignedOut) -> None:
        if not self.screen_stack:
            return  # the app is closing
        from tui.screens.profiles import ProfilesScreen
        from tui.screens.sign_in import SignInScreen

        if isinstance(self.screen, SignInScreen):
            self.screen.give_reason(message.text)
        elif not self._is_open(ProfilesScreen):
            self.show_notification(message.text)
        self._read_profiles(message.text)


def _same_account(first: Target, second: Target) -> bool:
    """Return True if both are certainly the same account, so that its screens may stay open."""
    if first.url != second.url or first.email is None or second.email is None:
        return False
    return first.email.casefold() == second.email.casefold()


def _check_session(client: BeRayClient, reason: str) -> SessionChecked:
    client.get_current_user()
    return SessionChecked(client, reason, None)


def _set_current_profile(profiles: Profiles, name: str) -> ProfilesRead:
    from tui import account

    account.set_current_profile(profiles, name)
    return ProfilesRead(Profiles(profiles.path))


@dataclass(eq=False, repr=False)
class SessionChecked(Message):
    """Result of checking the session of ``client``; ``error`` is None if it is valid."""

    client: BeRayClient
    reason: str
    error: Exception | None


@dataclass(eq=False, repr=False)
class ProfilesRead(Message):
    """The profiles were read; ``text`` is a notice to show and ``wanted`` opens their screen."""

    profiles: Profiles
    text: str = ""
    wanted: bool = False


@dataclass(eq=False, repr=False)
class ProfilesFailed(Message):
    """The profiles could not be read or written."""

    error: Exception


@dataclass(eq=False, repr=False)
class SignedOut(Message):
    """The token was removed here; ``text`` reports the result on the server."""

    text: str
