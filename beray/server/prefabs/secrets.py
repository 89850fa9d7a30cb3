"""Encryption of the secrets that users set for prefabs.

Synchronous; for threads. The key is a file outside the database, so a copy of the database
alone does not reveal the secrets.
"""

from __future__ import annotations

import base64
import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from beray.server.objects.signing import load_or_create_secret
from beray.server.storage.prefab_secrets import PrefabSecretRepository

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

KEY_FILE: Final = "prefab-secrets.key"
MAX_SECRET_CHARACTERS: Final = 32 * 1024
"""Maximum length of a secret value."""

log = structlog.get_logger("beray.prefabs")


class PrefabSecrets:
    """Secrets by user, prefab and name."""

    def __init__(self, *, secrets: PrefabSecretRepository, data_dir: Path) -> None:
        self._secrets = secrets
        self._key_file = data_dir / KEY_FILE

    @cached_property
    def _fernet(self) -> Fernet:
        # Imported on first use: most servers have no secrets, and the import delays the start.
        from cryptography.fernet import Fernet

        return Fernet(base64.urlsafe_b64encode(load_or_create_secret(self._key_file)))

    def put(self, user_id: int, prefab_id: str, name: str, value: str) -> None:
        """Store a value, replacing the previous one."""
        # The identity is encrypted with the value, so that a row cannot be moved to another one.
        plaintext = json.dumps([user_id, prefab_id, name, value]).encode()
        self._secrets.put(user_id, prefab_id, name, self._fernet.encrypt(plaintext).decode())

    def names(self, user_id: int, prefab_id: str) -> list[str]:
        """Return the names of a user's secrets for a prefab, sorted."""
        return self._secrets.list_names(user_id, prefab_id)

    def remove(self, user_id: int, prefab_id: str, name: str) -> bool:
        """Delete a secret; return False if there was none."""
        return self._secrets.delete(user_id, prefab_id, name)

    def value(self, user_id: int, prefab_id: str, name: str) -> str | None:
        """Return a secret, or None if it is not set or cannot be decrypted."""
        stored = self._secrets.get(user_id, prefab_id, name)
        if stored is None:
            return None
        from cryptography.fernet import InvalidToken

        try:
            *identity, value = json.loads(self._fernet.decrypt(stored.encode()))
        except (InvalidToken, ValueError):
            identity, value = [], ""
        if identity != [user_id, prefab_id, name]:
            log.error("a secret cannot be decrypted", user_id=user_id, prefab_id=prefab_id)
            return None
        return str(value)
