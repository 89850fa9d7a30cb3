"""Request for a new API key, of the user or of a service account."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beray.exceptions import InvalidArgument


def new_key_body(
    name: str,
    agent_id: str | None,
    scopes: Iterable[str] | None,
    expires_in_seconds: float | None,
) -> dict[str, Any]:
    """Return the body of the request for a new API key.

    ``scopes`` and ``expires_in_seconds`` are sent only if they have a value, because other servers
    do not know them.

    Raises:
        InvalidArgument: ``scopes`` is a string instead of a list.
    """
    if isinstance(scopes, str):
        raise InvalidArgument(f"scopes must be a list of strings, got {scopes!r}")
    body: dict[str, Any] = {"name": name, "agent_id": agent_id}
    if scopes is not None:
        body["scopes"] = list(scopes)
    if expires_in_seconds is not None:
        body["expires_in_seconds"] = expires_in_seconds
    return body
