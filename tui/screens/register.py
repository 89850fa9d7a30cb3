"""Screen for creating an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beray.schema import Message, Session
from tui.screens.mailed_code import MailedCodeScreen

if TYPE_CHECKING:
    from beray.client import BeRayClient


class RegisterScreen(MailedCodeScreen):
    """Registration with a code that is mailed to the address."""

    HEADING = "Create an account"
    SUBMIT = "Create account"
    SUBMITTING = "Creating the account …"
    PASSWORD = "Password (at least 8 characters)"

    def request_code(self, client: BeRayClient, email: str) -> Message:
        """Have a verification code mailed. Blocks."""
        return client.request_verification_code(email)

    def authenticate(self, client: BeRayClient, email: str, code: str, password: str) -> Session:
        """Create the account. Blocks."""
        return client.register(email, code, password)
