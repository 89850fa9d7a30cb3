"""Maintenance mode: running work continues, new work is rejected. ``SIGUSR1`` toggles it."""

from __future__ import annotations

from typing import Final

from fastapi import HTTPException

RETRY_SECONDS: Final = 30
"""Value of ``Retry-After`` in rejections."""
MAINTENANCE_MESSAGE: Final = (
    "The server is in maintenance mode and accepts no new work. Try again later."
)
"""Message of rejections."""


class Maintenance:
    """State of the maintenance mode."""

    def __init__(self) -> None:
        self.on = False

    def require_off(self) -> None:
        """Raise an error if the maintenance mode is on.

        Raises:
            HTTPException: The mode is on; 503 with ``Retry-After``.
        """
        if self.on:
            raise HTTPException(503, MAINTENANCE_MESSAGE, {"Retry-After": str(RETRY_SECONDS)})
