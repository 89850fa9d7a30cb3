"""Which failures of a provider pass, and how long to wait until it is asked again."""

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

_PASSING = (
    ModelRateLimitError,
    ModelUnavailableError,
    ModelServerError,
    ModelConnectionError,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is made, and how long is waited between: seconds, doubled each time."""

    tries: int = 5
    first_seconds: float = 1.0
    most_seconds: float = 60.0

    def wait_seconds(self, tried: int, error: ModelAPIError) -> float | None:
        """How long to wait after ``tried`` requests; ``None``: give up.

        What the provider asks for is honoured, up to ``most_seconds``.
        """
        if tried >= self.tries or not passes(error):
            return None
        if (asked := error.retry_after) is not None and asked >= 0:
            return min(asked, self.most_seconds)
        wait: float = self.first_seconds * 2 ** (tried - 1)
        # Runs that failed together shall not come back together.
        return min(wait * random.uniform(0.8, 1.2), self.most_seconds)


def passes(error: ModelAPIError) -> bool:
    """Whether the same request may well succeed later: 429, 5xx, a broken connection."""
    if isinstance(error, IncompleteAnswer):
        return not error.is_page
    if isinstance(error, ModelQuotaExceededError | ModelRequestRejectedError):
        return False
    if isinstance(error, _PASSING):
        return True
    if isinstance(error, ModelHTTPError):
        return error.status_code in (408, 429) or error.status_code >= 500
    return False
