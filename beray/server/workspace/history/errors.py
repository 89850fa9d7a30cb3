"""Errors of the history of work_dirs."""

from __future__ import annotations


class DamagedContent(Exception):
    """Stored content is missing or differs from what was stored.

    Attributes:
        reason: Description for messages.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
