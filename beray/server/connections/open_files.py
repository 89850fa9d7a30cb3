"""Limit of open files of the server's process, and what it allows.

A connection, a file being transferred, a pipe to a command and a database connection each take
a descriptor. Without a reserve, connections would take those that running tasks need.
"""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

WANTED: Final = 65_536
RECOMMENDED: Final = 4096
_FALLBACK: Final = 10_240
"""OPEN_MAX of macOS, where a higher limit may be refused although the hard limit allows it."""
BACKLOG: Final = 128
"""Connections that are accepted at once, before the limit of connections is applied."""
_SERVER_FILES: Final = 160 + 2 * BACKLOG
"""Database, threads, logs and a burst of connections."""
_FILES_PER_RUN: Final = 16
"""Pipes, sockets and folders of a command or a run."""
_FILES_PER_CONNECTION: Final = 3
"""The socket, and the folder and the file of a transfer."""

_inherited: int | None = None


class OpenFiles(NamedTuple):
    """Open-file limit of this process.

    Attributes:
        limit: of descriptors.
        connections: how many connections it allows.
    """

    limit: int
    connections: int

    def __str__(self) -> str:
        return f"{self.limit:,} open files, {self.connections:,} connections"

    @property
    def advice(self) -> str | None:
        """Change that the operator should make, or ``None``."""
        if self.limit >= RECOMMENDED:
            return None
        return (
            f"the limit of open files is {self.limit:,} and allows {self.connections:,} "
            f"connections; raise the hard limit to {RECOMMENDED:,} or more (LimitNOFILE= of "
            "systemd, ulimit -Hn of a shell)"
        )


def raise_limit() -> int:
    """Set the soft limit to the hard limit, at most ``WANTED``; return it.

    Processes that the server starts inherit it; ``inherited_limit`` is what they should have.
    """
    global _inherited
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _inherited is None:
        _inherited = soft
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    for value in (wanted, min(wanted, _FALLBACK)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (value, hard))
        except (OSError, ValueError):
            continue
        return value
    return soft


def inherited_limit() -> int:
    """Return the soft limit that this process was started with."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] if _inherited is None else _inherited


def set_limit(soft: int) -> None:
    """Set the soft limit, as far as the hard limit allows it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    value = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (value, hard))


def measured(runs: int) -> OpenFiles:
    """Return the limit in force and the number of connections that it allows.

    Args:
        runs: how many tasks, chats and functions can run at once.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    reserve = min(_SERVER_FILES + runs * _FILES_PER_RUN, limit // 2)
    return OpenFiles(limit, max(8, (limit - reserve) // _FILES_PER_CONNECTION))
