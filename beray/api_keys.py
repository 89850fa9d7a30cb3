"""API keys of the gateway: what programs of a user's are given, to come in with. Ours."""

from __future__ import annotations

from beray import schema
from beray.http.transport import Transport, segment
from beray.schema import ApiKey, CreatedApiKey, Message


class ApiKeys:
    """The part of ``BeRayClient`` that knows API keys."""

    _transport: Transport

    def create_api_key(self, name: str, agent_id: str | None = None) -> CreatedApiKey:
        """Make an API key. The ``key`` of the result is said this once. Ours.

        Args:
            agent_id: the agent that calls with it, which then has files of its own; letters,
                digits, ``.``, ``_`` and ``-``.

        Raises:
            ConflictError: there are as many as there may be.
            UnprocessableEntityError: one of the two cannot be that.
        """
        body = {"name": name, "agent_id": agent_id}
        return self._transport.json(schema.CREATED_API_KEY, "POST", "/apikeys", json=body)

    def list_api_keys(self) -> list[ApiKey]:
        """Return the caller's API keys, the newest first. Ours."""
        return self._transport.json(schema.API_KEYS, "GET", "/apikeys")

    def revoke_api_key(self, key_id: int | str) -> Message:
        """End an API key, and every internal token that was had for it. Ours.

        Raises:
            NotFoundError: there is none of this ``id``.
        """
        return self._transport.json(schema.MESSAGE, "DELETE", f"/apikeys/{segment(key_id)}")
