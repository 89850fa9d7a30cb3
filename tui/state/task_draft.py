"""Draft of a task: goal, tools, attachments and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from beray.schema import Task, TaskOptions, goal_of

MAX_GOAL_LENGTH: Final = 200_000
"""Maximum length of a goal, as on the server."""
SHELL: Final = "!"
"""Prefix of goals that are shell commands."""

Tool = dict[str, Any]
"""An MCP server: an object with one key, ``{"name": {"url": "https://…"}}``."""


@dataclass(frozen=True)
class TaskDraft:
    """Task to be created.

    Attributes:
        goal: Goal in natural language, or a shell command that starts with ``!``.
        tools: MCP servers, or None.
        attachments: Local files and directories that are copied to the work_dir first.
        asked: Runner, model, limits and other options.
    """

    goal: str = ""
    tools: list[Tool] | None = None
    attachments: tuple[Path, ...] = ()
    options: TaskOptions = field(default_factory=TaskOptions)

    @property
    def is_empty(self) -> bool:
        """True if nothing has been entered."""
        return not (self.goal or self.tools or self.attachments)


def draft_from_task(task: Task) -> TaskDraft:
    """Return a draft that repeats ``task``."""
    names = TaskOptions.__annotations__
    options = {name: task[name] for name in names if task.get(name)}  # type: ignore[literal-required]
    return TaskDraft(goal_of(task), task.get("tools"), options=cast(TaskOptions, options))


def is_command(goal: str) -> bool:
    """Return True if ``goal`` is a shell command."""
    return goal.lstrip().startswith(SHELL)


def problem(goal: str) -> str | None:
    """Return why the server would reject ``goal``, or None if it would accept it."""
    if not goal.strip().removeprefix(SHELL).strip():
        return "The goal is empty."
    if len(goal.strip()) > MAX_GOAL_LENGTH:
        return f"The goal has {len(goal.strip()):,} characters; the limit is {MAX_GOAL_LENGTH:,}."
    return None
