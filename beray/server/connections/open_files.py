"""Open-file limit of the server's process, and the number of connections that it allows.

A connection, a file being transferred, a pipe to a command and a database connection each use
a descriptor. Without a reserve, connections would use the descriptors that running tasks need.
"""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

MAX_SOFT_LIMIT: Final = 65_536
"""Soft limit that the server sets, unless the hard limit is lower."""
RECOMMENDED: Final = 4096
"""Limit below which the operator is advised to raise it."""
_FALLBACK: Final = 10_240
"""OPEN_MAX of macOS, which may reject a higher limit although the hard limit allows it."""
BACKLOG: Final = 128
"""Maximum number of connections that are accepted at once, before their limit is applied."""
_SERVER_FILES: Final = 160 + 2 * BACKLOG
"""Descriptors reserved for the database, threads, logs and a burst of connections."""
_FILES_PER_RUN: Final = 16
"""Descriptors of a command or a run: pipes, sockets and directories."""
_FILES_PER_CONNECTION: Final = 3
"""Descriptors of a connection: its socket, and the directory and the file of a transfer."""

_inherited: int | None = None


class OpenFiles(NamedTuple):
    """Open-file limit of this process.

    Attributes:
        limit: Maximum number of descriptors.
        connections: Number of connections that the limit allows.
    """

    limit: int
    connections: int

    def __str__(self) -> str:
        return f"{self.limit:,} open files, {self.connections:,} connections"

    @property
    def advice(self) -> str | None:
        """Change that the operator should make, or None."""
        if self.limit >= RECOMMENDED:
            return None
        return (
            f"the open-file limit is {self.limit:,} and allows {self.connections:,} connections; "
            f"raise the hard limit to {RECOMMENDED:,} or more (systemd: LimitNOFILE=, shell: "
            "ulimit -Hn)"
        )


def raise_limit() -> int:
    """Set the soft limit to the hard limit, but at most to ``MAX_SOFT_LIMIT``; return it.

    Processes that the server starts inherit this limit. They should restore ``inherited_limit``.
    """
    global _inherited
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _inherited is None:
        _inherited = soft
    limit = MAX_SOFT_LIMIT if hard == resource.RLIM_INFINITY else min(hard, MAX_SOFT_LIMIT)
    for value in (limit, min(limit, _FALLBACK)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (value, hard))
        except (OSError, ValueError):
            continue
        return value
    return soft


def inherited_limit() -> int:
    """Return the soft limit with which this process was started."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] if _inherited is None else _inherited


def set_limit(soft: int) -> None:
    """Set the soft limit, but at most to the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    value = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (value, hard))


def measured(runs: int) -> OpenFiles:
    """Return the current limit and the number of connections that it allows.

    Args:
        runs: Maximum number of tasks, chats and prefab functions that run at once.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    reserve = min(_SERVER_FILES + runs * _FILES_PER_RUN, limit // 2)
    return OpenFiles(limit, max(8, (limit - reserve) // _FILES_PER_CONNECTION))
