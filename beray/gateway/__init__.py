"""Client library of a gateway: calls of prefab functions, and their input and output files.

Example::

    with GatewayClient.from_api_key("sk-…", base_url="https://gateway.example.com") as client:
        document = client.upload_input_file("report.pdf")
        result = client.run(
            "document-text", "latest", "extract", files={"documents": [document]}
        )
        print(result.get_function_result(), result.get_file_urls())

Source: the Gateway wire page.
"""

# ruff: noqa: E402 -- the check reports an inconsistent installation before imports fail
from beray import installation

installation.require_consistent()

from beray.gateway.client import GatewayClient
from beray.gateway.exceptions import (
    AgentContextRequiredError,
    AuthenticationError,
    FileTransferCancelled,
    FileTransferError,
    GatewayConfigurationError,
    GatewayError,
    GatewayFailure,
    GatewayTimeout,
    InvalidAnswer,
    InvalidInput,
    LocalFileError,
    LocalFileExists,
    LocalFileForbidden,
    LocalFileIsDirectory,
    LocalFileNotFound,
    MissingSecretError,
    ObjectNotFoundError,
    PrefabNotFoundError,
    QuotaExceededError,
    RefusedError,
    RejectedInput,
    RunInterrupted,
    RunOutcomeUnknown,
    ServiceUnavailableError,
    Unreachable,
    UploadOutcomeUnknown,
    ValidationError,
)
from beray.gateway.file_results import FileListing, UploadResult
from beray.gateway.models import (
    BatchResult,
    CallStatus,
    PrefabCall,
    PrefabInfo,
    PrefabResult,
    StreamEvent,
    StreamEventType,
)
from beray.gateway.prefab import Prefab
from beray.gateway.runs import PrefabStream
from beray.gateway.schema import FileEntry, FilePage
from beray.transfers.transfer import Transfer

__all__ = [
    "AgentContextRequiredError",
    "AuthenticationError",
    "BatchResult",
    "CallStatus",
    "FileEntry",
    "FileListing",
    "FilePage",
    "FileTransferCancelled",
    "FileTransferError",
    "GatewayClient",
    "GatewayConfigurationError",
    "GatewayError",
    "GatewayFailure",
    "GatewayTimeout",
    "InvalidAnswer",
    "InvalidInput",
    "LocalFileError",
    "LocalFileExists",
    "LocalFileForbidden",
    "LocalFileIsDirectory",
    "LocalFileNotFound",
    "MissingSecretError",
    "ObjectNotFoundError",
    "Prefab",
    "PrefabCall",
    "PrefabInfo",
    "PrefabNotFoundError",
    "PrefabResult",
    "PrefabStream",
    "QuotaExceededError",
    "RefusedError",
    "RejectedInput",
    "RunInterrupted",
    "RunOutcomeUnknown",
    "ServiceUnavailableError",
    "StreamEvent",
    "StreamEventType",
    "Transfer",
    "Unreachable",
    "UploadOutcomeUnknown",
    "UploadResult",
    "ValidationError",
]
