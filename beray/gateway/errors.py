"""Conversion of BeRay's exceptions and ``OSError`` to those of the gateway client.

Only public methods convert; internal code raises the exceptions of :mod:`beray.exceptions`.

Source: the Gateway wire page, errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from beray import exceptions as base
from beray.gateway import exceptions as gateway
from beray.gateway.exceptions import GatewayError
from beray.http.errors import PRESIGNED_PATH, detail_text
from beray.schema import BODY_EXCERPT

_CONVERSIONS: Final[tuple[tuple[type[base.BeRayException], type[GatewayError]], ...]] = (
    (base.TransferCancelled, gateway.FileTransferCancelled),
    (base.TransferError, gateway.FileTransferError),
    (base.StreamInterrupted, gateway.RunInterrupted),
    (base.OutcomeUnknown, gateway.RunOutcomeUnknown),
    (base.DeadlineExceeded, gateway.GatewayTimeout),
    (base.ConnectionFailed, gateway.Unreachable),
    (base.InvalidResponseError, gateway.InvalidAnswer),
    (base.InvalidArgument, gateway.InvalidInput),
    (base.ConfigurationError, gateway.GatewayConfigurationError),
)
"""Subclasses precede their base classes."""
_OS_ERRORS: Final[tuple[tuple[type[OSError], type[gateway.LocalFileError]], ...]] = (
    (FileExistsError, gateway.LocalFileExists),
    (FileNotFoundError, gateway.LocalFileNotFound),
    (PermissionError, gateway.LocalFileForbidden),
    (IsADirectoryError, gateway.LocalFileIsDirectory),
)
_FILES_PATH: Final = "/internal/files/"
_BY_STATUS: Final[dict[int, type[GatewayError]]] = {
    401: gateway.AuthenticationError,
    403: gateway.AuthenticationError,
    404: gateway.ObjectNotFoundError,
    422: gateway.RejectedInput,
}
_WITH_DEFAULT_MESSAGE: Final = (
    gateway.MissingSecretError,
    gateway.AgentContextRequiredError,
    gateway.PrefabNotFoundError,
)
"""Exceptions that build a message from their fields if the response has none."""


@contextmanager
def gateway_errors(prefab_id: str | None = None, version: str | None = None) -> Iterator[None]:
    """Convert a ``BeRayException`` raised in the block to a ``GatewayError``.

    Args:
        prefab_id: ID of the prefab that the block requests; a 404 then means that it is missing.
        version: Version of this prefab.

    Raises:
        GatewayError: The block raised a ``BeRayException``.
    """
    try:
        yield
    except GatewayError:
        raise
    except base.BeRayException as error:
        raise gateway_error(error, prefab_id, version) from error.__cause__


@contextmanager
def local_file_errors() -> Iterator[None]:
    """Convert an ``OSError`` raised in the block to a ``LocalFileError``, its subclass.

    Raises:
        LocalFileError: A local file could not be read or written.
    """
    try:
        yield
    except base.BeRayException:
        raise
    except OSError as error:
        classes = (target for source, target in _OS_ERRORS if isinstance(error, source))
        converted = next(classes, gateway.LocalFileError)(str(error))
        if error.errno is not None:
            converted.errno, converted.strerror = error.errno, error.strerror
            converted.filename = error.filename
        raise converted from error


def gateway_error(
    error: base.BeRayException, prefab_id: str | None = None, version: str | None = None
) -> GatewayError:
    """Return the ``GatewayError`` with the meaning and the fields of ``error``."""
    if isinstance(error, base.APIError):
        return _from_error_response(error, prefab_id, version)
    if isinstance(error, base.OutcomeUnknown) and error.path.startswith(_FILES_PATH):
        return _converted(gateway.UploadOutcomeUnknown, error)
    for source, target in _CONVERSIONS:
        if isinstance(error, source):
            return _converted(target, error)
    return _converted(GatewayError, error)


def _from_error_response(
    error: base.APIError, prefab_id: str | None, version: str | None
) -> GatewayError:
    detail = error.error_detail
    details = detail if isinstance(detail, dict) else {"detail": detail} if detail else {}
    message = _server_message(details)
    code, status = details.get("error_code"), error.status_code
    fields: dict[str, Any] = {"details": details}
    error_class: type[GatewayError]
    if code == "MISSING_SECRET" and status < 500:
        error_class = gateway.MissingSecretError
        fields |= {
            "prefab_id": _string_field(details, "prefab_id") or prefab_id,
            "secret_name": _string_field(details, "secret_name"),
            "instructions": _string_field(details, "instructions"),
        }
    elif code == "MISSING_AGENT_CONTEXT" and status < 500:
        error_class = gateway.AgentContextRequiredError
    elif status == 429:
        error_class = gateway.QuotaExceededError
        fields |= {name: _integer_field(details, name) for name in ("limit", "used")}
        fields["quota_type"] = _string_field(details, "quota_type")
    elif status == 404 and (prefab_id is not None or code == "PREFAB_NOT_FOUND"):
        error_class = gateway.PrefabNotFoundError
        fields |= {
            "prefab_id": _string_field(details, "prefab_id") or prefab_id,
            "version": _string_field(details, "version") or version,
        }
    elif status >= 500 or (
        error.path == PRESIGNED_PATH and error.method == "PUT" and status == 404
    ):
        # An upload by PUT looks up no file, so 404 means that the bucket is missing.
        error_class = gateway.GatewayFailure
    else:
        error_class = _BY_STATUS.get(status, gateway.RefusedError)
    if (
        error_class in _WITH_DEFAULT_MESSAGE
        and isinstance(detail, dict)
        and not _string_field(details, "message")
    ):
        message = str(error_class(**fields))
    return _converted(error_class, error, message, **fields)


def _converted(
    error_class: type[GatewayError],
    error: base.BeRayException,
    message: str | None = None,
    **fields: Any,
) -> GatewayError:
    """Return ``error`` as another class, with its own message or that of the server."""
    text, reason = (str(error), error.reason) if message is None else (message, message)
    # Constructors differ in their arguments, so the fields are copied without calling them.
    converted = error_class.__new__(error_class, text)
    copied = {"details": {}} | error.__dict__ | fields
    converted.__dict__.update(copied, message=text, reason=reason)
    return converted


def _server_message(details: dict[str, Any]) -> str | None:
    message = _string_field(details, "message")
    if not message:
        return None
    problems = details.get("errors")
    if isinstance(problems, list) and problems:
        first = detail_text(problems[:1]).rstrip(".")
        message = message if first in message else f"{message.rstrip('.')}: {detail_text(problems)}"
    return message[:BODY_EXCERPT]


def _string_field(details: dict[str, Any], name: str) -> str | None:
    value = details.get(name)
    return value if isinstance(value, str) else None


def _integer_field(details: dict[str, Any], name: str) -> int | None:
    value = details.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
