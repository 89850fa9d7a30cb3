"""What the gateway's wire carries: one TypedDict for each documented shape.

Source: the Gateway wire page.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import StringConstraints
from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

from beray.schema import OR_NULL, OR_STRING, Shape, loose


@loose
class InternalToken(TypedDict):
    internal_token: str


@loose
class CallAnswer(TypedDict):
    """What has become of one call."""

    status: str
    output: NotRequired[dict[str, Any] | None]
    error: NotRequired[Any]
    job_id: NotRequired[str | int | None]


@loose
class RunAnswer(TypedDict):
    job_id: NotRequired[str | int | None]
    status: NotRequired[Annotated[str, OR_NULL]]
    results: list[CallAnswer]


S3Url = Annotated[str, StringConstraints(pattern="^s3://[^/]+/.")]


@loose
class UploadUrl(TypedDict):
    upload_url: str
    s3_url: S3Url


@loose
class Stored(TypedDict):
    """The answer to an upload."""

    s3_url: S3Url
    success: NotRequired[Annotated[Literal[True], OR_NULL]]
    filename: NotRequired[Annotated[str, OR_NULL]]
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@loose
class PresignedUrl(TypedDict):
    presigned_url: Annotated[str, StringConstraints(pattern="^https?://")]


@loose
class FileEntry(TypedDict):
    """A file at the gateway; ``size`` is in bytes."""

    key: NotRequired[Annotated[str, OR_NULL]]
    s3_url: str
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]
    last_modified: NotRequired[Annotated[str, OR_NULL]]


@loose
class FilePage(TypedDict):
    """A page of a listing. ``next_token`` continues it; absent or ``None`` on the last."""

    files: NotRequired[Annotated[list[FileEntry], OR_NULL]]
    next_token: NotRequired[str | None]


@loose
class Cleaned(TypedDict):
    deleted_count: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@loose
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


@loose
class PrefabList(TypedDict):
    prefabs: list[PrefabEntry]


@loose
class SecretNames(TypedDict):
    secrets: list[str]


Spec = dict[str, Any]
"""What a prefab can do. Ours."""

INTERNAL_TOKEN: Shape[InternalToken] = Shape(InternalToken)
RUN: Shape[RunAnswer] = Shape(RunAnswer)
UPLOAD_URL: Shape[UploadUrl] = Shape(UploadUrl)
STORED: Shape[Stored] = Shape(Stored)
PRESIGNED_URL: Shape[PresignedUrl] = Shape(PresignedUrl)
FILE_PAGE: Shape[FilePage] = Shape(FilePage)
CLEANED: Shape[Cleaned] = Shape(Cleaned)
PREFABS: Shape[PrefabList] = Shape(PrefabList)
SPEC: Shape[Spec] = Shape(dict[str, Any])
SECRETS: Shape[SecretNames] = Shape(SecretNames)
