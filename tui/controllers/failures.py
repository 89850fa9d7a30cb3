"""Reports of failed requests."""

from __future__ import annotations

from beray.exceptions import AuthenticationError
from tui import messages, sanitize
from tui.controllers.interfaces import ShowNotification
from tui.io.background import MessageTarget


class FailureReporter:
    """Leads from a failed request to a new sign-in or to a notification.

    Args:
        target: Receives ``SessionEnded``.
        notify: Shows a notification.
        has_successor: Whether a server that rejects the token may have been replaced by another
            one. The task feed then finds that server, and only its reader ends the session.
    """

    def __init__(
        self, *, target: MessageTarget, notify: ShowNotification, has_successor: bool
    ) -> None:
        self._target = target
        self._notify = notify
        self._has_successor = has_successor

    def session_ended(self, error: Exception) -> bool:
        """Return True if ``error`` requires a new sign-in, which is then requested."""
        if not isinstance(error, AuthenticationError) or self._has_successor:
            return False
        self.ask_to_sign_in(error)
        return True

    def ask_to_sign_in(self, error: Exception) -> None:
        """Have the session checked, and ask the user to sign in if it has ended."""
        self._target.post_message(messages.SessionEnded(sanitize.error_text(error)))

    def report(self, action: str, error: Exception) -> None:
        """Report that a request failed; ``action`` completes the sentence "Could not …"."""
        if not self.session_ended(error):
            self._notify(f"Could not {action}: {sanitize.error_text(error)}", "error")
