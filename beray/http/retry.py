"""Retry policy for HTTP requests.

A request that certainly was not processed is always retried. A request that may have been
processed is retried only if repeating it has no additional effect: GET, HEAD, PUT and DELETE
(RFC 9110, 9.2.2), or POST with an ``Idempotency-Key`` that the server honours.
"""

from __future__ import annotations

import random
from typing import Final

from beray.exceptions import APIError, BeRayException, ConnectionFailed

MAX_RETRIES: Final = 3
MAX_RETRY_AFTER_SECONDS: Final = 60.0
"""Longer ``Retry-After`` values are treated as a final failure."""
_INITIAL_BACKOFF_SECONDS: Final = 0.25
_MAX_BACKOFF_SECONDS: Final = 8.0
_IDEMPOTENT_METHODS: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_TRANSIENT_STATUSES: Final = frozenset({500, 502, 503, 504})


def is_idempotent(method: str) -> bool:
    """Return True if repeating a request with this method has no additional effect."""
    return method in _IDEMPOTENT_METHODS


def retry_delay(error: BeRayException, attempt: int, *, idempotent: bool) -> float | None:
    """Return the seconds to wait before the next attempt, or ``None`` to give up.

    Args:
        error: The failure of the last attempt.
        attempt: Number of failed attempts so far, starting at 1.
        idempotent: True if the request may be processed twice.
    """
    if isinstance(error, ConnectionFailed):
        return backoff(attempt) if idempotent or not error.delivered else None
    if not isinstance(error, APIError) or error.is_permanent:
        return None
    retry_after = error.retry_after
    if error.status_code in (429, 503) and retry_after is not None:
        # 429 and 503 with Retry-After guarantee that the request was not processed.
        too_long = retry_after > MAX_RETRY_AFTER_SECONDS
        return None if too_long else max(retry_after, backoff(attempt))
    return backoff(attempt) if idempotent and error.status_code in _TRANSIENT_STATUSES else None


def backoff(
    attempt: int,
    initial: float = _INITIAL_BACKOFF_SECONDS,
    maximum: float = _MAX_BACKOFF_SECONDS,
) -> float:
    """Return an exponential backoff with jitter, in seconds.

    Args:
        attempt: Number of failed attempts so far, starting at 1.
        initial: Backoff of the first attempt, in seconds, before jitter.
        maximum: Upper limit, in seconds.
    """
    ceiling: float = min(initial * 2.0 ** min(attempt - 1, 16), maximum)
    return ceiling * random.uniform(0.5, 1.0)


def outcome_unknown(error: BeRayException) -> bool:
    """Return True if the error leaves open whether the server processed the request."""
    if isinstance(error, APIError):
        return error.status_code >= 500
    return isinstance(error, ConnectionFailed)
