"""Results of calls: one TypedDict for each documented shape, and its check.

Results are plain dictionaries, as they were decoded; unknown keys and unknown enum values are
kept. Null in an optional key stands for a missing one, and is removed
(:mod:`beray.null_fields`), unless the key is documented as nullable. Only the keys without which
a result is useless are required: the ``access_token`` of a session, the ``id`` and ``status`` of
a task, the ``name`` and ``type`` of a file. The annotations give the documented types. Where
servers are known to send something else, the checks accept that too: strings for ids and numbers.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

from beray.event_types import TaskEvent as TaskEvent
from beray.event_types import TaskStatus as TaskStatus
from beray.null_fields import OR_NULL as OR_NULL
from beray.null_fields import NullFields

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema

TERMINAL_STATUSES = frozenset({"COMPLETED", "FAILED", "STOPPED"})

ENVELOPE = ("seq", "task_id", "created_at")
"""What an event of a task has beside the fields of its type."""
MOST_ATTACHMENTS = 100
"""How many files a message of a chat may have with it."""

BODY_EXCERPT = 2048
IDEMPOTENCY_HEADER = "X-Idempotency-Seconds"
"""Ours: on every answer of a server that honours ``Idempotency-Key``, and for how long."""
SHOULD_RETRY_HEADER = "X-Should-Retry"
"""``false``: the failure is permanent. A convention of several HTTP APIs."""

T = TypeVar("T")


def from_workspace(path: str) -> str:
    """A path as an agent names it, from the work_dir down: agents call that ``/workspace``."""
    return path.removeprefix("/workspace/")


class _OrString:
    """Annotation of a number, or an id, that may be a string on the wire."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.union_schema([handler(source), core_schema.str_schema(strict=True)])


class _Objects:
    """Annotation of a list whose entries only have to be JSON objects."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.list_schema(core_schema.dict_schema(), strict=True)


OR_STRING = _OrString()
OBJECTS = _Objects()


def loose(shape: type[T]) -> type[T]:
    """Have pydantic keep unknown keys, and take no type for another."""
    shape.__pydantic_config__ = {"extra": "allow", "strict": True}  # type: ignore[attr-defined]
    return shape


class Shape(Generic[T]):
    """A documented shape. Its validator is made when the first answer is checked.

    Args:
        empty: makes the result of an answer without content (204); it is checked like any other.
    """

    def __init__(self, shape: Any, empty: Callable[[], Any] = dict) -> None:
        self._shape = shape
        self.empty = empty

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        from pydantic import TypeAdapter

        return TypeAdapter(self._shape)

    @cached_property
    def _null_fields(self) -> NullFields | None:
        return NullFields.of(self._shape)

    def problem(self, data: Any) -> str | None:
        """Return where ``data`` is of another shape; None if it is of this one.

        The caller gets ``data`` itself. Only null values that stand for missing keys are
        removed from it.
        """
        from pydantic import ValidationError

        if self._null_fields is not None:
            self._null_fields.remove_from(data)
        try:
            self._adapter.validate_python(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the answer"
            return f"{place}: {first['msg']}"
        return None


@loose
class Message(TypedDict):
    message: NotRequired[Annotated[str, OR_NULL]]


@loose
class User(TypedDict):
    id: NotRequired[Annotated[int | str, OR_NULL]]
    email: NotRequired[Annotated[str, OR_NULL]]
    created_at: NotRequired[Annotated[str, OR_NULL]]


@loose
class Session(TypedDict):
    """Result of ``register`` and ``login``."""

    access_token: str
    token_type: NotRequired[Annotated[str, OR_NULL]]
    user: NotRequired[Annotated[User, OR_NULL]]


@loose
class Limits(TypedDict):
    """What a task may take at most. Ours."""

    tokens: NotRequired[int]
    requests: NotRequired[int]
    cost_usd: NotRequired[float]
    seconds: NotRequired[float]
    network: NotRequired[bool]
    """Whether its shell commands may reach the network."""
    gateway: NotRequired[bool]
    """Whether its commands and agents get access to the gateway (``X_INTERNAL_TOKEN``)."""


class TaskOptions(TypedDict, total=False):
    """What ``create_task`` may be asked besides. Ours."""

    runner: str
    model: str
    limits: Limits
    tags: list[str]


class RunOptions(TaskOptions, total=False):
    """Options of ``run``, which it passes to ``create_task``."""

    tools: list[dict[str, Any]] | None


@loose
class Usage(TypedDict):
    """What a task has taken from a model's provider. Ours.

    ``input_tokens`` includes those of the cache. ``cost_usd`` is ``None`` where the price
    is not known; ``estimated`` says that some tokens had to be guessed.
    """

    requests: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: NotRequired[int]
    cache_write_tokens: NotRequired[int]
    cost_usd: NotRequired[float | None]
    estimated: NotRequired[bool]


@loose
class Task(TypedDict):
    """A task.

    ``id``, ``goal``, ``status``, ``tools``, ``created_at`` and ``events`` are published; the
    other keys are BeRay extensions. An ``id`` that the server sends as a string stays a string,
    and is accepted wherever a ``task_id`` is expected.
    """

    id: Annotated[int, OR_STRING]
    goal: NotRequired[Annotated[str, OR_NULL]]
    status: TaskStatus | str
    reason: NotRequired[str | None]
    held: NotRequired[bool]
    tools: NotRequired[list[dict[str, Any]] | None]
    created_at: NotRequired[Annotated[str, OR_NULL]]
    started_at: NotRequired[str | None]
    ended_at: NotRequired[str | None]
    last_seq: NotRequired[int]
    last_line: NotRequired[str | None]
    runner: NotRequired[str | None]
    model: NotRequired[str | None]
    limits: NotRequired[Limits | None]
    tags: NotRequired[Annotated[list[str], OR_NULL]]
    usage: NotRequired[Usage | None]
    chat: NotRequired[str | None]
    events: NotRequired[Annotated[list[TaskEvent], OBJECTS, OR_NULL]]
    first_seq: NotRequired[int]
    """The ``seq`` of the first of ``events``, or of the next event if there are none."""
    events_truncated: NotRequired[bool]
    """Whether there are events before ``first_seq``."""


class TasksUpdate(TypedDict):
    """All tasks. It is the first update, and comes again if the server cannot resume."""

    type: Literal["TASKS"]
    seq: NotRequired[int]
    tasks: list[Task]


class TaskStatusUpdate(TypedDict):
    """A task was created or has another status.

    ``task`` is missing if the task has been deleted since then. Its ``status`` is always the
    ``status`` of the update. A stream that resumes, or is behind, also gets changes that are
    outdated because a later update follows. Their ``task`` has no ``held``, ``started_at``,
    ``ended_at``, ``last_seq``, ``last_line`` and ``usage``: the values at that time are unknown.
    """

    type: Literal["TASK_STATUS"]
    seq: NotRequired[int]
    task_id: int
    created_at: NotRequired[str]
    status: TaskStatus | str
    reason: NotRequired[str]
    task: NotRequired[Task]


class TaskDeletedUpdate(TypedDict):
    """A task was deleted."""

    type: Literal["TASK_DELETED"]
    seq: NotRequired[int]
    task_id: int
    created_at: NotRequired[str]


class TaskProgressUpdate(TypedDict):
    """The newest position and line of a running task, and ``usage`` if it has changed.

    It has no ``seq``: only the newest one of a task counts.
    """

    type: Literal["TASK_PROGRESS"]
    task_id: int
    created_at: NotRequired[str]
    last_seq: int
    last_line: NotRequired[str | None]
    usage: NotRequired[Usage]


class OtherUpdate(TypedDict):
    """An update of a type that this version does not know; see :mod:`beray.event_types`."""

    type: Literal["(other)"]
    seq: NotRequired[int]
    task_id: NotRequired[int]
    created_at: NotRequired[str]


TaskUpdate = TasksUpdate | TaskStatusUpdate | TaskDeletedUpdate | TaskProgressUpdate | OtherUpdate
"""One message of the stream over all tasks. BeRay extension."""


@loose
class Deleted(TypedDict):
    status: NotRequired[Annotated[str, OR_NULL]]
    message: NotRequired[Annotated[str, OR_NULL]]


@loose
class FileItem(TypedDict):
    """An entry of a work_dir. ``path`` is relative to the work_dir; ``size`` is in bytes.

    ``mode`` has the permission bits as three octal digits; see :mod:`beray.transfers.file_modes`.
    """

    name: str
    type: Literal["file", "directory"] | str
    path: NotRequired[str]
    mode: NotRequired[Annotated[str | int, OR_NULL]]
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]
    modified_at: NotRequired[Annotated[str, OR_NULL]]


class FilePage(NamedTuple):
    """A page of a listing of files. BeRay extension."""

    items: list[FileItem]
    after: str | None
    """The position that the next page starts after; ``None`` on the last page."""


@loose
class UploadedFile(TypedDict):
    message: NotRequired[Annotated[str, OR_NULL]]
    path: NotRequired[Annotated[str, OR_NULL]]
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@loose
class ApiKey(TypedDict):
    """An API key of the gateway, without the key. Ours."""

    id: int
    name: str
    agent_id: str | None
    start: str
    """The first characters of the key, to tell it from others."""
    created_at: str


@loose
class CreatedApiKey(TypedDict):
    """A new API key: the only answer that has the ``key`` itself. Ours."""

    id: int
    name: str
    agent_id: str | None
    key: str
    created_at: str


def goal_of(task: Task) -> str:
    """Return the goal of a task; "" if the server did not send it."""
    return task.get("goal") or ""


def email_of(session: Session) -> str | None:
    """Return the e-mail address of the account, if the server sent it."""
    return (session.get("user") or {}).get("email") or None


def size_of(item: FileItem | UploadedFile) -> int | None:
    """Return the size of a file in bytes; None if the server did not send a number."""
    try:
        return int(item["size"])
    except (KeyError, TypeError, ValueError):
        return None


def size_text(item: FileItem) -> str:
    """Return the size of a file as decimal digits; "" if it is not known."""
    size = size_of(item)
    return "" if size is None else str(size)


def _no_message() -> Any:
    return {"message": ""}


MESSAGE: Shape[Message] = Shape(Message, _no_message)
USER: Shape[User] = Shape(User)
SESSION: Shape[Session] = Shape(Session)
TASK: Shape[Task] = Shape(Task)
TASKS: Shape[list[Task]] = Shape(list[Task], list)
EVENTS: Shape[list[TaskEvent]] = Shape(Annotated[list[TaskEvent], OBJECTS], list)
DELETED: Shape[Deleted] = Shape(Deleted, _no_message)
FILE_ITEMS: Shape[list[FileItem]] = Shape(list[FileItem], list)
UPLOADED_FILE: Shape[UploadedFile] = Shape(UploadedFile, _no_message)
API_KEYS: Shape[list[ApiKey]] = Shape(list[ApiKey], list)
CREATED_API_KEY: Shape[CreatedApiKey] = Shape(CreatedApiKey)
