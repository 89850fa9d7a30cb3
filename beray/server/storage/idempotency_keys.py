"""``Idempotency-Key`` of requests that created tasks.

The functions take part in the transaction that creates the task.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, NamedTuple, Self

from sqlalchemy import delete
from sqlalchemy.orm import Session

from beray.server.storage.tables import CreationKey
from beray.server.storage.times import utc_now

IDEMPOTENCY_KEY_SECONDS: Final = 24 * 3600
"""Lifetime of an ``Idempotency-Key``."""


class IdempotencyKeyUsed(Exception):
    """The ``Idempotency-Key`` belongs to an earlier request.

    Attributes:
        task_id: Task that the earlier request created.
        same_request: True if both requests have the same content.
    """

    def __init__(self, task_id: int, *, same_request: bool) -> None:
        super().__init__(f"task {task_id} was created with this key")
        self.task_id = task_id
        self.same_request = same_request


class IdempotencyKey(NamedTuple):
    """An ``Idempotency-Key`` and the SHA-256 digest of the request that has it."""

    value: str
    request_digest: str

    @classmethod
    def for_request(cls, value: str, request: Any) -> Self:
        """Return the key ``value`` for a request, which is given as decoded JSON."""
        text = json.dumps(request, sort_keys=True)
        return cls(value, hashlib.sha256(text.encode()).hexdigest())


def require_unused(session: Session, user_id: int, key: IdempotencyKey) -> None:
    """Check that a user has not created a task with the key, and delete expired keys.

    Raises:
        IdempotencyKeyUsed: An earlier request created a task with the key.
    """
    expired = CreationKey.created_at <= utc_now(-IDEMPOTENCY_KEY_SECONDS)
    session.execute(delete(CreationKey).where(expired))
    check_unused(session, user_id, key)


def check_unused(session: Session, user_id: int, key: IdempotencyKey) -> None:
    """Check that a user has not created a task with the key, without a change of the database.

    Raises:
        IdempotencyKeyUsed: An earlier request created a task with the key.
    """
    earlier = session.get(CreationKey, (user_id, key.value))
    if earlier is not None and earlier.created_at > utc_now(-IDEMPOTENCY_KEY_SECONDS):
        same = earlier.request_digest == key.request_digest
        raise IdempotencyKeyUsed(earlier.task_id, same_request=same)


def add(session: Session, user_id: int, task_id: int, key: IdempotencyKey, at: str) -> None:
    """Store the key of the request that created a task at the time ``at``."""
    session.add(
        CreationKey(
            user_id=user_id,
            key=key.value,
            request_digest=key.request_digest,
            task_id=task_id,
            created_at=at,
        )
    )


def delete_of_task(session: Session, task_id: int) -> None:
    """Delete the key of the request that created a task, so that it can be used again."""
    session.execute(delete(CreationKey).where(CreationKey.task_id == task_id))
