"""Exceptions of the house become those of the gateway: at its boundary, and only there.

Source: the Gateway wire page, errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from beray import exceptions as house
from beray.gateway import exceptions as own
from beray.gateway.exceptions import GatewayError
from beray.http.errors import PRESIGNED_PATH, detail_text
from beray.schema import BODY_EXCERPT

_KINDS: Final[tuple[tuple[type[house.BeRayException], type[GatewayError]], ...]] = (
    (house.TransferCancelled, own.FileTransferCancelled),
    (house.TransferError, own.FileTransferError),
    (house.StreamInterrupted, own.RunInterrupted),
    (house.OutcomeUnknown, own.RunOutcomeUnknown),
    (house.DeadlineExceeded, own.GatewayTimeout),
    (house.ConnectionFailed, own.Unreachable),
    (house.InvalidResponseError, own.InvalidAnswer),
    (house.InvalidArgument, own.InvalidInput),
    (house.ConfigurationError, own.GatewayConfigurationError),
)
"""The special ones first."""
_LOCAL: Final[tuple[tuple[type[OSError], type[own.LocalFileError]], ...]] = (
    (FileExistsError, own.LocalFileExists),
    (FileNotFoundError, own.LocalFileNotFound),
    (PermissionError, own.LocalFileForbidden),
    (IsADirectoryError, own.LocalFileIsDirectory),
)
_FILES: Final = "/internal/files/"
_BY_STATUS: Final[dict[int, type[GatewayError]]] = {
    401: own.AuthenticationError,
    403: own.AuthenticationError,
    404: own.ObjectNotFoundError,
    422: own.RejectedInput,
}
_WITH_MESSAGE: Final = (
    own.MissingSecretError,
    own.AgentContextRequiredError,
    own.PrefabNotFoundError,
)
"""Exceptions whose fields make a message, for answers that have none."""


@contextmanager
def translated(prefab_id: str | None = None, version: str | None = None) -> Iterator[None]:
    """Raise what the block raises as a ``GatewayError``.

    Args:
        prefab_id, version: the prefab that the block is about; a 404 is about it, then.
    """
    try:
        yield
    except GatewayError:
        raise
    except house.BeRayException as error:
        raise gateway_error(error, prefab_id, version) from error.__cause__


@contextmanager
def typed_local_errors() -> Iterator[None]:
    """Raise errors of local files in the block as ``LocalFileError``, which stays an OSError."""
    try:
        yield
    except house.BeRayException:
        raise
    except OSError as error:
        kind = next((ours for theirs, ours in _LOCAL if isinstance(error, theirs)), None)
        raised = (kind or own.LocalFileError)(str(error))
        if error.errno is not None:
            raised.errno, raised.strerror = error.errno, error.strerror
            raised.filename = error.filename
        raise raised from error


def gateway_error(
    error: house.BeRayException, prefab_id: str | None = None, version: str | None = None
) -> GatewayError:
    """The exception of the gateway that says what ``error`` says."""
    if isinstance(error, house.APIError):
        return _refusal(error, prefab_id, version)
    if isinstance(error, house.OutcomeUnknown) and error.path.startswith(_FILES):
        return _as(own.UploadOutcomeUnknown, error, str(error))
    for kind, translation in _KINDS:
        if isinstance(error, kind):
            return _as(translation, error, str(error))
    return _as(GatewayError, error, str(error))


def _refusal(error: house.APIError, prefab_id: str | None, version: str | None) -> GatewayError:
    detail = error.error_detail
    details = detail if isinstance(detail, dict) else {"detail": detail} if detail else {}
    message = _message(error, details)
    code, status = details.get("error_code"), error.status_code
    fields: dict[str, Any] = {"details": details}
    kind: type[GatewayError]
    if code == "MISSING_SECRET" and status < 500:
        kind = own.MissingSecretError
        fields |= {
            "prefab_id": _text(details, "prefab_id") or prefab_id,
            "secret_name": _text(details, "secret_name"),
            "instructions": _text(details, "instructions"),
        }
    elif code == "MISSING_AGENT_CONTEXT" and status < 500:
        kind = own.AgentContextRequiredError
    elif status == 429:
        kind = own.QuotaExceededError
        fields |= {name: _number(details, name) for name in ("limit", "used")}
        fields["quota_type"] = _text(details, "quota_type")
    elif status == 404 and (prefab_id is not None or code == "PREFAB_NOT_FOUND"):
        kind = own.PrefabNotFoundError
        fields |= {
            "prefab_id": _text(details, "prefab_id") or prefab_id,
            "version": _text(details, "version") or version,
        }
    elif status >= 500 or (
        error.path == PRESIGNED_PATH and error.method == "PUT" and status == 404
    ):
        # Nothing is looked for by a PUT: it is the store itself that is not there.
        kind = own.GatewayFailure
    else:
        kind = _BY_STATUS.get(status, own.RefusedError)
    if kind in _WITH_MESSAGE and isinstance(detail, dict) and not _text(details, "message"):
        message = str(kind(**fields))
    return _as(kind, error, message, **fields)


def _as(
    kind: type[GatewayError], error: house.BeRayException, message: str, **fields: Any
) -> GatewayError:
    translation = kind.__new__(kind, message)
    translation.__dict__.update({"details": {}} | error.__dict__ | fields, message=message)
    return translation


def _message(error: house.APIError, details: dict[str, Any]) -> str:
    said = _text(details, "message")
    if not said:
        return str(error)
    problems = details.get("errors")
    if isinstance(problems, list) and problems:
        first = detail_text(problems[:1]).rstrip(".")
        said = said if first in said else f"{said.rstrip('.')}: {detail_text(problems)}"
    return said[:BODY_EXCERPT]


def _text(details: dict[str, Any], name: str) -> str | None:
    value = details.get(name)
    return value if isinstance(value, str) else None


def _number(details: dict[str, Any], name: str) -> int | None:
    value = details.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
