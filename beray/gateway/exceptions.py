"""What can go wrong at a gateway, as types.

Everything that this package raises on purpose is a ``GatewayError``, and so a
``BeRayException``; each class is also the one of :mod:`beray.exceptions` with the same meaning,
so that ``except beray.AuthenticationError`` works for both clients. Errors of local files are
also the ``OSError`` that the operating system raised.

Source: the Gateway wire page, errors and exceptions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from beray import exceptions as house


class GatewayError(house.BeRayException):
    """Base of everything that goes wrong at a gateway.

    Attributes:
        message: what went wrong, in words; those of the gateway where it has said any.
        details: the fields of its answer beside, where it had some.
    """

    usual_status: ClassVar[int | None] = 400

    def __init__(
        self, message: str = "", details: dict[str, Any] | None = None, **call: Any
    ) -> None:
        if isinstance(self, house.APIError):
            call.setdefault("status_code", self.usual_status)
        if isinstance(self, house.InvalidResponseError):
            call.setdefault("body", "")
        super().__init__(message, **call)
        self.message = message
        self.details = dict(details or {})


class RefusedError(GatewayError, house.APIError):
    """The gateway said no, in a way that has no class of its own here."""


class AuthenticationError(GatewayError, house.AuthenticationError):
    """401 or 403: no credentials, ones that do not count any more, or not allowed."""

    usual_status = 401


class ObjectNotFoundError(GatewayError, house.NotFoundError):
    """404: there is no such file, or it is somebody else's."""

    usual_status = 404


class PrefabNotFoundError(GatewayError, house.NotFoundError):
    """404: no such prefab, version or function.

    Attributes:
        prefab_id, version: what was asked for; ``None`` where several were.
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
        super().__init__(message or f"there is no prefab {prefab_id}@{version}", details, **call)
        self.prefab_id = prefab_id
        self.version = version


class ValidationError(GatewayError):
    """What was asked for cannot be: refused here (:class:`InvalidInput`), before anything
    was sent, or by the gateway (:class:`RejectedInput`)."""


class InvalidInput(ValidationError, house.InvalidArgument):
    """An argument that no gateway could take; nothing was sent."""


class RejectedInput(ValidationError, house.UnprocessableEntityError):
    """422: parameters or files are not what the function takes; ``details`` may say where."""

    usual_status = 422


class QuotaExceededError(GatewayError, house.RateLimitError):
    """429: the quota is used up, or calls come too fast.

    Attributes:
        limit, used, quota_type: of the quota; ``None`` where the gateway did not say.
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


class MissingSecretError(GatewayError, house.APIError):
    """400: the prefab needs a secret of the caller's that the gateway does not have.

    Attributes:
        prefab_id, secret_name, instructions: Which one, and how to obtain it.
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


class AgentContextRequiredError(GatewayError, house.APIError):
    """400: the call is for agents, and the credentials do not belong to one."""

    def __init__(
        self, message: str | None = None, details: dict[str, Any] | None = None, **call: Any
    ) -> None:
        super().__init__(
            message
            or "files of agents need the credentials of an agent (beray apikey new NAME --agent "
            "AGENT); other callers upload with upload_input_file()",
            details,
            **call,
        )


class ServiceUnavailableError(GatewayError):
    """The gateway cannot do it now: a 5xx (:class:`GatewayFailure`), or trouble on the way
    (:class:`Unreachable` and what is below it)."""


class GatewayFailure(ServiceUnavailableError, house.APIError):
    """5xx: something went wrong at the gateway, or its store of files is not there."""

    usual_status = 503


class Unreachable(ServiceUnavailableError, house.ConnectionFailed):
    """The gateway could not be reached, or the connection broke."""


class GatewayTimeout(Unreachable, house.DeadlineExceeded):
    """No answer within the time allowed."""


class RunOutcomeUnknown(Unreachable, house.OutcomeUnknown):
    """A call was sent, its answer did not come: it may have been done, or not."""


class UploadOutcomeUnknown(RunOutcomeUnknown):
    """A file was sent, the answer did not come: it may be there, or not. It is no run: the
    class above it is what every call is whose outcome nobody knows."""


class RunInterrupted(Unreachable, house.StreamInterrupted):
    """A streamed run broke off before its end; what became of the run is not known."""


class InvalidAnswer(GatewayError, house.InvalidResponseError):
    """The gateway answered with something that is not the documented shape."""


class GatewayConfigurationError(GatewayError, house.ConfigurationError):
    """A setting or an argument cannot be used; nothing was sent."""


class FileTransferError(GatewayError, house.TransferError):
    """A file could not be transferred whole; nothing was left under its final name."""


class LocalFileError(FileTransferError, OSError):
    """A local file could not be read or written. ``errno`` and ``filename`` are those of the
    operating system."""


class LocalFileExists(LocalFileError, FileExistsError):
    """The target of a download exists, and ``overwrite`` is False."""


class LocalFileNotFound(LocalFileError, FileNotFoundError, ValueError):
    """The local file does not exist. A ``ValueError`` as in the published package."""


class LocalFileForbidden(LocalFileError, PermissionError):
    """The local file may not be read or written."""


class LocalFileIsDirectory(LocalFileError, IsADirectoryError):
    """A directory was named instead of a file."""


class FileTransferCancelled(FileTransferError, house.TransferCancelled):
    """The caller cancelled the transfer."""
