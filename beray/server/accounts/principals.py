"""Who calls the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

INTERNAL_TOKEN: Final = "X-Internal-Token"
"""Header with the internal token of a request."""


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, maybe through an agent; or nobody but an address that is let in."""

    user_id: int | None
    agent_id: str | None
    address: str
    run: str | None = None
    """Digest of the token, if it is that of a run."""

    @property
    def scope(self) -> str:
        """Whose objects are theirs: the second part of a key."""
        return "whitelisted" if self.user_id is None else str(self.user_id)

    @property
    def subject(self) -> str:
        """Whom quotas count."""
        return f"address:{self.address}" if self.user_id is None else f"user:{self.user_id}"
