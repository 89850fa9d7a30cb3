"""What the gateway's wire carries: one TypedDict for each documented shape.

Source: the Gateway wire page.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import StringConstraints
from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

from beray.schema import OR_NULL, OR_STRING, ResponseSchema, lenient


@lenient
class InternalToken(TypedDict):
    internal_token: str


@lenient
class CallAnswer(TypedDict):
    """What has become of one call."""

    status: str
    output: NotRequired[dict[str, Any] | None]
    error: NotRequired[Any]
    job_id: NotRequired[str | int | None]


@lenient
class RunAnswer(TypedDict):
    job_id: NotRequired[str | int | None]
    status: NotRequired[Annotated[str, OR_NULL]]
    results: list[CallAnswer]


S3Url = Annotated[str, StringConstraints(pattern="^s3://[^/]+/.")]


@lenient
class UploadUrl(TypedDict):
    upload_url: str
    s3_url: S3Url


@lenient
class Stored(TypedDict):
    """The answer to an upload."""

    s3_url: S3Url
    success: NotRequired[Annotated[Literal[True], OR_NULL]]
    filename: NotRequired[Annotated[str, OR_NULL]]
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@lenient
class PresignedUrl(TypedDict):
    presigned_url: Annotated[str, StringConstraints(pattern="^https?://")]


@lenient
class FileEntry(TypedDict):
    """A file at the gateway; ``size`` is in bytes."""

    key: NotRequired[Annotated[str, OR_NULL]]
    s3_url: str
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]
    last_modified: NotRequired[Annotated[str, OR_NULL]]


@lenient
class FilePage(TypedDict):
    """A page of a listing. ``next_token`` continues it; absent or ``None`` on the last."""

    files: NotRequired[Annotated[list[FileEntry], OR_NULL]]
    next_token: NotRequired[str | None]


@lenient
class Cleaned(TypedDict):
    deleted_count: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@lenient
class PrefabEntry(TypedDict):
    """A prefab as it is listed. Ours."""

    prefab_id: str
    version: NotRequired[str | None]
    name: NotRequired[str | None]
    description: NotRequired[str | None]
    status: NotRequired[str | None]
    is_official: NotRequired[bool | None]
    requires_secrets: NotRequired[bool | None]
    functions: NotRequired[list[str] | None]


@lenient
class PrefabList(TypedDict):
    prefabs: list[PrefabEntry]


@lenient
class SecretNames(TypedDict):
    secrets: list[str]


Spec = dict[str, Any]
"""What a prefab can do. Ours."""

INTERNAL_TOKEN: ResponseSchema[InternalToken] = ResponseSchema(InternalToken)
RUN: ResponseSchema[RunAnswer] = ResponseSchema(RunAnswer)
UPLOAD_URL: ResponseSchema[UploadUrl] = ResponseSchema(UploadUrl)
STORED: ResponseSchema[Stored] = ResponseSchema(Stored)
PRESIGNED_URL: ResponseSchema[PresignedUrl] = ResponseSchema(PresignedUrl)
FILE_PAGE: ResponseSchema[FilePage] = ResponseSchema(FilePage)
CLEANED: ResponseSchema[Cleaned] = ResponseSchema(Cleaned)
PREFABS: ResponseSchema[PrefabList] = ResponseSchema(PrefabList)
SPEC: ResponseSchema[Spec] = ResponseSchema(dict[str, Any])
SECRETS: ResponseSchema[SecretNames] = ResponseSchema(SecretNames)
