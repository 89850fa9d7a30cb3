"""Waits for new entries of the audit log."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.concurrency import run_in_threadpool

from beray.server.storage.audit import AuditRepository
from beray.server.storage.tables import AuditEntry

POLL_SECONDS: Final = 0.5
"""Interval in which a waiting request looks for new entries, one indexed read each."""


async def entries_after(
    audit: AuditRepository, after: int, limit: int, wait_seconds: float
) -> list[AuditEntry]:
    """Return entries with an id above ``after``, oldest first.

    Args:
        audit: Repository of the audit log.
        after: Id of the last known entry.
        limit: Maximum number of entries.
        wait_seconds: Maximum time to wait for the first entry.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_seconds
    while True:
        entries = await run_in_threadpool(audit.page, after, limit)
        if entries or loop.time() >= deadline:
            return entries
        await asyncio.sleep(min(POLL_SECONDS, max(0.0, deadline - loop.time())))
