"""Places of streams that a damaged database prevents from being read.

A stream has begun when damage is found, so that its connection can only be cut. The place is
noted here: a client that comes back to it gets an error response instead of another cut.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import structlog
from sqlalchemy.exc import DatabaseError

from beray.server.storage.database_errors import is_damaged

MOST_PLACES: Final = 1000

log = structlog.get_logger("beray.database")


class DamagedPlaces:
    """Used on one event loop. The places are forgotten with the server."""

    def __init__(self) -> None:
        self._found: OrderedDict[Hashable, DatabaseError] = OrderedDict()

    def note(self, place: Hashable, error: DatabaseError) -> None:
        """Remember that nothing can be read after ``place``, if ``error`` reports damage."""
        if not is_damaged(error) or place in self._found:
            return
        log.error("a stream met damage of the database", place=place, error=str(error.orig))
        self._found[place] = error
        if len(self._found) > MOST_PLACES:
            self._found.popitem(last=False)

    def require_sound(self, place: Hashable) -> None:
        """Return if no damage is known after ``place``.

        Raises:
            DatabaseError: for which ``is_damaged`` is true.
        """
        if (error := self._found.get(place)) is not None:
            raise error
