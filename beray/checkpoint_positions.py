"""Validation of positions in the history of a work_dir: ``seq`` or a name such as ``c3``."""

from __future__ import annotations

import re
from typing import Any, Final

from beray.exceptions import InvalidArgument
from beray.schema import TaskOrigin

MAX_SEQ: Final = 2**63 - 1
_CHECKPOINT: Final = re.compile(r"c[1-9][0-9]{0,17}")
_MAX_SHOWN_CHARACTERS: Final = 100


def checked_position(name: str, position: int | str) -> int | str:
    """Return a position, a ``seq`` or the name of a checkpoint, if it is valid.

    Args:
        name: Name of the argument, for the message.
        position: The position.

    Raises:
        InvalidArgument: The position is neither an integer of at least 0, nor ``c`` and a number.
    """
    if isinstance(position, str):
        is_valid = _CHECKPOINT.fullmatch(position) is not None
    else:
        is_integer = isinstance(position, int) and not isinstance(position, bool)
        is_valid = is_integer and 0 <= position <= MAX_SEQ
    if not is_valid:
        raise InvalidArgument(
            f"{name} must be the seq of an event, such as 17, or the name of a checkpoint, such as "
            f"'c3'; got {repr(position)[:_MAX_SHOWN_CHARACTERS]}"
        )
    return position


def origin_body(from_task: TaskOrigin) -> dict[str, Any]:
    """Return ``from`` of the request that creates a task.

    ``from`` of an existing task, which has both ``seq`` and ``checkpoint``, is valid as well.

    Raises:
        InvalidArgument: ``from_task`` has no ``task``, has both ``seq`` and ``checkpoint``, or has
            an invalid position.
    """
    if not isinstance(from_task, dict) or "task" not in from_task:
        raise InvalidArgument(
            "from_task must be a dictionary with the id of a task, such as "
            f"{{'task': 5, 'seq': 17}}; got {repr(from_task)[:_MAX_SHOWN_CHARACTERS]}"
        )
    body: dict[str, Any] = {"task": from_task["task"]}
    positions = {name: from_task.get(name) for name in ("seq", "checkpoint")}
    given = {name: value for name, value in positions.items() if value is not None}
    if len(given) > 1 and "conversation" in from_task:
        del given["seq"]  # from a response
    if len(given) > 1:
        raise InvalidArgument(
            "from_task must have either 'seq' or 'checkpoint', got "
            f"{given['seq']!r:.40} and {given['checkpoint']!r:.40}"
        )
    for name, position in given.items():
        expected = int if name == "seq" else str
        if not isinstance(position, expected):
            raise InvalidArgument(
                f"from_task[{name!r}] must be {'an integer' if name == 'seq' else 'a string'}, got "
                f"{repr(position)[:_MAX_SHOWN_CHARACTERS]}"
            )
        body[name] = checked_position(f"from_task[{name!r}]", position)
    return body
