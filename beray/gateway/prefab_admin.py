"""Administration of prefabs and their secrets. BeRay extension.

The gateway accepts these calls from signed-in users, not from their agents.
"""

from __future__ import annotations

from beray import schema as beray_schema
from beray.exceptions import InvalidArgument
from beray.gateway import schema
from beray.gateway.errors import gateway_errors
from beray.gateway.validation import checked_string, type_name
from beray.http.transport import Transport, quote_path_segment
from beray.schema import Message

_ZIP = {"Content-Type": "application/zip"}


class PrefabAdmin:
    """Methods of ``GatewayClient`` that add prefabs and set their secrets."""

    _transport: Transport

    @gateway_errors()
    def add_prefab(self, archive: bytes) -> schema.PrefabSpec:
        """Add a prefab to the gateway. BeRay extension.

        Adding a version again with the same content changes nothing.

        Args:
            archive: ZIP archive of the prefab's directory, with ``prefab.toml`` at its root.

        Returns:
            The prefab's spec, as ``get_prefab_spec`` returns it.

        Raises:
            InvalidInput: ``archive`` is not ``bytes``.
            RejectedInput: The prefab is invalid; ``details["errors"]`` contains the reasons and
                their positions.
            RefusedError: 409, the version already exists with different content.
            AuthenticationError: The gateway's operator does not allow this user to add prefabs.
        """
        if not isinstance(archive, (bytes, bytearray)):
            raise InvalidArgument(f"archive must be bytes, not {type_name(archive)}")
        # Repeating the request has no additional effect: versions are immutable.
        return self._transport.json(
            schema.PREFAB_SPEC,
            "POST",
            "/v1/prefabs",
            data=bytes(archive),
            headers=_ZIP,
            idempotent=True,
        )

    @gateway_errors()
    def list_prefab_secrets(self, prefab_id: str) -> list[str]:
        """Return the names of the secrets that the user has set for a prefab. BeRay extension.

        Args:
            prefab_id: ID of the prefab.

        Raises:
            InvalidInput: ``prefab_id`` is not a non-empty string.
        """
        return self._transport.json(schema.SECRET_NAMES, "GET", _secrets_path(prefab_id))["secrets"]

    def set_prefab_secret(self, prefab_id: str, name: str, value: str) -> Message:
        """Set or replace the user's secret for a prefab. BeRay extension.

        The secret cannot be read back.

        Args:
            prefab_id: ID of the prefab.
            name: Name of the secret, as in the prefab's spec.
            value: Value of the secret; may be empty.

        Returns:
            The gateway's confirmation.

        Raises:
            InvalidInput: An argument is not a string, or an ID or name is empty.
            PrefabNotFoundError: The prefab does not exist.
            RejectedInput: The prefab has no secret with this name.
        """
        with gateway_errors(prefab_id):
            body = {"value": checked_string(value, "value", empty=True)}
            path = _secrets_path(prefab_id, name)
            return self._transport.json(beray_schema.MESSAGE, "PUT", path, json=body)

    @gateway_errors()
    def remove_prefab_secret(self, prefab_id: str, name: str) -> Message:
        """Remove the user's secret for a prefab. BeRay extension.

        Args:
            prefab_id: ID of the prefab.
            name: Name of the secret.

        Returns:
            The gateway's confirmation.

        Raises:
            InvalidInput: An argument is not a non-empty string.
            ObjectNotFoundError: The user has not set this secret.
        """
        return self._transport.json(beray_schema.MESSAGE, "DELETE", _secrets_path(prefab_id, name))


def _secrets_path(prefab_id: str, *names: str) -> str:
    """Return the URL path of a prefab's secrets, or of one of them."""
    path = f"/v1/prefabs/{quote_path_segment(checked_string(prefab_id, 'prefab_id'))}/secrets"
    return "/".join([path, *(quote_path_segment(checked_string(name, "name")) for name in names)])
