"""What the owner of prefabs does: adds them, and gives them their secrets. Ours.

The gateway takes these calls from signed-in users, not from their agents.
"""

from __future__ import annotations

from beray import schema as house
from beray.exceptions import InvalidArgument
from beray.gateway import schema
from beray.gateway.argument_checks import checked_text, kind
from beray.gateway.errors import translated
from beray.http.transport import Transport, quote_path_segment
from beray.schema import Message

_ZIP = {"Content-Type": "application/zip"}


class PrefabKeeping:
    """A part of ``GatewayClient``."""

    _transport: Transport

    @translated()
    def add_prefab(self, archive: bytes) -> schema.Spec:
        """Add a prefab to the gateway; return its spec. The same one again changes nothing.

        Args:
            archive: the ZIP of its folder, with ``prefab.toml`` at its root.

        Raises:
            InvalidInput: ``archive`` is no bytes.
            RejectedInput: it cannot be used; ``details["errors"]`` says why, with the places.
            RefusedError: 409, this version is there with another content.
            AuthenticationError: the gateway's owner does not let this user add any.
        """
        if not isinstance(archive, (bytes, bytearray)):
            raise InvalidArgument(f"archive must be bytes, not {kind(archive)}")
        # Twice is the same as once: versions never change.
        return self._transport.json(
            schema.SPEC, "POST", "/v1/prefabs", data=bytes(archive), headers=_ZIP, idempotent=True
        )

    @translated()
    def list_prefab_secrets(self, prefab_id: str) -> list[str]:
        """The names of the secrets that the caller has given to a prefab."""
        return self._transport.json(schema.SECRETS, "GET", _secrets(prefab_id))["secrets"]

    def set_prefab_secret(self, prefab_id: str, name: str, value: str) -> Message:
        """Give a prefab a secret, in the place of the one before. Nobody is told it again.

        Raises:
            PrefabNotFoundError: there is no such prefab.
            RejectedInput: it needs no such secret.
        """
        with translated(prefab_id):
            said = {"value": checked_text(value, "value", empty=True)}
            return self._transport.json(house.MESSAGE, "PUT", _secrets(prefab_id, name), json=said)

    @translated()
    def remove_prefab_secret(self, prefab_id: str, name: str) -> Message:
        """Take a secret away from a prefab.

        Raises:
            ObjectNotFoundError: the caller has given it none of this name.
        """
        return self._transport.json(house.MESSAGE, "DELETE", _secrets(prefab_id, name))


def _secrets(prefab_id: str, *names: str) -> str:
    """The path of a prefab's secrets, or of one of them."""
    path = f"/v1/prefabs/{quote_path_segment(checked_text(prefab_id, 'prefab_id'))}/secrets"
    return "/".join([path, *(quote_path_segment(checked_text(name, "name")) for name in names)])
