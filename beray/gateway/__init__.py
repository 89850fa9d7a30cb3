"""A client of a gateway: prefabs that are called, and the files that go in and come out.

::

    with GatewayClient.from_api_key("sk-…", base_url="https://gateway.example.com") as client:
        document = client.upload_input_file("report.pdf")
        result = client.run(
            "document-text", "latest", "extract", files={"documents": [document]}
        )
        print(result.get_function_result(), result.get_file_urls())

Source: the Gateway wire page.
"""

# ruff: noqa: E402 -- the checks come before the imports that would fail
from beray import installation

installation.require_consistent()

from beray.gateway.client import GatewayClient, Prefab
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
from beray.gateway.listing import FileListing
from beray.gateway.models import (
    BatchResult,
    CallStatus,
    PrefabCall,
    PrefabInfo,
    PrefabResult,
    StreamEvent,
    StreamEventType,
)
from beray.gateway.runs import PrefabStream
from beray.gateway.schema import FileEntry, FilePage
from beray.gateway.uploaded import UploadResult
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
