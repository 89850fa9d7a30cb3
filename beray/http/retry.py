"""Whether a failed call is made again, and when: by what is known of its delivery.

What surely was not processed may always be sent again. What may have been processed is
sent again only where twice is the same as once: GET, HEAD, PUT and DELETE (RFC 9110,
9.2.2), and a POST with an ``Idempotency-Key`` that the server honours.
"""

from __future__ import annotations

import random
from typing import Final

from beray.exceptions import APIError, BeRayException, ConnectionFailed

RETRIES: Final = 3
LONGEST_WAIT: Final = 60.0
"""Seconds. A server that asks for more gets no second try."""
_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 8.0
_REPEATABLE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_MAY_PASS: Final = frozenset({500, 502, 503, 504})


def repeatable(method: str) -> bool:
    """Whether making the call twice is the same as making it once."""
    return method in _REPEATABLE


def pause(error: BeRayException, attempt: int, *, may_repeat: bool) -> float | None:
    """Seconds to wait before the next attempt; ``None`` where there must be none.

    Args:
        attempt: how many have failed, this one included.
        may_repeat: whether the call may be made twice.
    """
    if isinstance(error, ConnectionFailed):
        return backoff(attempt) if may_repeat or not error.delivered else None
    if not isinstance(error, APIError) or error.is_permanent:
        return None
    asked = error.retry_after
    if error.status_code in (429, 503) and asked is not None:
        # The server says that it has not done it, and when to come back.
        return max(asked, backoff(attempt)) if asked <= LONGEST_WAIT else None
    return backoff(attempt) if may_repeat and error.status_code in _MAY_PASS else None


def backoff(attempt: int, first: float = _FIRST_DELAY, longest: float = _LONGEST_DELAY) -> float:
    """Seconds: doubling with each attempt up to a limit, with jitter so that clients part."""
    ceiling: float = min(first * 2.0 ** min(attempt - 1, 16), longest)
    return ceiling * random.uniform(0.5, 1.0)


def leaves_open(error: BeRayException) -> bool:
    """Whether, of a call that may have been done, this answer does not say that it was not."""
    if isinstance(error, APIError):
        return error.status_code >= 500
    return isinstance(error, ConnectionFailed)
