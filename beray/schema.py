"""Responses of the BeRay API as TypedDicts, and their validation.

Results are the decoded dictionaries; unknown keys and unknown enum values are kept. Null in an
optional key stands for a missing key and is removed (:mod:`beray.null_fields`), unless the key is
documented as nullable. Only the keys without which a result is useless are required: the
``access_token`` of a session, the ``id`` and ``status`` of a task, the ``name`` and ``type`` of a
file. The annotations are the documented types. The validation also accepts what servers are known
to send instead: strings for ids and numbers.

Source: the BeRay API v1 wire page.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

from typing_extensions import TypedDict  # required by pydantic before Python 3.12

from beray.event_types import TaskEvent as TaskEvent
from beray.event_types import TaskStatus as TaskStatus
from beray.null_fields import OR_NULL as OR_NULL
from beray.null_fields import NullFields

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, TypeAdapter
    from pydantic_core import CoreSchema

API_PREFIX = "/api/v1"
"""Path prefix of the BeRay API. The paths of the gateway do not have it."""
TERMINAL_STATUSES = frozenset({"COMPLETED", "FAILED", "STOPPED"})

EVENT_ENVELOPE = ("seq", "task_id", "created_at")
"""Fields of an event of a task in addition to those of its type."""
MAX_GOAL_CHARS = 200_000
"""Maximum length of the goal of a task."""
MAX_MESSAGE_CHARS = 200_000
"""Maximum length of a chat message."""
MAX_ATTACHMENTS = 100
"""Maximum number of attachments of a chat message."""
MAX_CHAT_NAME_CHARS = 100
"""Maximum length of the name of a chat."""
CHAT_NAME_PATTERN = r"^[^\x00-\x1f\x7f/]+$"
"""Names of chats, which are segments of a URL path."""

BODY_EXCERPT = 2048
"""Maximum length of the part of a response that an exception contains, in characters."""
IDEMPOTENCY_HEADER = "X-Idempotency-Seconds"
"""Response header of servers that honour ``Idempotency-Key``: for how many seconds.

BeRay extension.
"""
SHOULD_RETRY_HEADER = "X-Should-Retry"
"""Response header; ``false`` marks a permanent failure. A convention of several HTTP APIs."""

T = TypeVar("T")


def from_workspace(path: str) -> str:
    """Return a path of an agent relative to the work_dir, which agents see as ``/workspace``."""
    return path.removeprefix("/workspace/")


class _OrString:
    """Annotation of a number or an id that may be a string in responses."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.union_schema([handler(source), core_schema.str_schema(strict=True)])


class _Objects:
    """Annotation of a list whose items are only checked to be JSON objects."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.list_schema(core_schema.dict_schema(), strict=True)


OR_STRING = _OrString()
OBJECTS = _Objects()


def lenient(typed_dict: type[T]) -> type[T]:
    """Configure a TypedDict so that pydantic keeps unknown keys and converts no types."""
    typed_dict.__pydantic_config__ = {"extra": "allow", "strict": True}  # type: ignore[attr-defined]
    return typed_dict


class ResponseSchema(Generic[T]):
    """Schema of a response body. Its validator is created when it is first used.

    Args:
        annotation: Type annotation of the body.
        empty: Returns the result of a response without content (204), which is validated like any
            other.
    """

    def __init__(self, annotation: Any, empty: Callable[[], Any] = dict) -> None:
        self._annotation = annotation
        self.empty = empty

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        from pydantic import TypeAdapter

        return TypeAdapter(self._annotation)

    @cached_property
    def _null_fields(self) -> NullFields | None:
        return NullFields.of(self._annotation)

    def problem(self, data: Any) -> str | None:
        """Validate ``data``, after removing null values that stand for missing keys.

        Returns:
            Location and description of the first problem; None if ``data`` is valid.
        """
        from pydantic import ValidationError

        if self._null_fields is not None:
            self._null_fields.remove_from(data)
        try:
            self._adapter.validate_python(data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            location = ".".join(str(part) for part in first["loc"]) or "the body"
            return f"{location}: {first['msg']}"
        return None


@lenient
class Message(TypedDict):
    """Confirmation of a request."""

    message: NotRequired[Annotated[str, OR_NULL]]


Scope = Literal["tasks:read", "tasks:write", "files", "gateway"]
"""Operations that an API key permits. BeRay extension."""
Role = Literal["user", "administrator", "service"]
"""Role of an account; a service account has API keys and no password. BeRay extension."""
SCOPES: tuple[Scope, ...] = ("tasks:read", "tasks:write", "files", "gateway")


@lenient
class User(TypedDict):
    """Account of a user."""

    id: NotRequired[Annotated[int | str, OR_NULL]]
    email: NotRequired[Annotated[str, OR_NULL]]
    created_at: NotRequired[Annotated[str, OR_NULL]]
    role: NotRequired[Annotated[str, OR_NULL]]
    """``user``, ``administrator`` or ``service``. BeRay extension."""
    must_change_password: NotRequired[Annotated[bool, OR_NULL]]
    """True if the user has to change the password before anything else. BeRay extension."""


@lenient
class Session(TypedDict):
    """Session of a user: the result of ``register`` and ``login``."""

    access_token: str
    token_type: NotRequired[Annotated[str, OR_NULL]]
    user: NotRequired[Annotated[User, OR_NULL]]


@lenient
class Limits(TypedDict):
    """Limits of a task. BeRay extension.

    ``tokens``, ``requests`` and ``cost_usd`` limit the use of models; ``seconds`` is the duration.
    """

    tokens: NotRequired[int]
    requests: NotRequired[int]
    cost_usd: NotRequired[float]
    seconds: NotRequired[float]
    network: NotRequired[bool]
    """True if shell commands of the task may use the network."""
    gateway: NotRequired[bool]
    """True if its commands and agents get a token of the gateway (``X_INTERNAL_TOKEN``)."""


@lenient
class TaskOrigin(TypedDict):
    """Checkpoint of another task from which a task continues. BeRay extension.

    Requests have either ``seq`` or ``checkpoint``, or neither for the newest checkpoint.
    """

    task: int
    """Id of the other task."""
    seq: NotRequired[int]
    """``seq`` of an event of the other task."""
    checkpoint: NotRequired[str]
    """Name of a checkpoint of the other task, such as ``c3``."""
    conversation: NotRequired[bool]
    """True if the task also continues the conversation with the model; only in responses."""


class TaskOptions(TypedDict, total=False):
    """Options of ``create_task``. BeRay extension."""

    runner: str
    model: str
    limits: Limits
    tags: list[str]
    from_task: TaskOrigin


class RunOptions(TaskOptions, total=False):
    """Options of ``run`` that it passes to ``create_task``."""

    tools: list[dict[str, Any]] | None


@lenient
class Usage(TypedDict):
    """Use of models by a task. BeRay extension.

    ``input_tokens`` includes cached tokens. ``cost_usd`` is ``None`` if the price is unknown.
    ``estimated`` is true if some of the numbers of tokens are estimates.
    """

    requests: int
    """Requests to models."""
    input_tokens: int
    """Tokens of the requests, including those of the cache."""
    output_tokens: int
    """Tokens of the responses."""
    cache_read_tokens: NotRequired[int]
    """Tokens that were read from the provider's cache."""
    cache_write_tokens: NotRequired[int]
    """Tokens that were written to it."""
    cost_usd: NotRequired[float | None]
    """Cost in US dollars; null if the price is unknown."""
    estimated: NotRequired[bool]
    """True if some tokens were estimated, because an answer broke off."""


# "from" is not an identifier.
_TaskWithOrigin = TypedDict("_TaskWithOrigin", {"from": NotRequired[TaskOrigin | None]})
"""``from``: the checkpoint from which the task continues. BeRay extension."""


@lenient
class Task(_TaskWithOrigin):
    """A task.

    ``id``, ``goal``, ``status``, ``tools``, ``created_at`` and ``events`` are published; the
    other keys are BeRay extensions. An ``id`` that the server sends as a string stays a string,
    and is accepted wherever a ``task_id`` is expected.
    """

    id: Annotated[int, OR_STRING]
    """Id of the task."""
    goal: NotRequired[Annotated[str, OR_NULL]]
    """Goal in natural language, or a shell command after ``!``."""
    status: TaskStatus | str
    """Status."""
    reason: NotRequired[str | None]
    """Reason of the status. BeRay extension."""
    held: NotRequired[bool]
    """True until the task is started. BeRay extension."""
    tools: NotRequired[list[dict[str, Any]] | None]
    """MCP servers of the task."""
    created_at: NotRequired[Annotated[str, OR_NULL]]
    """Time of creation, UTC, ISO 8601."""
    started_at: NotRequired[str | None]
    """Start of the run. BeRay extension."""
    ended_at: NotRequired[str | None]
    """End of the run. BeRay extension."""
    last_seq: NotRequired[int]
    """``seq`` of the last event. BeRay extension."""
    last_line: NotRequired[str | None]
    """End of the text of the task. BeRay extension."""
    runner: NotRequired[str | None]
    """Runner. BeRay extension."""
    model: NotRequired[str | None]
    """Model that was requested. BeRay extension."""
    limits: NotRequired[Limits | None]
    """Limits that were requested. BeRay extension."""
    tags: NotRequired[Annotated[list[str], OR_NULL]]
    """Labels by which clients group tasks. BeRay extension."""
    usage: NotRequired[Usage | None]
    """Use of models. BeRay extension."""
    chat: NotRequired[str | None]
    """Name of the chat, if the task is one. BeRay extension."""
    events: NotRequired[Annotated[list[TaskEvent], OBJECTS, OR_NULL]]
    """Newest events."""
    first_seq: NotRequired[int]
    """``seq`` of the first of ``events``, or of the next event if there are none. BeRay
    extension."""
    events_truncated: NotRequired[bool]
    """True if there are events before ``first_seq``. BeRay extension."""


class TasksUpdate(TypedDict):
    """All tasks: the first update, repeated if the server cannot resume the stream."""

    type: Literal["TASKS"]
    seq: NotRequired[int]
    """Position in the changes of the user, without gaps."""
    tasks: list[Task]
    """Tasks, newest first."""


class TaskStatusUpdate(TypedDict):
    """A task was created or changed its status.

    ``task`` is missing if the task has been deleted since then. Its ``status`` is always the
    ``status`` of the update. A stream that resumes or lags also receives outdated changes, which a
    later update replaces. Their ``task`` has no ``held``, ``started_at``, ``ended_at``,
    ``last_seq``, ``last_line`` and ``usage``, as the values at that time are unknown.
    """

    type: Literal["TASK_STATUS"]
    seq: NotRequired[int]
    """Position in the changes of the user, without gaps."""
    task_id: int
    """Id of the task."""
    created_at: NotRequired[str]
    """Time of the change, UTC, ISO 8601."""
    status: TaskStatus | str
    """New status."""
    reason: NotRequired[str]
    """Reason of the status."""
    task: NotRequired[Task]
    """The task."""


class TaskDeletedUpdate(TypedDict):
    """A task was deleted."""

    type: Literal["TASK_DELETED"]
    seq: NotRequired[int]
    """Position in the changes of the user, without gaps."""
    task_id: int
    """Id of the deleted task."""
    created_at: NotRequired[str]
    """Time of the change, UTC, ISO 8601."""


class TaskProgressUpdate(TypedDict):
    """Last position and line of a running task, and ``usage`` if it has changed.

    It has no ``seq``, because a newer one of the same task replaces it.
    """

    type: Literal["TASK_PROGRESS"]
    task_id: int
    """Id of the task."""
    created_at: NotRequired[str]
    """Time of the change, UTC, ISO 8601."""
    last_seq: int
    """``seq`` of the last event of the task."""
    last_line: NotRequired[str | None]
    """End of the text of the task."""
    usage: NotRequired[Usage]
    """Use of models, if it is new."""


class OtherUpdate(TypedDict):
    """An update of a type that this version does not know; see :mod:`beray.event_types`."""

    type: Literal["(other)"]
    seq: NotRequired[int]
    task_id: NotRequired[int]
    created_at: NotRequired[str]


TaskUpdate = TasksUpdate | TaskStatusUpdate | TaskDeletedUpdate | TaskProgressUpdate | OtherUpdate
"""Update of the stream over all tasks. BeRay extension."""


@lenient
class Deleted(TypedDict):
    """Confirmation of a deletion."""

    status: NotRequired[Annotated[str, OR_NULL]]
    message: NotRequired[Annotated[str, OR_NULL]]


@lenient
class FileItem(TypedDict):
    """Entry of a work_dir. ``path`` is relative to the work_dir; ``size`` is in bytes.

    ``mode`` contains the permission bits as octal digits; see :mod:`beray.transfers.file_modes`.
    """

    name: str
    """Last part of the path."""
    type: Literal["file", "directory"] | str
    """Kind of entry."""
    path: NotRequired[str]
    """Path relative to the work_dir. BeRay extension."""
    mode: NotRequired[Annotated[str | int, OR_NULL]]
    """Permission bits as octal digits. BeRay extension."""
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]
    """Size in bytes. BeRay extension."""
    modified_at: NotRequired[Annotated[str, OR_NULL]]
    """Time of the last change, UTC, ISO 8601. BeRay extension."""


class FilePage(NamedTuple):
    """Page of a file listing. BeRay extension."""

    items: list[FileItem]
    after: str | None
    """Position after which the next page starts; ``None`` on the last page."""


@lenient
class UploadedFile(TypedDict):
    """Confirmation of an upload. ``size`` is in bytes."""

    message: NotRequired[Annotated[str, OR_NULL]]
    path: NotRequired[Annotated[str, OR_NULL]]
    size: NotRequired[Annotated[int, OR_STRING, OR_NULL]]


@lenient
class ApiKey(TypedDict):
    """API key, without the key itself. BeRay extension."""

    id: int
    name: str
    agent_id: str | None
    start: str
    """First characters of the key, to distinguish it from others."""
    created_at: str
    scopes: NotRequired[list[str]]
    """Operations that the key permits."""
    expires_at: NotRequired[str | None]
    """Null if the key does not expire."""
    last_used_at: NotRequired[str | None]
    """Null if the key was not used yet; it is up to a minute older than the last use."""


@lenient
class CreatedApiKey(TypedDict):
    """New API key: the only response that contains the ``key`` itself. BeRay extension."""

    id: int
    name: str
    agent_id: str | None
    key: str
    created_at: str
    scopes: NotRequired[list[str]]
    expires_at: NotRequired[str | None]


def goal_of(task: Task) -> str:
    """Return the goal of a task; "" if the server did not send it."""
    return task.get("goal") or ""


def email_of(session: Session) -> str | None:
    """Return the e-mail address of the account; None if the server did not send it."""
    return (session.get("user") or {}).get("email") or None


def size_of(item: FileItem | UploadedFile) -> int | None:
    """Return the size of a file in bytes; None if the server did not send a number."""
    try:
        return int(item["size"])
    except (KeyError, TypeError, ValueError):
        return None


def size_text(item: FileItem) -> str:
    """Return the size of a file as decimal digits; "" if it is unknown."""
    size = size_of(item)
    return "" if size is None else str(size)


def _empty_message() -> Any:
    return {"message": ""}


MESSAGE: ResponseSchema[Message] = ResponseSchema(Message, _empty_message)
USER: ResponseSchema[User] = ResponseSchema(User)
SESSION: ResponseSchema[Session] = ResponseSchema(Session)
TASK: ResponseSchema[Task] = ResponseSchema(Task)
TASKS: ResponseSchema[list[Task]] = ResponseSchema(list[Task], list)
EVENTS: ResponseSchema[list[TaskEvent]] = ResponseSchema(Annotated[list[TaskEvent], OBJECTS], list)
DELETED: ResponseSchema[Deleted] = ResponseSchema(Deleted, _empty_message)
FILE_ITEMS: ResponseSchema[list[FileItem]] = ResponseSchema(list[FileItem], list)
UPLOADED_FILE: ResponseSchema[UploadedFile] = ResponseSchema(UploadedFile, _empty_message)
API_KEYS: ResponseSchema[list[ApiKey]] = ResponseSchema(list[ApiKey], list)
CREATED_API_KEY: ResponseSchema[CreatedApiKey] = ResponseSchema(CreatedApiKey)
