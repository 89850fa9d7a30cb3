"""Parts of the screen that the controllers use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.content import Content
from textual.notifications import SeverityLevel

from tui.state.task_draft import TaskDraft

if TYPE_CHECKING:
    from beray.transfers.transfer import Transfer
    from tui.composer.sending import SubmitResult

Send = Callable[["Transfer"], "SubmitResult"]
"""Sends a task or a message with its attachments. Blocks."""
Download = Callable[[Path, bool, "Transfer"], Path]
"""Downloads to a path and returns it; overwrites an existing file only if the flag is True."""


class ShowNotification(Protocol):
    """Function that shows a notification. The text may be untrusted."""

    def __call__(self, text: str, severity: SeverityLevel = "information") -> None: ...


class RunningTimer(Protocol):
    """Timer that can be stopped."""

    def stop(self) -> None:
        """Stop the timer."""


class SetTimer(Protocol):
    """Function that has a callback called once, after ``delay`` seconds."""

    def __call__(self, delay: float, callback: Callable[[], None]) -> RunningTimer: ...


class Dialogs(Protocol):
    """Dialogs of the main screen. None of the methods waits for the answer."""

    def compose_task(
        self, initial: TaskDraft | None, problem: str, on_submit: Callable[[TaskDraft], None]
    ) -> None:
        """Open the composer.

        Args:
            initial: Initial content, or None for the saved draft.
            problem: Reason why that content was rejected, or "".
            on_submit: Called with the draft to be created.
        """

    def send(
        self,
        subject: str,
        send: Send,
        on_result: Callable[[SubmitResult | Exception | None], None],
    ) -> None:
        """Call ``send`` in a thread and show its progress.

        Args:
            subject: Goal or message.
            send: The work; the user can cancel it.
            on_result: Called with the result or the exception; None if the dialog was closed.
        """

    def confirm(
        self, title: str, subject: Content, question: str, button: str, on_yes: Callable[[], None]
    ) -> None:
        """Ask for a confirmation and call ``on_yes`` if the user agrees."""

    def save(
        self, title: Content, suggested: Path, download: Download, on_saved: Callable[[Path], None]
    ) -> None:
        """Ask for a local path, download to it, and call ``on_saved`` with it."""

    def name_chat(self, suggested: str, problem: str, on_name: Callable[[str], None]) -> None:
        """Ask for the name of a chat.

        Args:
            suggested: Initial value.
            problem: Reason why the server rejected that name, or "".
            on_name: Called with a valid name.
        """
