"""Positions in the history of a task as users write them: ``17``, ``c3``, ``12@17``, ``12@c3``."""

from __future__ import annotations

import re
from typing import Final

import typer

from beray.checkpoint_positions import checked_position
from beray.exceptions import ConfigurationError, InvalidArgument
from beray.schema import Task, TaskOrigin

_ORIGIN: Final = re.compile(r"([0-9]{1,18})(?:@(.*))?", re.ASCII | re.DOTALL)


def parse_position(text: str) -> int | str:
    """Return the position that a user has written.

    Raises:
        ConfigurationError: It is neither a number nor the name of a checkpoint.
    """
    is_seq = text.isascii() and text.isdigit() and len(text) < 20
    try:
        return checked_position("position", int(text) if is_seq else text)
    except InvalidArgument:
        raise ConfigurationError(
            "expected the seq of an event, such as 17, or the name of a checkpoint, such as c3; "
            f"got {text[:100]!r}"
        ) from None


def check_position(text: str | None) -> str | None:
    """Return ``text`` unchanged if it is a position.

    Raises:
        typer.BadParameter: It is not.
    """
    if text is not None:
        try:
            parse_position(text)
        except ConfigurationError as error:
            raise typer.BadParameter(str(error)) from None
    return text


def optional_position(text: str | None) -> int | str | None:
    """Return the position of an option; ``None`` if it was not passed."""
    return None if text is None else parse_position(text)


def parse_origin(text: str) -> TaskOrigin:
    """Return the checkpoint that ``ID`` or ``ID@POS`` names.

    Raises:
        ConfigurationError: ``text`` has another form.
    """
    match = _ORIGIN.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            "--from expects the id of a task with an optional position, such as 12, 12@17 or "
            f"12@c3; got {text[:100]!r}"
        )
    origin: TaskOrigin = {"task": int(match[1])}
    if match[2] is not None:
        try:
            position = parse_position(match[2])
        except ConfigurationError as error:
            raise ConfigurationError(f"--from {text[:100]}: {error}") from None
        if isinstance(position, int):
            origin["seq"] = position
        else:
            origin["checkpoint"] = position
    return origin


def origin_text(task: Task) -> str:
    """Return the origin of a task in the form of ``--from``; "" if it has none."""
    origin = task.get("from")
    if not origin:
        return ""
    position = origin.get("checkpoint") or origin.get("seq")
    return str(origin["task"]) if position is None else f"{origin['task']}@{position}"


def describe_origin(task: Task) -> str:
    """Return the origin of a task, and what was taken from it; "" if it has none."""
    origin = task.get("from")
    if not origin:
        return ""
    seq = f" (seq {origin['seq']})" if origin.get("checkpoint") and "seq" in origin else ""
    parts = "files and conversation" if origin.get("conversation") else "files only"
    return f"{origin_text(task)}{seq}, {parts}"
