"""Screen for a new password after the old one was forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beray.schema import Message, Session
from tui.screens.mailed_code import MailedCodeScreen

if TYPE_CHECKING:
    from beray.client import BeRayClient


class ResetPasswordScreen(MailedCodeScreen):
    """Reset of the password with a code that is mailed to the address."""

    HEADING = "Forgotten password"
    SUBMIT = "Set password"
    SUBMITTING = "Setting the password …"
    PASSWORD = "New password (at least 8 characters)"
    REPEATS_PASSWORD = True

    def request_code(self, client: BeRayClient, email: str) -> Message:
        """Have a code for a new password mailed, if the address has an account. Blocks."""
        return client.request_password_reset(email)

    def authenticate(self, client: BeRayClient, email: str, code: str, password: str) -> Session:
        """Set the password and sign in. Blocks."""
        return client.reset_password(email, code, password)
