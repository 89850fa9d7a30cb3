"""Limits that commands exceed, as the launcher reports them to the server."""


class Excess:
    """A limit that a command has exceeded.

    Attributes:
        limit: Name of the limit: ``processes``, ``memory``, ``disk`` or ``descriptors``.
        problem: Description for users, such as "more than 64 processes".
    """

    def __init__(self, limit: str, problem: str) -> None:
        self.limit = limit
        self.problem = problem


def memory_excess(max_bytes: int, reason: str = "") -> Excess:
    """Return the excess of the limit of memory."""
    return Excess("memory", f"more than {max_bytes:,} bytes of memory{reason}")
