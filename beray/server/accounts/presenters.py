"""Rows of the database in the format of the API."""

from __future__ import annotations

from beray import schema
from beray.server.storage.api_keys import scopes_of
from beray.server.storage.tables import ApiKey


def api_key_to_wire(row: ApiKey) -> schema.ApiKey:
    """Return an API key, without its secret, in the format of the API."""
    return {
        "id": row.id,
        "name": row.name,
        "agent_id": row.agent_id,
        "start": row.start,
        "created_at": row.created_at,
        "scopes": list(scopes_of(row)),
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
    }
