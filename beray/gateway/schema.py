"""Schemas of the gateway's responses: one TypedDict for each documented JSON object.

Source: the Gateway wire page.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import StringConstraints
from typing_extensions import TypedDict  # required by pydantic below Python 3.12

from beray.schema import OR_NULL, OR_STRING, ResponseSchema, lenient


@lenient
class InternalTokenResponse(TypedDict):
    """Response to the exchange of an API key."""

    internal_token: str


@lenient
class CallResponse(TypedDict):
    """Outcome of one call in the response to a run."""

    status: str
    output: NotRequired[dict[str, Any] | None]
    error: NotRequired[Any]
    job_id: NotRequired[str | int | None]


@lenient
class RunResponse(TypedDict):
    """Response to a run; ``results`` is in the order of the calls."""

    job_id: NotRequired[str | int | None]
    status: NotRequired[Annotated[str, OR_NULL]]
    results: list[CallResponse]


S3Url = Annotated[str, StringConstraints(pattern="^s3://[^/]+/.")]


@lenient
class UploadUrlResponse(TypedDict):
    """Presigned URL for an upload, and the ``s3://`` URL that the file will have."""

    upload_url: str
    s3_url: S3Url


@lenient
class UploadResponse(TypedDict):
    """Response to an upload; ``size`` is in bytes."""

    s3_url: S3Url
    success: NotRequired[Annotated[Literal[True], OR_NULL]]
    filename: NotRequired[Annotated[str, OR_NULL]]
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@lenient
class PresignedUrlResponse(TypedDict):
    """Presigned URL for a download."""

    presigned_url: Annotated[str, StringConstraints(pattern="^https?://")]


@lenient
class FileEntry(TypedDict):
    """File stored by the gateway; ``size`` is in bytes."""

    key: NotRequired[Annotated[str, OR_NULL]]
    s3_url: str
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]
    last_modified: NotRequired[Annotated[str, OR_NULL]]


@lenient
class FilePage(TypedDict):
    """Page of a file listing.

    ``next_token`` requests the next page; it is missing or None on the last one.
    """

    files: NotRequired[Annotated[list[FileEntry], OR_NULL]]
    next_token: NotRequired[str | None]


@lenient
class DeletionResponse(TypedDict):
    """Response to a deletion: the number of deleted files."""

    deleted_count: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@lenient
class PrefabEntry(TypedDict):
    """Entry of the list of prefabs. BeRay extension."""

    prefab_id: str
    version: NotRequired[str | None]
    name: NotRequired[str | None]
    description: NotRequired[str | None]
    status: NotRequired[str | None]
    is_official: NotRequired[bool | None]
    requires_secrets: NotRequired[bool | None]
    functions: NotRequired[list[str] | None]


@lenient
class PrefabListResponse(TypedDict):
    """Response to a listing of prefabs. BeRay extension."""

    prefabs: list[PrefabEntry]


@lenient
class SecretNamesResponse(TypedDict):
    """Names of the secrets that the user has set for a prefab. BeRay extension."""

    secrets: list[str]


PrefabSpec = dict[str, Any]
"""Functions of a prefab with their parameters, files and secrets. BeRay extension."""

INTERNAL_TOKEN: ResponseSchema[InternalTokenResponse] = ResponseSchema(InternalTokenResponse)
RUN: ResponseSchema[RunResponse] = ResponseSchema(RunResponse)
UPLOAD_URL: ResponseSchema[UploadUrlResponse] = ResponseSchema(UploadUrlResponse)
UPLOAD: ResponseSchema[UploadResponse] = ResponseSchema(UploadResponse)
PRESIGNED_URL: ResponseSchema[PresignedUrlResponse] = ResponseSchema(PresignedUrlResponse)
FILE_PAGE: ResponseSchema[FilePage] = ResponseSchema(FilePage)
DELETION: ResponseSchema[DeletionResponse] = ResponseSchema(DeletionResponse)
PREFAB_LIST: ResponseSchema[PrefabListResponse] = ResponseSchema(PrefabListResponse)
PREFAB_SPEC: ResponseSchema[PrefabSpec] = ResponseSchema(dict[str, Any])
SECRET_NAMES: ResponseSchema[SecretNamesResponse] = ResponseSchema(SecretNamesResponse)
