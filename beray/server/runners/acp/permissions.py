"""Decisions about an agent's requests for permission to use a tool.

The operator's policy (``BERAY_ACP_PERMISSIONS``) decides:

- ``allow``: Every request is allowed.
- ``deny``: Every request is denied.
- ``work_dir``: A request is allowed if it cannot refer to anything outside of the work_dir:

  - reading, editing, deleting and moving, if the request names at least one path and all paths
    are inside;
  - searching, if all named paths are inside;
  - thinking, and changing the agent's mode;
  - executing, if the agent runs in bubblewrap;
  - fetching, if agents may use the network.

  Every other request is denied. Permissions are given for one call at a time, never "always".

The decisions state what an agent should do. The sandbox enforces what it can do.
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

from beray.server.runners.acp.tool_calls import AgentToolCall
from beray.server.runners.task_paths import TaskPaths
from beray.transfers import wire_names

Policy = Literal["allow", "work_dir", "deny"]

_NEEDS_PATH: Final = ("read", "edit", "delete", "move")
_PATH_WORDS: Final = ("path", "file", "filename", "dir", "directory", "folder", "cwd", "root")
"""Endings of the names of parameters that contain a path."""
_MAX_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decision about one request, with the reason for the log."""

    allowed: bool
    reason: str


class Permissions:
    """Policy of the server, applied to one task.

    Args:
        policy: ``BERAY_ACP_PERMISSIONS``.
        work_dir: The task's work_dir.
        paths: Converter for the agent's paths.
        sandboxed: Whether the agent runs in bubblewrap.
        network: Whether agents may use the network.
    """

    def __init__(
        self, *, policy: Policy, work_dir: Path, paths: TaskPaths, sandboxed: bool, network: bool
    ) -> None:
        self._policy = policy
        self._work_dir = work_dir
        self._paths = paths
        self._sandboxed = sandboxed
        self._network = network

    def decide(self, call: AgentToolCall) -> Verdict:
        """Decide on one tool call."""
        match self._policy, call.kind:
            case ("allow", _):
                return Verdict(True, "this server allows every request")
            case ("deny", _):
                return Verdict(False, "this server denies every request")
            case (_, "execute"):
                if self._sandboxed:
                    return Verdict(True, "the agent runs in a sandbox")
                return Verdict(False, "the agent does not run in a sandbox")
            case (_, "fetch"):
                if self._network:
                    return Verdict(True, "agents may use the network")
                return Verdict(False, "agents may not use the network")
            case (_, "think" | "switch_mode"):
                return Verdict(True, "it changes no files")
            case (_, "search" | "read" | "edit" | "delete" | "move"):
                return self._decide_by_paths(call)
        return Verdict(False, "the kind of the tool is unknown")

    def _decide_by_paths(self, call: AgentToolCall) -> Verdict:
        paths = set(_named_paths(call))
        if not paths and call.kind in _NEEDS_PATH:
            return Verdict(False, "the request names no path")
        if all(self._is_inside(path) for path in paths):
            return Verdict(True, "it is inside the work_dir")
        return Verdict(False, "it is outside the work_dir")

    def _is_inside(self, path: str) -> bool:
        relative = (
            self._paths.of_uri(path) if path.startswith("file:") else self._paths.relative(path)
        )
        if relative is None:
            return False
        # A symbolic link in the work_dir may point out of it. Agents that open files themselves
        # do not decode the wire encoding, so both forms of the name are checked.
        root = os.path.realpath(self._work_dir)
        names = (relative, os.fsdecode(wire_names.decode(relative)))
        real = [os.path.realpath(f"{root}/{name}") for name in names]
        return all(path == root or path.startswith(root + os.sep) for path in real)


def permission_response(
    policy: Policy, allowed: bool, options: Sequence[PermissionOption]
) -> RequestPermissionResponse:
    """Return the agent's option that matches the decision; without one, cancel the request."""
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


def _named_paths(call: AgentToolCall) -> Iterator[str]:
    """Return every path that a call names: locations, diffs, and parameters named like paths."""
    yield from call.locations
    yield from call.edited_paths
    yield from _paths_in_input(call.raw_input, _MAX_DEPTH)


def _paths_in_input(value: Any, depth: int, name: str = "") -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(value, str):
        if value and name.lower().rstrip("s").endswith(_PATH_WORDS):
            yield value
    elif isinstance(value, list):
        for item in value:
            yield from _paths_in_input(item, depth - 1, name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _paths_in_input(item, depth - 1, key)
