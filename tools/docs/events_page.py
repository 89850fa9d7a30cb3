"""Reference of the events, from their TypedDicts, with recorded examples."""

from __future__ import annotations

import json
import re
from typing import Any, Final, get_args

from beray import event_types, schema
from beray.events import MsgGracefulDisconnect, MsgStatus
from tools.docs.markdown import (
    EXTENSION,
    code,
    field_docstrings,
    from_docstring,
    in_one_line,
    table,
)
from tools.docs.record_events import EXAMPLES

_ENVELOPE: Final = event_types.EventEnvelope
_OTHER: Final = (event_types.OtherEvent, schema.OtherUpdate)


def generate() -> str:
    """Return a section for each type of event, and one for the types of the other streams."""
    examples = json.loads(EXAMPLES.read_text("utf-8"))
    parts = ["## Events of a task\n", "Every event of a task has these fields:\n"]
    parts.append(_field_table(_ENVELOPE, set()))
    common = set(_ENVELOPE.__annotations__)
    parts += [_section(event, examples["task"], common) for event in _types(event_types.TaskEvent)]
    parts += [
        "## Updates of all tasks\n",
        "`GET /api/v1/tasks/stream` (BeRay extension) sends these updates; see "
        "[All tasks of a user](wire.md#all-tasks-of-a-user).\n",
    ]
    updates = _types(schema.TaskUpdate)
    parts += [_section(update, examples["all tasks"], set(), "Update ") for update in updates]
    parts += [
        "## Messages of the agent WebSocket\n",
        "The [agent WebSocket](wire.md#chats-the-agent-websocket) sends the events of an answer "
        "(`AGENT_EVENT_…`, `ERROR`) without `seq`, `task_id` and `created_at`, and these "
        "messages:\n",
    ]
    connection = examples["agent WebSocket"]
    parts += [
        _section(message, connection, set()) for message in (MsgStatus, MsgGracefulDisconnect)
    ]
    return "\n".join(parts)


def _types(union: Any) -> list[Any]:
    return [member for member in get_args(union) if member not in _OTHER]


def type_name(event: Any) -> str:
    """Return the ``type`` of the events that a TypedDict or model describes."""
    fields = getattr(event, "model_fields", None)
    if fields is not None:
        return str(fields["type"].default)
    return str(re.search(r"Literal\['(\w+)'\]", _annotation(event, "type"))[1])  # type: ignore[index]


def _section(event: Any, examples: dict[str, Any], hidden: set[str], prefix: str = "") -> str:
    name = type_name(event)
    description = from_docstring(event.__doc__ or "")
    example = json.dumps(_shortened(examples[name]), indent=2, ensure_ascii=False)
    source = f"`{event.__module__}.{event.__name__}`"
    return "\n".join(
        [
            f"### {prefix}{name}\n",
            f"{description} Type: {source}.\n",
            _field_table(event, hidden),
            f"```json\n{example}\n```\n",
        ]
    )


def _shortened(example: dict[str, Any]) -> dict[str, Any]:
    """Return an example without the fields of its task that are null."""

    def shorten(value: Any) -> Any:
        if isinstance(value, list):
            return [shorten(item) for item in value]
        if isinstance(value, dict):
            return {key: shorten(item) for key, item in value.items() if item not in (None, [])}
        return value

    return {
        key: shorten(value) if key in ("task", "tasks") else value for key, value in example.items()
    }


def _field_table(event: Any, hidden: set[str]) -> str:
    meanings = field_docstrings(event)
    rows = []
    for name in event.__annotations__:
        if name == "type" or name in hidden:
            continue
        annotation = _annotation(event, name)
        meaning = meanings[name]
        presence = "optional" if "NotRequired" in annotation else "always"
        if EXTENSION in meaning:
            presence = f"{presence}, BeRay extension"
        text = in_one_line(meaning.replace(EXTENSION, ""))
        rows.append((code(name), _type_text(annotation), presence, text))
    return table(["field", "type", "presence", "meaning"], rows)


def _annotation(event: Any, name: str) -> str:
    annotation = event.__annotations__[name]
    return str(getattr(annotation, "__forward_arg__", annotation))


def _type_text(annotation: str) -> str:
    """Return the JSON type of an annotation."""
    text = re.sub(r"(?:typing\.|typing_extensions\.|NotRequired\[)", "", annotation)
    text = text.removesuffix("]") if "NotRequired[" in annotation else text
    for pattern, name in _JSON_TYPES:
        text = re.sub(pattern, name, text)
    return text


_JSON_TYPES: Final = (
    (r" \| None$", " or null"),
    (r"^TaskStatus \| str", "string"),
    (r"^str\b", "string"),
    (r"^int\b", "integer"),
    (r"^Any$", "any JSON"),
    (r"^dict\[str, Any\]", "object"),
    (r"^list\[int\]", "list of integers"),
    (r"^list\[str\]", "list of strings"),
    (r"^list\[Task\]", "list of tasks"),
    (r"^Task$", "task"),
    (r"^Usage$", "object"),
)
