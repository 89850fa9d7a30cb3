"""Principals of the gateway: the identity that a request was authenticated as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INTERNAL_TOKEN: Final = "X-Internal-Token"
"""Header with the internal token of a request."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated sender of a gateway request.

    A user, a user's agent, or an anonymous client whose address is on the allow-list.

    Attributes:
        user_id: The user; ``None`` for an anonymous client.
        agent_id: The user's agent that sent the request, if any.
        address: IP address of the client.
        run: Digest of the internal token, if the token belongs to a run.
    """

    user_id: int | None
    agent_id: str | None
    address: str
    run: str | None = None

    @property
    def scope(self) -> str:
        """Second part of the keys of the principal's objects."""
        return "whitelisted" if self.user_id is None else str(self.user_id)

    @property
    def subject(self) -> str:
        """Key by which quotas count calls."""
        return f"address:{self.address}" if self.user_id is None else f"user:{self.user_id}"
