"""Exceptions of the gateway client.

The client raises ``GatewayError``, a subclass of ``BeRayException``. Each class also derives from
the class of :mod:`beray.exceptions` with the same meaning, so that ``except
beray.AuthenticationError`` works for both clients. Errors of local files also derive from the
matching ``OSError``.

Source: the Gateway wire page, errors and exceptions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from beray import exceptions as base


class GatewayError(base.BeRayException):
    """Base class of the gateway client's exceptions.

    Attributes:
        message: Description of the error; the gateway's message if its response has one.
        details: Further fields of the gateway's response; empty if it has none.
    """

    usual_status: ClassVar[int | None] = 400
    """HTTP status of an exception that is constructed without one."""

    def __init__(
        self, message: str = "", details: dict[str, Any] | None = None, **call: Any
    ) -> None:
        if isinstance(self, base.APIError):
            call.setdefault("status_code", self.usual_status)
        if isinstance(self, base.InvalidResponseError):
            call.setdefault("body", "")
        super().__init__(message, **call)
        self.message = message
        self.details = dict(details or {})


class RefusedError(GatewayError, base.APIError):
    """Error response with a status that has no class of its own.

    Remedy: read ``message`` and ``details``.
    """


class AuthenticationError(GatewayError, base.AuthenticationError):
    """401 or 403: the credentials are missing, expired or not sufficient for the call.

    Remedy: create a new key with ``beray apikey new NAME``, or use credentials that may make this
    call.
    """

    usual_status = 401


class ObjectNotFoundError(GatewayError, base.NotFoundError):
    """404: the file does not exist, or belongs to another user.

    Remedy: check the ``s3://`` URL, and the agent to which the credentials belong.
    """

    usual_status = 404


class PrefabNotFoundError(GatewayError, base.NotFoundError):
    """404: the prefab, the version or the function does not exist.

    Remedy: list prefabs and their functions with ``beray prefab list`` and ``beray prefab spec
    ID``.

    Attributes:
        prefab_id: ID of the requested prefab; None for a batch.
        version: Requested version; None for a batch.
    """

    usual_status = 404

    def __init__(
        self,
        prefab_id: str | None = None,
        version: str | None = None,
        message: str | None = None,
        details: dict[str, Any] | None = None,
        **call: Any,
    ) -> None:
        details = {"prefab_id": prefab_id, "version": version} if details is None else details
        super().__init__(message or f"prefab {prefab_id}@{version} not found", details, **call)
        self.prefab_id = prefab_id
        self.version = version


class ValidationError(GatewayError):
    """Invalid input.

    Raised as :class:`InvalidInput` if the client detects it before sending a request, as
    :class:`RejectedInput` if the gateway does.
    """


class InvalidInput(ValidationError, base.InvalidArgument):
    """Invalid argument; nothing was sent."""


class RejectedInput(ValidationError, base.UnprocessableEntityError):
    """422: invalid parameters or files; ``details`` may contain their position.

    Remedy: compare the parameters with ``beray prefab spec ID``.
    """

    usual_status = 422


class QuotaExceededError(GatewayError, base.RateLimitError):
    """429: the quota is used up, or the rate limit is exceeded.

    Remedy: wait until the limit is renewed, or ask the operator for a higher one.

    Attributes:
        limit: Limit of the quota; None if the response does not contain it.
        used: Used part of the quota; None if the response does not contain it.
        quota_type: Name of the quota; None if the response does not contain it.
    """

    usual_status = 429

    def __init__(
        self,
        message: str = "",
        limit: int | None = None,
        used: int | None = None,
        quota_type: str | None = None,
        details: dict[str, Any] | None = None,
        **call: Any,
    ) -> None:
        if details is None:
            details = {"limit": limit, "used": used, "quota_type": quota_type}
        super().__init__(message, details, **call)
        self.limit = limit
        self.used = used
        self.quota_type = quota_type


class MissingSecretError(GatewayError, base.APIError):
    """400: the prefab needs a secret that the caller has not set.

    Remedy: set the secret with ``beray prefab secret set PREFAB NAME``.

    Attributes:
        prefab_id: ID of the prefab.
        secret_name: Name of the missing secret.
        instructions: Instructions for obtaining the secret, written by the prefab's author.
    """

    def __init__(
        self,
        prefab_id: str | None = None,
        secret_name: str | None = None,
        instructions: str | None = None,
        message: str | None = None,
        details: dict[str, Any] | None = None,
        **call: Any,
    ) -> None:
        if details is None:
            details = {
                "prefab_id": prefab_id,
                "secret_name": secret_name,
                "instructions": instructions,
            }
        if not message:
            message = f"prefab {prefab_id} needs the secret {secret_name}"
            message += f": {instructions}" if instructions else ""
        super().__init__(message, details, **call)
        self.prefab_id = prefab_id
        self.secret_name = secret_name
        self.instructions = instructions


class AgentContextRequiredError(GatewayError, base.APIError):
    """400: the call requires the credentials of an agent.

    Remedy: use a key that was created with ``beray apikey new NAME --agent AGENT``; without an
    agent, upload files with ``upload_input_file()``.
    """

    def __init__(
        self, message: str | None = None, details: dict[str, Any] | None = None, **call: Any
    ) -> None:
        super().__init__(
            message
            or "this call requires the credentials of an agent (create a key with beray apikey new "
            "NAME --agent AGENT); without an agent, upload files with upload_input_file()",
            details,
            **call,
        )


class ServiceUnavailableError(GatewayError):
    """The gateway is unavailable.

    Raised as :class:`GatewayFailure` for a 5xx response, as :class:`Unreachable` or one of its
    subclasses if the connection failed.
    """


class GatewayFailure(ServiceUnavailableError, base.APIError):
    """5xx: the gateway failed, or its object store is not available.

    Remedy: try again later; if it persists, read the log of the server.
    """

    usual_status = 503


class Unreachable(ServiceUnavailableError, base.ConnectionFailed):
    """The gateway could not be reached, or the connection broke."""


class GatewayTimeout(Unreachable, base.DeadlineExceeded):
    """The gateway did not respond within the timeout."""


class RunOutcomeUnknown(Unreachable, base.OutcomeUnknown):
    """A request was sent, but no response arrived: it may have been processed.

    Base class for all requests that must not be repeated automatically.

    Remedy: look for the effect of the request before repeating it.
    """


class UploadOutcomeUnknown(RunOutcomeUnknown):
    """A file was sent, but no response arrived: it may have been stored.

    Remedy: look for the file with ``list_files()`` before repeating the upload.
    """


class RunInterrupted(Unreachable, base.StreamInterrupted):
    """The stream of a run ended before the run; the outcome of the run is unknown.

    Remedy: look for the effects of the function, such as its output files, before repeating the
    call.
    """


class InvalidAnswer(GatewayError, base.InvalidResponseError):
    """The gateway's response does not have the documented form."""


class GatewayConfigurationError(GatewayError, base.ConfigurationError):
    """Invalid setting, such as an unusable URL; nothing was sent."""


class FileTransferError(GatewayError, base.TransferError):
    """A file could not be transferred completely; nothing exists under its final name."""


class LocalFileError(FileTransferError, OSError):
    """A local file could not be read or written.

    ``errno`` and ``filename`` are those of the operating system's error.

    Remedy: correct the path or the permissions that the message names.
    """


class LocalFileExists(LocalFileError, FileExistsError):
    """The target of a download exists, and ``overwrite`` is False.

    Remedy: choose another target, or pass ``overwrite=True``.
    """


class LocalFileNotFound(LocalFileError, FileNotFoundError, ValueError):
    """The local file does not exist. A ``ValueError`` as in the published package."""


class LocalFileForbidden(LocalFileError, PermissionError):
    """The permissions of the local file do not allow to read or write it."""


class LocalFileIsDirectory(LocalFileError, IsADirectoryError):
    """The path is that of a directory instead of a file."""


class FileTransferCancelled(FileTransferError, base.TransferCancelled):
    """The caller cancelled the transfer."""
