"""Secrets that users give to prefabs: encrypted, and told to nobody but the function.

Synchronous; called in threads. Whoever has the database alone has none of them.
"""

from __future__ import annotations

import base64
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import delete, select

from beray.server.objects.signing import secret_at
from beray.server.storage.database import Database
from beray.server.storage.store import utc_now
from beray.server.storage.tables import PrefabSecret

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_FILE: Final = "prefab-secrets.key"
MOST_CHARACTERS: Final = 32 * 1024
"""Of a value."""

log = structlog.get_logger("beray.prefabs")


class PrefabSecrets:
    """By user, prefab and name."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._key_file = data_dir / KEY_FILE

    @cached_property
    def _fernet(self) -> Fernet:
        # Most servers have no secrets, and none needs this for its start.
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(secret_at(self._key_file)))

    def put(self, user_id: int, prefab_id: str, name: str, value: str) -> None:
        """Keep a value, in the place of the one before."""
        # Whose it is goes with it, so that no row can be put in another's place.
        told = json.dumps([user_id, prefab_id, name, value]).encode()
        row = PrefabSecret(
            user_id=user_id,
            prefab_id=prefab_id,
            name=name,
            value=self._fernet.encrypt(told).decode(),
            created_at=utc_now(),
        )
        with self._database.writing() as session:
            session.merge(row)

    def names(self, user_id: int, prefab_id: str) -> list[str]:
        with self._database.reading() as session:
            found = select(PrefabSecret.name).where(
                PrefabSecret.user_id == user_id, PrefabSecret.prefab_id == prefab_id
            )
            return sorted(session.scalars(found))

    def remove(self, user_id: int, prefab_id: str, name: str) -> bool:
        """Forget a value; whether there was one."""
        own = delete(PrefabSecret).where(
            PrefabSecret.user_id == user_id,
            PrefabSecret.prefab_id == prefab_id,
            PrefabSecret.name == name,
        )
        return self._database.write_with_reserve(
            lambda session: bool(session.connection().execute(own).rowcount)
        )

    def value(self, user_id: int, prefab_id: str, name: str) -> str | None:
        """A value; ``None`` where there is none, or it cannot be read any more."""
        with self._database.reading() as session:
            row = session.get(PrefabSecret, (user_id, prefab_id, name))
        if row is None:
            return None
        from cryptography.fernet import InvalidToken

        try:
            *whose, value = json.loads(self._fernet.decrypt(row.value.encode()))
        except (InvalidToken, ValueError):
            whose, value = [], ""
        if whose != [user_id, prefab_id, name]:
            log.error("a secret cannot be decrypted", user_id=user_id, prefab_id=prefab_id)
            return None
        return str(value)
