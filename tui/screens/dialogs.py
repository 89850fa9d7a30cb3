"""Dialogs that the controllers of the main screen open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from textual.content import Content
from textual.screen import Screen

from tui.controllers.interfaces import Download, Send
from tui.state.current_server import CurrentServer
from tui.state.task_draft import TaskDraft
from tui.state.user_state import UserState

if TYPE_CHECKING:
    from tui.composer.sending import SubmitResult


class PushScreen(Protocol):
    """Function that shows a screen above the current one."""

    def __call__(self, screen: Screen[Any], callback: Callable[[Any], None]) -> object: ...


class MainScreenDialogs:
    """Implementation of ``tui.controllers.interfaces.Dialogs``.

    The screens are imported when they are first shown, because they may never be.

    Args:
        push_screen: Shows a screen, and calls the callback with its result.
        server: Account of the drafts.
        user_state: Storage of the drafts and of the history.
    """

    def __init__(
        self, *, push_screen: PushScreen, server: CurrentServer, user_state: UserState
    ) -> None:
        self._push_screen = push_screen
        self._server = server
        self._user_state = user_state

    def compose_task(
        self, initial: TaskDraft | None, problem: str, on_submit: Callable[[TaskDraft], None]
    ) -> None:
        """Open the composer; see ``Dialogs``."""
        from tui.composer.screen import ComposerScreen

        screen = ComposerScreen(self._user_state, self._server.account, initial, problem=problem)
        self._push_screen(screen, _if_any(on_submit))

    def send(
        self,
        subject: str,
        send: Send,
        on_result: Callable[[SubmitResult | Exception | None], None],
    ) -> None:
        """Send in a thread and show the progress; see ``Dialogs``."""
        from tui.composer.sending_screen import SendingScreen

        self._push_screen(SendingScreen(subject, send), on_result)

    def confirm(
        self, title: str, subject: Content, question: str, button: str, on_yes: Callable[[], None]
    ) -> None:
        """Ask for a confirmation; see ``Dialogs``."""
        from tui.screens.confirm import ConfirmScreen

        def answered(yes: bool | None) -> None:
            if yes:
                on_yes()

        self._push_screen(ConfirmScreen(title, subject, question, button), answered)

    def save(
        self, title: Content, suggested: Path, download: Download, on_saved: Callable[[Path], None]
    ) -> None:
        """Ask for a path and download to it; see ``Dialogs``."""
        from tui.screens.save import SaveScreen

        self._push_screen(SaveScreen(title, suggested, download), _if_any(on_saved))

    def name_chat(self, suggested: str, problem: str, on_name: Callable[[str], None]) -> None:
        """Ask for the name of a chat; see ``Dialogs``."""
        from tui.screens.chat_name import ChatNameScreen

        self._push_screen(ChatNameScreen(suggested, problem), _if_any(on_name))


def _if_any(callback: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a function that calls ``callback`` unless the dialog was cancelled."""

    def closed(result: Any) -> None:
        if result is not None:
            callback(result)

    return closed
