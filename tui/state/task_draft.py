"""Draft of a task: its goal, attachments and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from beray.schema import MAX_GOAL_CHARS, Task, TaskOptions, goal_of

SHELL_PREFIX: Final = "!"
"""Prefix of a goal that is a shell command."""

Tool = dict[str, Any]
"""MCP server: an object with one key, ``{"name": {"url": "https://…"}}``."""


@dataclass(frozen=True)
class TaskDraft:
    """Task to be created.

    Attributes:
        goal: Goal in natural language, or a shell command.
        tools: MCP servers, or ``None``.
        attachments: Local files and directories to upload before the task starts.
        options: Runner, model and limits.
    """

    goal: str = ""
    tools: list[Tool] | None = None
    attachments: tuple[Path, ...] = ()
    options: TaskOptions = field(default_factory=TaskOptions)

    @property
    def is_empty(self) -> bool:
        """True if the draft has no goal, no MCP servers and no attachments."""
        return not (self.goal or self.tools or self.attachments)


def draft_from_task(task: Task) -> TaskDraft:
    """Return a draft that repeats ``task``, without its attachments."""
    names = TaskOptions.__annotations__
    options = {name: task[name] for name in names if task.get(name)}  # type: ignore[literal-required]
    return TaskDraft(goal_of(task), task.get("tools"), options=cast(TaskOptions, options))


def is_shell_command(goal: str) -> bool:
    """Return True if ``goal`` is a shell command."""
    return goal.lstrip().startswith(SHELL_PREFIX)


def goal_problem(goal: str) -> str | None:
    """Return the reason why the server would reject ``goal``, or ``None``."""
    if not goal.strip().removeprefix(SHELL_PREFIX).strip():
        return "The goal is empty. Describe what should be done."
    if len(goal.strip()) > MAX_GOAL_CHARS:
        return f"The goal has {len(goal.strip()):,} characters; the maximum is {MAX_GOAL_CHARS:,}."
    return None
