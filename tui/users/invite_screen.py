"""Dialog that invites an address to register."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.app import ComposeResult
from textual.message import Message
from textual.widgets import Checkbox, Static

from beray.account_schema import Invitation
from beray.sanitize import one_line
from beray.schema import Role
from tui.state.current_server import CurrentServer
from tui.users.form_screen import FormScreen
from tui.users.rows import minute
from tui.widgets.field import Field

_MAX_EMAIL: Final = 320


@dataclass(eq=False, repr=False)
class Invited(Message):
    """The server created an invitation."""

    invitation: Invitation


class InviteScreen(FormScreen):
    """Dialog that creates an invitation.

    Attributes:
        result: Description of the invitation, once it was created.
    """

    HEADING = "Invite a user"
    SUBMIT = "Invite"
    VERB = "invites"
    FIELDS = {"email": "email"}  # noqa: RUF012

    def __init__(self, server: CurrentServer) -> None:
        super().__init__(server)
        self.result = ""

    def compose_fields(self) -> ComposeResult:
        yield Static(
            "The address can register. The server mails the invitation if it can send mail.",
            classes="hint",
            markup=False,
        )
        yield Field("E-mail", id="email")
        yield Checkbox("Administrator: manages the users of the server", id="role", compact=True)

    def submit(self) -> None:
        email = self.field("email")
        address = email.value.strip()
        role: Role = "administrator" if self.query_one("#role", Checkbox).value else "user"
        if not address:
            email.show_problem("Enter an e-mail address.")
            return
        client = self._server.client
        self.send("Inviting …", "invite", lambda: Invited(client.admin.invite(address, role=role)))

    def on_invited(self, message: Invited) -> None:
        message.stop()
        invitation = message.invitation
        email = one_line(invitation["email"], _MAX_EMAIL)
        until = minute(invitation.get("expires_at"))
        if invitation.get("mailed"):
            self.result = f"Invitation mailed to {email}, valid until {until}"
        else:
            self.result = (
                f"{email} can register until {until}; no mail was sent, so tell the user yourself"
            )
        self.dismiss(True)

    def place_of(self, error: Exception) -> str:
        return "email"
