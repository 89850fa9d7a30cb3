"""Requests about the user's own account: passwords, the address, sessions, deletion and export.

BeRay extensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import requests

from beray import account_schema, schema
from beray.account_schema import SignedInDevice
from beray.exceptions import AuthenticationError, UnprocessableEntityError
from beray.http.transport import Transport, quote_path_segment
from beray.sanitize import normalized_password
from beray.schema import Message, ResponseSchema, User

T = TypeVar("T")


class OwnAccount:
    """Requests about the user's own account, which ``BeRayClient`` composes to its methods.

    A person waits for the results and decides whether to try again, so error responses are not
    retried; requests that change something are never repeated.

    Args:
        transport: Sends the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def request_password_reset(self, email: str) -> Message:
        """Request a code for a new password."""
        return self._post(schema.MESSAGE, "/auth/request-password-reset", {"email": email})

    def change_password(self, password: str, new_password: str) -> Message:
        """Change the password, which is sent in NFKC form; see ``try_password_forms``."""
        new = normalized_password(new_password)
        return try_password_forms(
            password,
            lambda form: self._post(
                schema.MESSAGE, "/users/me/password", {"password": form, "new_password": new}
            ),
        )

    def request_email_change(self, email: str, password: str) -> Message:
        """Request the codes for a change of the address."""
        return try_password_forms(
            password,
            lambda form: self._post(
                schema.MESSAGE, "/users/me/request-email-change", {"email": email, "password": form}
            ),
        )

    def change_email(self, email: str, current_code: str, new_code: str) -> User:
        """Change the address with the codes of both addresses."""
        body = {"email": email, "current_code": current_code, "new_code": new_code}
        return self._post(schema.USER, "/users/me/email", body)

    def delete(self, password: str) -> Message:
        """Delete the account with all its data."""
        return try_password_forms(
            password,
            lambda form: self._post(schema.MESSAGE, "/users/me/delete", {"password": form}),
        )

    def export(self, **options: Any) -> requests.Response:
        """Return the response with the ZIP archive; ``options`` are those of ``request``."""
        return self._transport.request("GET", "/users/me/export", **options)

    def list_sessions(self) -> list[SignedInDevice]:
        """Return the sessions, most recently used first."""
        return self._transport.json(account_schema.DEVICES, "GET", "/sessions")

    def revoke_session(self, session_id: str) -> Message:
        """End a session."""
        path = f"/sessions/{quote_path_segment(session_id)}"
        return self._transport.json(schema.MESSAGE, "DELETE", path)

    def revoke_sessions(self, *, others: bool) -> Message:
        """End all sessions, or all except that of this client."""
        params = {"others": "true"} if others else None
        return self._transport.json(schema.MESSAGE, "DELETE", "/sessions", params=params)

    def _post(self, response: ResponseSchema[T], path: str, body: dict[str, str]) -> T:
        return self._transport.json(response, "POST", path, json=body, retry_error_responses=False)


def try_password_forms(password: str, send: Callable[[str], T]) -> T:
    """Return the result of ``send`` with a password in NFKC form.

    If the server rejects this form, the password is sent unchanged, for accounts whose password
    was set in another form.
    """
    normalized = normalized_password(password)
    try:
        return send(normalized)
    except (AuthenticationError, UnprocessableEntityError):
        if normalized == password:
            raise
    return send(password)
