"""Server and account that the screens work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beray.config import Target
from beray.schema import User
from tui.state.user_state import account_of

if TYPE_CHECKING:
    from beray.client import BeRayClient


class CurrentServer:
    """The account in use and its client, shared by the session, the screens and the controllers.

    Only the session replaces the client: after a renewed sign-in, and if another server has taken
    over the tasks. Everything else reads it when a request starts. Another account is another
    object, so that a screen that is being closed never uses its client.

    Attributes:
        target: Server and account.
        client: Client for ``target``.
        user: The account, once the server has returned it.
    """

    def __init__(self, target: Target, client: BeRayClient) -> None:
        self.target = target
        self.client = client
        self.user: User | None = None

    @property
    def is_administrator(self) -> bool:
        """True if the user is known to be an administrator of the server."""
        return self.user is not None and self.user.get("role") == "administrator"

    @property
    def account(self) -> str:
        """Key under which the state of the account is saved."""
        return account_of(self.target)

    def replace(self, target: Target, client: BeRayClient) -> None:
        """Continue with another client for the same account, and close the current one."""
        before, self.target, self.client = self.client, target, client
        self.user = None
        if before is not client:
            before.close()


def must_change_password(user: object) -> bool:
    """Return True if the server requires a new password of ``user`` before anything else."""
    return isinstance(user, dict) and user.get("must_change_password") is True
