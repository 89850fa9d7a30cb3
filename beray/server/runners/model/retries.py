"""Retry policy for requests to a model's provider."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    ModelServerError,
    ModelUnavailableError,
)

from beray.server.runners.model.answer_end import IncompleteAnswer

_TRANSIENT = (
    ModelRateLimitError,
    ModelUnavailableError,
    ModelServerError,
    ModelConnectionError,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter.

    Attributes:
        max_attempts: Number of attempts, including the first.
        initial_seconds: Delay before the second attempt. It is doubled for each further attempt.
        max_seconds: Maximum delay, which also limits ``Retry-After``.
    """

    max_attempts: int = 5
    initial_seconds: float = 1.0
    max_seconds: float = 60.0

    def delay(self, attempts: int, error: ModelAPIError) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        Args:
            attempts: Number of failed attempts so far.
            error: The last failure. Its ``Retry-After`` takes precedence over the backoff.
        """
        if attempts >= self.max_attempts or not is_transient(error):
            return None
        if (requested := error.retry_after) is not None and requested >= 0:
            return min(requested, self.max_seconds)
        seconds: float = self.initial_seconds * 2 ** (attempts - 1)
        # Runs that failed at the same time must not retry at the same time.
        return min(seconds * random.uniform(0.8, 1.2), self.max_seconds)


def is_transient(error: ModelAPIError) -> bool:
    """Return True if the same request may succeed later: 408, 429, 5xx or a lost connection."""
    if isinstance(error, IncompleteAnswer):
        return not error.is_page
    if isinstance(error, ModelQuotaExceededError | ModelRequestRejectedError):
        return False
    if isinstance(error, _TRANSIENT):
        return True
    if isinstance(error, ModelHTTPError):
        return error.status_code in (408, 429) or error.status_code >= 500
    return False
