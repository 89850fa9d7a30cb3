"""Draft of a task: its goal, attachments and options."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from beray.schema import MAX_GOAL_CHARS, Task, TaskOptions, TaskOrigin, goal_of

SHELL_PREFIX: Final = "!"
"""Prefix of a goal that is a shell command."""

Tool = dict[str, Any]
"""MCP server: an object with one key, ``{"name": {"url": "https://…"}}``."""


class DraftOrigin(NamedTuple):
    """Checkpoint of another task from which a task continues.

    Attributes:
        task: Id of the other task.
        checkpoint: Name of the checkpoint.
    """

    task: int
    checkpoint: str


@dataclass(frozen=True)
class TaskDraft:
    """Task to be created.

    Attributes:
        goal: Goal in natural language, or a shell command.
        tools: MCP servers, or ``None``.
        attachments: Local files and directories to upload before the task starts.
        options: Runner, model and limits.
        origin: Checkpoint of another task whose files and conversation the task continues.
    """

    goal: str = ""
    tools: list[Tool] | None = None
    attachments: tuple[Path, ...] = ()
    options: TaskOptions = field(default_factory=TaskOptions)
    origin: DraftOrigin | None = None

    @property
    def is_empty(self) -> bool:
        """True if the draft has no goal, no MCP servers, no attachments and no origin."""
        return not (self.goal or self.tools or self.attachments or self.origin)

    @property
    def all_options(self) -> TaskOptions:
        """Options of the task, including its origin."""
        if self.origin is None:
            return self.options
        origin = TaskOrigin(task=self.origin.task, checkpoint=self.origin.checkpoint)
        return {**self.options, "from_task": origin}


def draft_from_task(task: Task) -> TaskDraft:
    """Return a draft that repeats ``task``, without its attachments."""
    names = TaskOptions.__annotations__
    options = {name: task[name] for name in names if task.get(name)}  # type: ignore[literal-required]
    return TaskDraft(
        goal_of(task),
        task.get("tools"),
        options=cast(TaskOptions, options),
        origin=origin_of(task),
    )


def origin_of(task: Task) -> DraftOrigin | None:
    """Return the checkpoint from which ``task`` continues another one."""
    origin = task.get("from")
    checkpoint = origin.get("checkpoint") if origin else None
    return DraftOrigin(origin["task"], checkpoint) if origin and checkpoint else None


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
