"""Repositories of a database, for tests of services without a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from beray.server.storage.accounts import AccountRepository
from beray.server.storage.api_keys import ApiKeyRepository
from beray.server.storage.audit import AuditRepository
from beray.server.storage.blobs import BlobRepository
from beray.server.storage.chats import ChatRepository
from beray.server.storage.checkpoints import CheckpointRepository
from beray.server.storage.database import LOCK_SECONDS, Database
from beray.server.storage.database_space import DatabaseSpace
from beray.server.storage.disk_reserve import DiskReserve
from beray.server.storage.events import EventRepository
from beray.server.storage.internal_tokens import InternalTokenRepository
from beray.server.storage.invitations import InvitationRepository
from beray.server.storage.objects import ObjectRepository
from beray.server.storage.prefab_authors import PrefabAuthorRepository
from beray.server.storage.prefab_calls import PrefabCallRepository
from beray.server.storage.prefab_secrets import PrefabSecretRepository
from beray.server.storage.task_changes import TaskChangeRepository
from beray.server.storage.tasks import TaskRepository
from beray.server.storage.temporary_objects import TemporaryObjectRepository
from beray.server.storage.tokens import SessionLifetime, SessionOrigin, TokenRepository
from beray.server.storage.usage import UsageRepository
from beray.server.storage.verification_codes import VerificationCodeRepository
from beray.server.tasks.event_log import EventLog
from beray.server.tasks.feed import TaskFeed


@dataclass(frozen=True, kw_only=True)
class Repositories:
    """Repositories of one database."""

    database: Database
    accounts: AccountRepository
    tokens: TokenRepository
    codes: VerificationCodeRepository
    invitations: InvitationRepository
    audit: AuditRepository
    tasks: TaskRepository
    changes: TaskChangeRepository
    events: EventRepository
    chats: ChatRepository
    usage: UsageRepository
    space: DatabaseSpace
    internal_tokens: InternalTokenRepository
    api_keys: ApiKeyRepository
    objects: ObjectRepository
    temporary_objects: TemporaryObjectRepository
    prefab_secrets: PrefabSecretRepository
    prefab_authors: PrefabAuthorRepository
    prefab_calls: PrefabCallRepository
    checkpoints: CheckpointRepository
    blobs: BlobRepository

    def user_id(self, email: str = "ada@example.test") -> int:
        """Return the id of the user with an address, which is registered if necessary."""
        user = self.accounts.find(email) or self.accounts.create(email, None)
        return user.id

    def start_session(self, digest: str, user_id: int, seconds: float = 60.0) -> None:
        """Start a session with the digest of its token."""
        user = self.accounts.get(user_id)
        assert user is not None
        self.tokens.create(digest, user, SessionLifetime(seconds, seconds), SessionOrigin())

    def new_event_log(self) -> EventLog:
        """Return an event log, which is not started."""
        feed = TaskFeed(tasks=self.tasks, changes=self.changes)
        return EventLog(events=self.events, feed=feed)


@contextmanager
def opened(
    path: Path, reserve: DiskReserve | None = None, *, lock_seconds: float = LOCK_SECONDS
) -> Iterator[Repositories]:
    """Open the database in the file ``path`` during the block."""
    database = Database(path, reserve, lock_seconds=lock_seconds)
    try:
        yield Repositories(
            database=database,
            accounts=AccountRepository(database=database),
            tokens=TokenRepository(database=database),
            codes=VerificationCodeRepository(database=database),
            invitations=InvitationRepository(database=database),
            audit=AuditRepository(database=database),
            tasks=TaskRepository(database=database),
            changes=TaskChangeRepository(database=database),
            events=EventRepository(database=database),
            chats=ChatRepository(database=database),
            usage=UsageRepository(database=database),
            space=DatabaseSpace(database=database),
            internal_tokens=InternalTokenRepository(database=database),
            api_keys=ApiKeyRepository(database=database),
            objects=ObjectRepository(database=database),
            temporary_objects=TemporaryObjectRepository(database=database),
            prefab_secrets=PrefabSecretRepository(database=database),
            prefab_authors=PrefabAuthorRepository(database=database),
            prefab_calls=PrefabCallRepository(database=database),
            checkpoints=CheckpointRepository(database=database),
            blobs=BlobRepository(database=database),
        )
    finally:
        database.close()
