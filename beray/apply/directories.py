"""Directories that a plan creates and removes.

A diff lists a directory only if it is empty or its mode has changed. The modes of new directories
with entries, and whether a directory without its files still exists, are therefore read from the
checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from beray.apply.local_state import LocalFiles
from beray.apply.plan import ApplyPlan, parents
from beray.apply.source import CheckpointReader
from beray.transfers.local_names import on_wire


def plan_directories(
    plan: ApplyPlan, local: LocalFiles, reader: CheckpointReader, parents_of_new: set[str]
) -> None:
    """Add the directories above new files to a plan, and keep those that the task has kept.

    Args:
        plan: Plan without conflicts.
        local: Local files.
        reader: Reads the directories of the checkpoint.
        parents_of_new: Directories above paths that exist after the change.

    Raises:
        OSError: A local directory cannot be read.
        BeRayException: The directories cannot be read from the server.
    """

    @cache
    def in_checkpoint(path: str) -> Mapping[str, int | None]:
        return reader.directories(plan.checkpoint, path, recursive=False)

    _add_new(plan, local, reader, in_checkpoint)
    _keep(plan, local, parents_of_new, in_checkpoint)


def _add_new(
    plan: ApplyPlan,
    local: LocalFiles,
    reader: CheckpointReader,
    in_checkpoint: Callable[[str], Mapping[str, int | None]],
) -> None:
    new: dict[str, set[str]] = {}
    """New directories by the first new one above them."""
    for path in [*plan.writes, *plan.links, *plan.directories]:
        missing = _missing(local, parents(path))
        if missing:
            new.setdefault(missing[0], set()).update(missing)
    for top, paths in sorted(new.items()):
        modes = dict(in_checkpoint(_parent(top)))
        if len(paths) > 1:
            modes |= reader.directories(plan.checkpoint, top, recursive=True)
        for path in sorted(paths):
            plan.directories.setdefault(path, modes.get(path))


def _missing(local: LocalFiles, directories: list[str]) -> list[str]:
    """Return the directories, from the top, that do not exist yet."""
    for number, path in enumerate(directories):
        found = local.state(path)
        if found is None or found.kind != "directory":
            return directories[number:]
    return []


def _keep(
    plan: ApplyPlan,
    local: LocalFiles,
    parents_of_new: set[str],
    in_checkpoint: Callable[[str], Mapping[str, int | None]],
) -> None:
    removed = plan.removals | plan.removed_directories
    emptied = {parent for path in removed for parent in parents(path)}
    gone = set(plan.removed_directories)
    for path in sorted(emptied - parents_of_new - gone):
        if gone.intersection(parents(path)):
            gone.add(path)
        elif _is_emptied(local, path, removed, emptied):
            if path in in_checkpoint(_parent(path)):
                plan.kept_directories.add(path)
            else:
                gone.add(path)


def _is_emptied(local: LocalFiles, path: str, removed: set[str], emptied: set[str]) -> bool:
    """Return True if a local directory has only files that are removed."""
    for folder, directories, files in os.walk(local.local(path)):
        relative = Path(folder).relative_to(local.root)
        for name in [*directories, *files]:
            entry = on_wire(relative / name)
            if entry not in removed and entry not in emptied:
                return False
    return True


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "."
