"""What is asked for: a goal, and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from beray.schema import Task, TaskOptions, goal_of

MOST_CHARACTERS: Final = 200_000
"""How long a goal may be, for the server as well."""
SHELL: Final = "!"
"""What a goal that is a shell command begins with."""

Tool = dict[str, Any]
"""An MCP server: an object with one key, ``{"name": {"url": "https://…"}}``."""


@dataclass(frozen=True)
class Order:
    """A task to be created.

    Attributes:
        goal: what to do.
        tools: MCP servers, or ``None`` for none.
        attachments: local files and folders that go into the work_dir before it starts.
        asked: who does it, and within which limits.
    """

    goal: str = ""
    tools: list[Tool] | None = None
    attachments: tuple[Path, ...] = ()
    asked: TaskOptions = field(default_factory=TaskOptions)

    @property
    def is_empty(self) -> bool:
        return not (self.goal or self.tools or self.attachments)


def again(task: Task) -> Order:
    """What asks for the same once more."""
    names = TaskOptions.__annotations__
    asked = {name: task[name] for name in names if task.get(name)}  # type: ignore[literal-required]
    return Order(goal_of(task), task.get("tools"), asked=cast(TaskOptions, asked))


def is_command(goal: str) -> bool:
    """Whether ``goal`` is a command for the shell."""
    return goal.lstrip().startswith(SHELL)


def problem(goal: str) -> str | None:
    """Why the server would refuse ``goal``; ``None`` where it would not."""
    if not goal.strip().removeprefix(SHELL).strip():
        return "What is there to do?"
    if len(goal.strip()) > MOST_CHARACTERS:
        return f"{len(goal.strip()):,} characters: a goal has at most {MOST_CHARACTERS:,}."
    return None
