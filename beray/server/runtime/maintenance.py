"""Maintenance: what runs may end, and nothing new begins. ``SIGUSR1`` turns it on and off."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException

RETRY_SECONDS: Final = 30
SAID: Final = "The server is in maintenance; it takes nothing new for a while."


class Maintenance:
    """Whether it is on."""

    def __init__(self) -> None:
        self.on = False

    def require_off(self) -> None:
        """Raises ``HTTPException``: 503, with the time after which to ask again."""
        if self.on:
            raise HTTPException(503, SAID, {"Retry-After": str(RETRY_SECONDS)})
