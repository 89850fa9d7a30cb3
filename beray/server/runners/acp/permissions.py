"""What is answered when an agent asks whether it may use a tool.

The owner's policy decides (``BERAY_ACP_PERMISSIONS``):

- ``allow``: yes.
- ``deny``: no.
- ``work_dir``: yes where nothing outside the work_dir can be meant. Reading, editing,
  deleting and moving, where the request names at least one path and all of them are
  inside; searching, which may name none; thinking, and a change of the agent's own mode;
  executing, where bubblewrap holds the agent; fetching, where agents may have the network.
  No to anything else. It is asked again for each call: "always" is never the answer.

This says what an agent should do. What it can do, the sandbox says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from acp.schema import (
    AllowedOutcome,
    DeniedOutcome,
    PermissionOption,
    RequestPermissionResponse,
)

from beray.server.runners.acp.tool_calls import Call
from beray.server.runners.task_paths import TaskPaths
from beray.transfers import wire_names

Policy = Literal["allow", "work_dir", "deny"]

_NEEDS_PATH: Final = ("read", "edit", "delete", "move")
_PATH_WORDS: Final = ("path", "file", "filename", "dir", "directory", "folder", "cwd", "root")
"""What the names of parameters end in that hold a path."""
_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    allowed: bool
    reason: str


class Permissions:
    """The policy of one server, for one task."""

    def __init__(
        self, policy: Policy, work_dir: Path, paths: TaskPaths, *, sandboxed: bool, network: bool
    ) -> None:
        self._policy = policy
        self._work_dir = work_dir
        self._paths = paths
        self._sandboxed = sandboxed
        self._network = network

    def judge(self, call: Call) -> Verdict:
        """Decide on one call."""
        match self._policy, call.kind:
            case ("allow", _):
                return Verdict(True, "this server allows all")
            case ("deny", _):
                return Verdict(False, "this server allows nothing that is asked for")
            case (_, "execute"):
                if self._sandboxed:
                    return Verdict(True, "the sandbox holds it")
                return Verdict(False, "there is no sandbox to hold it")
            case (_, "fetch"):
                if self._network:
                    return Verdict(True, "agents may use the network")
                return Verdict(False, "agents may not use the network")
            case (_, "think" | "switch_mode"):
                return Verdict(True, "it touches nothing")
            case (_, "search" | "read" | "edit" | "delete" | "move"):
                return self._inside(call)
        return Verdict(False, "it is not known what it touches")

    def _inside(self, call: Call) -> Verdict:
        named = set(_paths_of(call))
        if not named and call.kind in _NEEDS_PATH:
            return Verdict(False, "it does not say where")
        if all(self._is_inside(path) for path in named):
            return Verdict(True, "it is inside the work_dir")
        return Verdict(False, "it is outside the work_dir")

    def _is_inside(self, path: str) -> bool:
        relative = (
            self._paths.of_uri(path) if path.startswith("file:") else self._paths.relative(path)
        )
        if relative is None:
            return False
        # A link in the work_dir may lead out of it. Agents that open files themselves do not know
        # the form of the wire.
        root = os.path.realpath(self._work_dir)
        names = (relative, os.fsdecode(wire_names.decode(relative)))
        real = [os.path.realpath(os.path.join(root, name)) for name in names]
        return all(path == root or path.startswith(root + os.sep) for path in real)


def answer(
    policy: Policy, allowed: bool, options: Sequence[PermissionOption]
) -> RequestPermissionResponse:
    """Choose among the agent's options; where none fits, the request is cancelled."""
    if not allowed:
        kinds = ["reject_once", "reject_always"]
    else:
        kinds = ["allow_once", "allow_always"] if policy == "allow" else ["allow_once"]
    for kind in kinds:
        for option in options:
            if option.kind == kind:
                chosen = AllowedOutcome(outcome="selected", option_id=option.option_id)
                return RequestPermissionResponse(outcome=chosen)
    return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))


def _paths_of(call: Call) -> Iterator[str]:
    """Every path that a call names: places, diffs, and parameters that are called one."""
    yield from call.places
    yield from call.edited
    yield from _in_input(call.raw_input, _DEPTH)


def _in_input(value: Any, depth: int, name: str = "") -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(value, str):
        if value and name.lower().rstrip("s").endswith(_PATH_WORDS):
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _in_input(item, depth - 1, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _in_input(item, depth - 1, key)
