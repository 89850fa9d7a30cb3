"""Session: sign-in, sign-out and switching of servers."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from textual.message import Message
from textual.screen import Screen

from beray.config import Profiles, Target
from beray.exceptions import AuthenticationError
from beray.schema import User
from tui import messages
from tui.controllers.interfaces import ShowNotification
from tui.io import background
from tui.state.current_server import CurrentServer, must_change_password

if TYPE_CHECKING:
    from beray.client import BeRayClient
    from tui.screens.sign_in import SignInScreen

_LOCAL_SERVER_HINT: Final = "\nThis is your local server: quit and start beray again."


class ScreenStack(Protocol):
    """Stack of screens with the queue of messages of the application."""

    @property
    def screen_stack(self) -> list[Screen[Any]]: ...

    @property
    def screen(self) -> Screen[Any]: ...

    def push_screen(self, screen: Screen[Any]) -> object: ...

    def pop_screen(self) -> object: ...

    def post_message(self, message: Message) -> bool: ...

    def clear_notifications(self) -> None: ...


class DashboardSession:
    """Server and account in use: signs in and out, and switches servers.

    Args:
        target: Server and account. With a token the tasks are shown, otherwise the sign-in screen.
        profiles: Stored profiles; a sign-in is saved there.
        connect: Creates the client of a target.
        renew: Returns the current target of a server that may be replaced, or None.
        screens: Screens of the application, and the receiver of the results of requests.
        notify: Shows a notification.
        create_main_screen: Creates the main screen for ``server``.
        on_replace_screens: Called before the first screen is replaced.
        on_target_change: Called after ``server.target`` has changed.

    Attributes:
        server: Account and client in use.
        profiles: Stored profiles, as last read.
        renew: As above, for the current server.
    """

    def __init__(
        self,
        target: Target,
        profiles: Profiles,
        *,
        connect: Callable[[Target], BeRayClient],
        renew: Callable[[], Target] | None,
        screens: ScreenStack,
        notify: ShowNotification,
        create_main_screen: Callable[[], Screen[None]],
        on_replace_screens: Callable[[], None],
        on_target_change: Callable[[], None],
    ) -> None:
        self.server = CurrentServer(target, connect(target))
        self.profiles = profiles
        self.renew = renew
        self._connect = connect
        self._screens = screens
        self._notify = notify
        self._create_main_screen = create_main_screen
        self._on_replace_screens = on_replace_screens
        self._on_target_change = on_target_change
        self._is_checking = False
        self._end_reason = ""
        """Reason why the session of ``server`` ended, or ""."""
        self._last_rejection = ""

    # Screens

    def show_tasks_or_sign_in(self) -> None:
        """Show the tasks, or the sign-in screen if there is no token."""
        signed_in = self.server.target.token
        self._replace_screens(
            self._create_main_screen() if signed_in else self._create_sign_in_screen()
        )

    def _create_sign_in_screen(self, reason: str = "") -> SignInScreen:
        from tui.screens.sign_in import SignInScreen

        target = self.server.target
        return SignInScreen(self._anonymous_client(target), target, self.profiles, reason)

    def _anonymous_client(self, target: Target) -> BeRayClient:
        """Return a separate client without a token, for signing in."""
        return self._connect(replace(target, token=None))

    def _replace_screens(self, screen: Screen[None]) -> None:
        while len(self._screens.screen_stack) > 1:
            self._screens.pop_screen()
        self._on_replace_screens()
        self._screens.push_screen(screen)

    def is_open(self, kind: type[Screen[Any]]) -> bool:
        """Return True if a screen of this type is open."""
        return any(isinstance(screen, kind) for screen in self._screens.screen_stack)

    def _is_signing_in_again(self) -> bool:
        from tui.screens.sign_in import SignInAgainScreen

        return self.is_open(SignInAgainScreen)

    # Signing in

    def signed_in(self, target: Target, unsaved: str, *, needs_new_password: bool = False) -> None:
        """Continue with a new token.

        Args:
            target: Server and account with the token.
            unsaved: Reason why the token could not be stored, or "".
            needs_new_password: Whether the server requires a new password first.
        """
        if self._is_signing_in_again() and _same_account(self.server.target, target):
            while self._is_signing_in_again():
                self._screens.pop_screen()
            self._end_reason = ""
            self._replace_client(target, self._connect(target))
        else:
            self._switch_to(target)
        self._read_profiles()
        if unsaved:
            self._notify(f"Signed in, but the token could not be saved: {unsaved}", "warning")
        if needs_new_password:
            self._require_new_password()

    # The account in use

    def read_user(self) -> None:
        """Read the account unless it is known. A failure is not reported: other requests fail."""
        client = self.server.client
        if self.server.user is None and not self.server.target.embedded:
            background.run(
                self._screens,
                lambda: messages.UserRead(client, client.get_current_user()),
                lambda error: messages.UserUnknown(),
            )

    def user_read(self, message: messages.UserRead) -> None:
        """Keep the account, which determines the available actions."""
        if message.client is self.server.client:
            self.server.user = message.user
            if must_change_password(message.user):
                self._require_new_password()

    def _require_new_password(self) -> None:
        """Ask for a new password, above the tasks, which cannot be read before."""
        from tui.users.password_screen import ChangePasswordScreen

        if self.server.target.token is not None and not self.is_open(ChangePasswordScreen):
            self._screens.push_screen(ChangePasswordScreen(self.server, required=True))

    def password_changed(self, text: str) -> None:
        """Continue after a change of the password, which may have been required."""
        from tui.users.password_screen import ChangePasswordScreen

        required = False
        while self.is_open(ChangePasswordScreen):
            top = self._screens.screen
            required |= isinstance(top, ChangePasswordScreen) and top.required
            self._screens.pop_screen()
        self._notify(text)
        if required:
            # Requests that were rejected before are sent again with another client.
            self._replace_client(self.server.target, self._connect(self.server.target))
        else:
            self._post_account_changed()

    def email_changed(self, email: str) -> None:
        """Continue with another address of the same account, also at the next start."""
        target = self.server.target = replace(self.server.target, email=email)
        if self.server.user is not None:
            self.server.user = {**self.server.user, "email": email}
        self._on_target_change()
        self._post_account_changed()
        self._notify(f"The address of the account is now {email}")
        profiles, token = self.profiles, target.token
        saved = profiles.get(target.profile)
        if token is not None and saved is not None and saved.token == token:
            background.change_settings(
                self._screens,
                lambda: _save_email(profiles, target, token, email),
                ProfilesFailed,
            )

    def _post_account_changed(self) -> None:
        for screen in self._screens.screen_stack[1:]:
            screen.post_message(messages.AccountChanged())

    def ended_by_user(self, text: str) -> None:
        """Show the sign-in screen after the user ended this session or deleted the account."""
        current = self.server.target
        if current.token is None:
            return
        profiles, name = self.profiles, current.profile
        background.change_settings(
            self._screens, lambda: _forget_token(profiles, name), ProfilesFailed
        )
        self._leave_account(text)

    def _leave_account(self, text: str) -> None:
        """Show the sign-in screen of the current server."""
        self.server.target = replace(self.server.target, token=None)
        self._on_target_change()
        self._end_reason = ""
        self._replace_screens(self._create_sign_in_screen(text))

    def _switch_to(self, target: Target) -> None:
        """Connect to ``target`` and show its tasks from the beginning."""
        before, self.server = self.server, CurrentServer(target, self._connect(target))
        if before.client is not self.server.client:
            before.client.close()
        self._end_reason = ""
        self._screens.clear_notifications()  # they are about the tasks of the previous account
        self.renew = start_local_server if target.embedded else None
        self._on_target_change()
        self.show_tasks_or_sign_in()

    def _replace_client(self, target: Target, client: BeRayClient) -> None:
        """Continue with another client, and notify the screens, which stay open."""
        self.server.replace(target, client)
        self._on_target_change()
        for screen in self._screens.screen_stack[1:]:
            screen.post_message(messages.ClientReplaced())

    # A server that was replaced

    def successor(self) -> Callable[[], messages.SuccessorFound | None] | None:
        """Return a function that finds the successor of the current server, if it can have one."""
        server, renew, connect = self.server, self.renew, self._connect
        if renew is None:
            return None

        def find() -> messages.SuccessorFound | None:
            found = renew()
            if (found.url, found.token) == (server.target.url, server.target.token):
                return None
            return messages.SuccessorFound(found, connect(found))

        return find

    def successor_found(self, target: Target, client: BeRayClient) -> None:
        """Continue with another server that has taken over the tasks."""
        if target.profile == self.server.target.profile:  # ignores servers the user has left
            self._replace_client(target, client)

    # A session that has ended

    def check(self, reason: str) -> None:
        """Check whether a rejected token is invalid; if so, the user is asked to sign in, once.

        Args:
            reason: Error message of the request that was rejected.
        """
        if self._is_checking or self._is_signing_in_again() or self.server.target.token is None:
            return
        self._is_checking = True
        client = self.server.client
        background.run(
            self._screens,
            lambda: _check_session(client, reason),
            lambda error: SessionChecked(client, reason, error),
        )

    def checked(self, message: SessionChecked) -> None:
        """Ask the user to sign in, or show why a valid token was rejected."""
        self._is_checking = False
        if message.client is not self.server.client or not self._screens.screen_stack:
            return
        if isinstance(message.error, AuthenticationError):
            self._end_reason = message.reason + (
                _LOCAL_SERVER_HINT if self.server.target.embedded else ""
            )
            self._ask_to_sign_in_again()
        elif message.user is not None and must_change_password(message.user):
            self._require_new_password()
        elif message.error is None and message.reason != self._last_rejection:
            # The session is valid: one request was not allowed, or it used an earlier token.
            self._last_rejection = message.reason
            self._notify(message.reason, "error")

    def _ask_to_sign_in_again(self) -> None:
        from tui.screens.sign_in import SignInAgainScreen, SignInScreen

        if not self.is_open(SignInScreen):
            target = self.server.target
            client = self._anonymous_client(target)
            self._screens.push_screen(
                SignInAgainScreen(client, target, self.profiles, self._end_reason)
            )

    # Other servers

    def open_servers(self) -> None:
        """Show the dialog for choosing a server."""
        from tui.screens.profiles import ProfilesScreen

        if self.is_open(ProfilesScreen):
            while not isinstance(self._screens.screen, ProfilesScreen):
                self._screens.pop_screen()
            return
        self._read_profiles(wanted=True)

    def _read_profiles(self, text: str = "", *, wanted: bool = False) -> None:
        path = self.profiles.path
        background.run(
            self._screens, lambda: ProfilesRead(Profiles(path), text, wanted), ProfilesFailed
        )

    def profiles_read(self, message: ProfilesRead) -> None:
        """Show the stored profiles in the dialog for choosing a server."""
        from tui.screens.profiles import ProfilesScreen

        self.profiles = message.profiles
        for screen in self._screens.screen_stack:
            if isinstance(screen, ProfilesScreen):
                screen.show(self.profiles, self.server.target)
                if message.text:
                    screen.show_progress(message.text)
                return
        if message.wanted and self._screens.screen_stack:
            self._screens.push_screen(
                ProfilesScreen(self.profiles, self.server.target, start_local_server)
            )

    def profiles_failed(self, error: Exception) -> None:
        """Show why the profiles could not be read or written."""
        from tui import account

        self._notify(f"Cannot read or write the profiles: {account.profile_error(error)}", "error")

    def switch_to(self, target: Target) -> None:
        """Switch to a server at which the user is signed in, also for the next start."""
        self._switch_to(target)
        profiles, name = self.profiles, target.profile
        background.change_settings(
            self._screens, lambda: _set_current_profile(profiles, name), ProfilesFailed
        )

    def sign_in_elsewhere(self, target: Target) -> None:
        """Show the sign-in screen of another server."""
        from tui.screens.sign_in import SignInElsewhereScreen

        client = self._anonymous_client(target)
        self._screens.push_screen(SignInElsewhereScreen(client, target, self.profiles))

    def leave_sign_in(self) -> None:
        """Return from signing in at another server to the previous screen."""
        self._screens.pop_screen()
        if self._end_reason and self.server.target.token:
            self._ask_to_sign_in_again()

    # Signing out

    def sign_out(self, name: str | None = None) -> None:
        """Remove the saved token, then end the session on the server.

        Args:
            name: Profile; by default the one in use.
        """
        current = self.server.target
        name = current.profile if name is None else name
        here = name == current.profile and not current.embedded
        saved, profiles = self.profiles.get(name), self.profiles
        targets = [] if saved is None else [Target(saved.url, name, saved.token)]
        if here:
            targets.append(current)
        environment_token = os.environ.get("BERAY_TOKEN")
        tokens = {
            target.token: target
            for target in targets
            if target.token not in (None, environment_token)
        }
        clients = [self._connect(target) for target in tokens.values()]
        token_note = "; BERAY_TOKEN is set and remains in use" if environment_token and here else ""
        background.change_settings(
            self._screens,
            lambda: self._remove_token(profiles, name, clients, token_note),
            ProfilesFailed,
        )
        if here:
            self._leave_account(f"Signed out of {name}.")

    def _remove_token(
        self, profiles: Profiles, name: str, clients: list[BeRayClient], token_note: str
    ) -> ProfilesRead:
        """Remove the token of a profile and start ending its session on the server. Blocks."""
        from tui import account

        profiles.sign_out(name)
        background.run(
            self._screens,
            lambda: SignedOut(account.end_session(name, clients) + token_note),
            ProfilesFailed,
        )
        return ProfilesRead(Profiles(profiles.path))

    def signed_out(self, text: str) -> None:
        """Show the result of signing out on the server."""
        if not self._screens.screen_stack:
            return  # the app is closing
        from tui.screens.profiles import ProfilesScreen
        from tui.screens.sign_in import SignInScreen

        screen = self._screens.screen
        if isinstance(screen, SignInScreen):
            screen.give_reason(text)
        elif not self.is_open(ProfilesScreen):
            self._notify(text)
        self._read_profiles(text)


def start_local_server() -> Target:
    """Start or join the local server. Blocks."""
    from beray import local_server

    return local_server.ensure()


def _same_account(first: Target, second: Target) -> bool:
    """Return True if both are certainly the same account, so that its screens may stay open."""
    if first.url != second.url or first.email is None or second.email is None:
        return False
    return first.email.casefold() == second.email.casefold()


def _check_session(client: BeRayClient, reason: str) -> SessionChecked:
    return SessionChecked(client, reason, None, client.get_current_user())


def _save_email(profiles: Profiles, target: Target, token: str, email: str) -> ProfilesRead:
    profiles.sign_in(target, token, email)
    return ProfilesRead(Profiles(profiles.path))


def _forget_token(profiles: Profiles, name: str) -> ProfilesRead:
    profiles.sign_out(name)
    return ProfilesRead(Profiles(profiles.path))


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
    user: User | None = None


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
