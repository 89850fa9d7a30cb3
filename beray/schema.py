"""What the wire carries: one TypedDict for each documented shape.

Results stay plain dictionaries, the very ones that were decoded: a check proves that
one has its documented keys and types; unknown keys are kept, unknown enum values are
accepted, timestamps stay the strings that came.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

TaskStatus = Literal["QUEUED", "RUNNING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "STOPPED"]
TERMINAL_STATUSES = frozenset({"COMPLETED", "FAILED", "STOPPED"})

_LOOSE = ConfigDict(extra="allow", strict=True)
BODY_EXCERPT = 2048
IDEMPOTENCY_HEADER = "X-Idempotency-Seconds"
"""Ours: on every answer of a server that honours ``Idempotency-Key``, and for how long."""


@with_config(_LOOSE)
class Message(TypedDict):
    message: str


@with_config(_LOOSE)
class User(TypedDict):
    id: int | str
    email: str
    created_at: NotRequired[str]


@with_config(_LOOSE)
class Session(TypedDict):
    """The answer to register and login."""

    access_token: str
    token_type: str
    user: User


@with_config(_LOOSE)
class TaskEvent(TypedDict):
    """One event of a task: the envelope, and beside it the fields of its ``type``
    (see :mod:`beray.events`)."""

    seq: NotRequired[int]
    task_id: NotRequired[int]
    created_at: NotRequired[str]
    type: NotRequired[str]


@with_config(_LOOSE)
class Task(TypedDict):
    """A task. What is not required is this project's own addition to the wire."""

    id: int
    goal: str
    status: TaskStatus | str
    reason: NotRequired[str | None]
    held: NotRequired[bool]
    tools: NotRequired[list[dict[str, Any]] | None]
    created_at: NotRequired[str]
    started_at: NotRequired[str | None]
    ended_at: NotRequired[str | None]
    events: NotRequired[list[TaskEvent]]


@with_config(_LOOSE)
class Deleted(TypedDict):
    status: str
    message: str


@with_config(_LOOSE)
class FileItem(TypedDict):
    """An entry of a work_dir. ``path`` is relative to the work_dir; ``size`` is in bytes."""

    name: str
    type: Literal["file", "directory"] | str
    path: NotRequired[str]
    size: NotRequired[int]
    modified_at: NotRequired[str]


@with_config(_LOOSE)
class UploadedFile(TypedDict):
    message: str
    path: str
    size: int


MESSAGE = TypeAdapter(Message)
USER = TypeAdapter(User)
SESSION = TypeAdapter(Session)
TASK = TypeAdapter(Task)
TASKS = TypeAdapter(list[Task])
DELETED = TypeAdapter(Deleted)
FILE_ITEMS = TypeAdapter(list[FileItem])
UPLOADED_FILE = TypeAdapter(UploadedFile)


def wrong_shape(adapter: TypeAdapter[Any], data: Any) -> str | None:
    """Say where ``data`` is not what ``adapter`` describes; ``None`` where it is.

    It is only looked at: what the caller gets is the object that was decoded.
    """
    try:
        adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the answer"
        return f"{place}: {first['msg']}"
    return None
