"""What the wire carries: one TypedDict for each documented shape.

Results stay plain dictionaries, the very ones that were decoded: a check proves that
one has its documented keys and types; unknown keys are kept, unknown enum values are
accepted, timestamps stay the strings that came.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, NotRequired, TypeVar

from typing_extensions import TypedDict  # pydantic asks for this one below Python 3.12

if TYPE_CHECKING:
    from pydantic import TypeAdapter

TaskStatus = Literal["QUEUED", "RUNNING", "INPUT_REQUIRED", "COMPLETED", "FAILED", "STOPPED"]
TERMINAL_STATUSES = frozenset({"COMPLETED", "FAILED", "STOPPED"})

ENVELOPE = ("seq", "task_id", "created_at")
"""What an event of a task has beside the fields of its type."""
MOST_ATTACHMENTS = 100
"""How many files a message of a chat may have with it."""

BODY_EXCERPT = 2048
IDEMPOTENCY_HEADER = "X-Idempotency-Seconds"
"""Ours: on every answer of a server that honours ``Idempotency-Key``, and for how long."""

T = TypeVar("T")


def from_workspace(path: str) -> str:
    """A path as an agent names it, from the work_dir down: agents call that ``/workspace``."""
    return path.removeprefix("/workspace/")


def loose(shape: type[T]) -> type[T]:
    """Have pydantic keep unknown keys, and take no type for another."""
    shape.__pydantic_config__ = {"extra": "allow", "strict": True}  # type: ignore[attr-defined]
    return shape


class Shape(Generic[T]):
    """A documented shape. Its validator is made when the first answer is checked."""

    def __init__(self, shape: Any) -> None:
        self._shape = shape

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        from pydantic import TypeAdapter

        return TypeAdapter(self._shape)

    def problem(self, data: Any) -> str | None:
        """Say where ``data`` is of another shape; ``None`` where it is of this one.

        It is only looked at: what the caller gets is the object that was decoded.
        """
        from pydantic import ValidationError

        try:
            self._adapter.validate_python(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the answer"
            return f"{place}: {first['msg']}"
        return None


@loose
class Message(TypedDict):
    message: str


@loose
class User(TypedDict):
    id: int | str
    email: str
    created_at: NotRequired[str]


@loose
class Session(TypedDict):
    """The answer to register and login."""

    access_token: str
    token_type: str
    user: User


@loose
class TaskEvent(TypedDict):
    """One event of a task: the envelope, and beside it the fields of its ``type``
    (see :mod:`beray.events`)."""

    seq: NotRequired[int]
    task_id: NotRequired[int]
    created_at: NotRequired[str]
    type: NotRequired[str]


@loose
class Limits(TypedDict):
    """What a task may take at most. Ours."""

    tokens: NotRequired[int]
    requests: NotRequired[int]
    cost_usd: NotRequired[float]
    seconds: NotRequired[float]
    network: NotRequired[bool]
    """Whether its shell commands may reach the network."""


class TaskOptions(TypedDict, total=False):
    """What ``create_task`` may be asked besides. Ours."""

    runner: str
    model: str
    limits: Limits
    tags: list[str]


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
    last_seq: NotRequired[int]
    last_line: NotRequired[str | None]
    runner: NotRequired[str | None]
    model: NotRequired[str | None]
    limits: NotRequired[Limits | None]
    tags: NotRequired[list[str] | None]
    usage: NotRequired[Usage | None]
    chat: NotRequired[str | None]
    events: NotRequired[list[TaskEvent]]
    first_seq: NotRequired[int]
    """The ``seq`` of the first of ``events``, or of the next event if there are none."""
    events_truncated: NotRequired[bool]
    """Whether there are events before ``first_seq``."""


@loose
class TaskUpdate(TypedDict):
    """One message of the stream over all tasks. Ours.

    ``TASKS`` has all of them in ``tasks`` and comes first. Then ``TASK_STATUS`` has the
    new ``status`` and the ``task`` as it is now (absent where it is gone by now),
    ``TASK_DELETED`` its id, and ``TASK_PROGRESS`` the newest ``last_seq`` and ``last_line``,
    and ``usage`` where that has changed.
    All but the last are numbered by ``seq`` without a gap.
    """

    type: Literal["TASKS", "TASK_STATUS", "TASK_DELETED", "TASK_PROGRESS"] | str
    seq: NotRequired[int]
    task_id: NotRequired[int]
    created_at: NotRequired[str]
    status: NotRequired[TaskStatus | str]
    reason: NotRequired[str]
    task: NotRequired[Task]
    tasks: NotRequired[list[Task]]
    last_seq: NotRequired[int]
    last_line: NotRequired[str | None]
    usage: NotRequired[Usage]


@loose
class Deleted(TypedDict):
    status: str
    message: str


@loose
class FileItem(TypedDict):
    """An entry of a work_dir. ``path`` is relative to the work_dir; ``size`` is in bytes."""

    name: str
    type: Literal["file", "directory"] | str
    path: NotRequired[str]
    size: NotRequired[int]
    modified_at: NotRequired[str]


@loose
class UploadedFile(TypedDict):
    message: str
    path: str
    size: int


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


MESSAGE: Shape[Message] = Shape(Message)
USER: Shape[User] = Shape(User)
SESSION: Shape[Session] = Shape(Session)
TASK: Shape[Task] = Shape(Task)
TASKS: Shape[list[Task]] = Shape(list[Task])
EVENTS: Shape[list[TaskEvent]] = Shape(list[TaskEvent])
DELETED: Shape[Deleted] = Shape(Deleted)
FILE_ITEMS: Shape[list[FileItem]] = Shape(list[FileItem])
UPLOADED_FILE: Shape[UploadedFile] = Shape(UploadedFile)
API_KEYS: Shape[list[ApiKey]] = Shape(list[ApiKey])
CREATED_API_KEY: Shape[CreatedApiKey] = Shape(CreatedApiKey)
