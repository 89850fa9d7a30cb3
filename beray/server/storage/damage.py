"""Positions in streams after which a damaged database cannot be read.

When damage is found, the response of the stream has already begun, so that the server can only
close the connection. The position is recorded here, so that a client that reconnects at this
position receives an error response instead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import structlog

from beray.server.storage.database_errors import StorageError, error_text, is_damaged

MAX_POSITIONS: Final = 1000
"""Maximum number of recorded positions; the oldest one is dropped first."""

log = structlog.get_logger("beray.database")


class DamagedPlaces:
    """Recorded positions of damage, kept in memory. Used on one event loop."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, StorageError] = OrderedDict()

    def note(self, place: Hashable, error: StorageError) -> None:
        """Record the position ``place`` if ``error`` reports damage."""
        if not is_damaged(error) or place in self._found:
            return
        log.error(
            "a stream ended because the database is damaged",
            position=place,
            error=error_text(error),
        )
        self._found[place] = error
        if len(self._found) > MAX_POSITIONS:
            self._found.popitem(last=False)

    def require_sound(self, place: Hashable) -> None:
        """Check that no damage is recorded at the position ``place``.

        Raises:
            StorageError: The recorded error; ``is_damaged`` returns True for it.
        """
        if (error := self._found.get(place)) is not None:
            raise error
