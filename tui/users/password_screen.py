"""Dialog for a new password."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Static

from beray.exceptions import UnprocessableEntityError
from tui import account, messages
from tui.state.current_server import CurrentServer
from tui.users.form_screen import FormScreen
from tui.widgets.field import Field


class ChangePasswordScreen(FormScreen):
    """Dialog that changes the password and posts ``PasswordChanged``.

    Args:
        server: Account in use.
        required: Whether the server rejects other requests until the password is changed.
    """

    HEADING = "Change password"
    SUBMIT = "Change password"
    VERB = "changes it"
    FIELDS = {"password": "current", "new_password": "new"}  # noqa: RUF012

    def __init__(self, server: CurrentServer, *, required: bool = False) -> None:
        super().__init__(server)
        self.required = required

    @property
    def cancel_label(self) -> str:
        return "Sign out" if self.required else "Cancel"

    @property
    def cancel_verb(self) -> str:
        return "signs out" if self.required else "cancels"

    def compose_fields(self) -> ComposeResult:
        hint = "Other sessions of the account end."
        if self.required:
            hint = "An administrator requires a new password first."
        yield Static(hint, classes="hint", markup=False)
        label = "Current or temporary password" if self.required else "Current password"
        yield Field(label, id="current", secret=True)
        yield Field("New password (at least 8 characters)", id="new", secret=True)
        yield Field("The new password again", id="again", secret=True)

    def submit(self) -> None:
        current, new, again = self.field("current"), self.field("new"), self.field("again")
        if not current.value:
            current.show_problem("Enter the current password.")
        elif problem := account.new_password_problem(new.value):
            new.show_problem(problem)
        elif again.value != new.value:
            again.show_problem("The passwords differ.")
        else:
            client, before, after = self._server.client, current.value, new.value
            self.send(
                "Changing the password …",
                "change the password",
                lambda: messages.PasswordChanged(
                    client.change_password(before, after).get("message")
                    or "The password was changed."
                ),
            )

    def place_of(self, error: Exception) -> str:
        # Other rejections are about the current password, or about too many wrong ones.
        return "new" if isinstance(error, UnprocessableEntityError) else "current"

    async def action_cancel(self) -> None:
        if self.required:
            await self.run_action("app.sign_out")
        else:
            await super().action_cancel()
