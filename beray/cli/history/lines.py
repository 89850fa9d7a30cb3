"""Lines about checkpoints, restores and applied changes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from beray.apply.plan import AppliedChange, ApplyPlan, Conflict
from beray.cli.history import diff_view
from beray.cli.history.diff_view import Line, path_text
from beray.cli.history.step_text import StepTexts
from beray.cli.history.whole_diff import whole_diff
from beray.cli.times import age
from beray.client import BeRayClient
from beray.history_schema import Checkpoint, RestoredFile

_CHANGE_COLUMNS: Final = len("modified")
_MIN_STEP_COLUMNS: Final = 10


def log_cells(checkpoint: Checkpoint, steps: StepTexts) -> list[str]:
    """Return the cells of a checkpoint for a program."""
    lines = [checkpoint.get("lines_added"), checkpoint.get("lines_deleted")]
    return [
        checkpoint["checkpoint"],
        str(checkpoint["seq"]),
        checkpoint.get("created_at") or "",
        checkpoint.get("reason", ""),
        str(_changed_files(checkpoint)),
        *("" if count is None else str(count) for count in lines),
        _step(checkpoint, steps),
    ]


def log_table(checkpoints: Sequence[Checkpoint], steps: StepTexts) -> Iterator[Line]:
    """Yield a table of checkpoints for a terminal. The last column is cut at its width."""
    from rich.cells import cell_len, set_cell_size

    now = datetime.now(UTC)
    rows = [["", "SEQ", "AGE", "REASON", "FILES", "+", "-"]]
    for checkpoint in checkpoints:
        changed = _changed_files(checkpoint)
        rows.append(
            [
                checkpoint["checkpoint"],
                str(checkpoint["seq"]),
                age(checkpoint.get("created_at"), now),
                path_text(checkpoint.get("reason", "")),
                str(changed) if changed else "",
                _signed("+", checkpoint.get("lines_added")),
                _signed("-", checkpoint.get("lines_deleted")),
            ]
        )
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    left = shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths)
    texts = ["STEP", *(_step(checkpoint, steps) for checkpoint in checkpoints)]
    styles = ["yellow", "", "", "", "", "green", "red"]
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        line: Line = []
        for column, (value, width, style) in enumerate(zip(row, widths, styles, strict=True)):
            padded = value.rjust(width) if column in (1, 4, 5, 6) else set_cell_size(value, width)
            line += [(padded, style if number else ""), ("  ", "")]
        shown, room = path_text(text), max(left, _MIN_STEP_COLUMNS)
        if cell_len(shown) > room:
            shown = set_cell_size(shown, room - 1) + "\u2026"
        yield [*line, (shown, "")]


def log_with_files(
    client: BeRayClient, task_id: int, checkpoints: Sequence[Checkpoint], steps: StepTexts
) -> Iterator[Line]:
    """Yield the checkpoints with the files that each step changed."""
    previous: str | None = None
    for checkpoint in checkpoints:
        name = checkpoint["checkpoint"]
        details = [
            f"seq {checkpoint['seq']}",
            checkpoint.get("created_at") or "",
            checkpoint.get("reason", ""),
            _step(checkpoint, steps),
        ]
        text = "".join(f"  {path_text(detail)}" for detail in details if detail)
        yield [(name, "yellow"), (text, "")]
        if previous is not None and _changed_files(checkpoint):
            found = whole_diff(client, task_id, from_=previous, to=name)
            yield from diff_view.stat(found["files"])
        yield []
        previous = name


def _step(checkpoint: Checkpoint, steps: StepTexts) -> str:
    count = checkpoint.get("not_stored")
    not_stored = f"({count} file{'s' * (count != 1)} not stored) " if count else ""
    return f"{not_stored}{steps.text(checkpoint)}"


def _changed_files(checkpoint: Checkpoint) -> int:
    counts = (checkpoint.get(name, 0) for name in ("added", "modified", "deleted"))
    return sum(count for count in counts if isinstance(count, int))


def _signed(sign: str, count: int | None) -> str:
    return f"{sign}{count}" if count else ""


def restored_line(file: RestoredFile) -> str:
    """Return a line about a path that is restored."""
    old, new = file.get("old"), file.get("new")
    states = [state for state in (old, new) if state is not None]
    notes: list[str] = []
    if sizes := [str(state["size"]) for state in states if "size" in state]:
        notes.append(f"{' -> '.join(dict.fromkeys(sizes))} bytes")
    modes = [state["mode"] for state in states if "mode" in state]
    if len(set(modes)) > 1:
        notes.append(f"mode {' -> '.join(modes)}")
    path = path_text(file["path"])
    if any(state["type"] == "directory" for state in states):
        path += "/"
    return _change_line(file["change"], path) + (f"  ({', '.join(notes)})" if notes else "")


def applied_line(change: AppliedChange) -> str:
    """Return a line about an applied change."""
    path = path_text(change.path)
    if change.old_path is not None:
        path = f"{path_text(change.old_path)} -> {path}"
    if change.is_merged:
        path += "  (merged with the changes here)"
    elif change.is_overwritten:
        path += "  (the changes here are lost)"
    return _change_line(change.change, path)


def _change_line(change: str, text: str) -> str:
    return f"{path_text(change):<{_CHANGE_COLUMNS}}  {text}"


def conflict_text(conflict: Conflict) -> str:
    """Return a line about a conflict, with the next step."""
    force = "--force replaces it, " if conflict.is_overwritable else ""
    return f"conflict: {conflict.path!r} {conflict.reason}; {force}--exclude leaves it out"


def apply_json(plan: ApplyPlan, *, is_applied: bool) -> dict[str, Any]:
    """Return the result of ``beray apply`` for a program."""
    changes = []
    for change in plan.changes:
        fields: dict[str, Any] = {"path": change.path, "change": change.change}
        if change.old_path is not None:
            fields["old_path"] = change.old_path
        if change.is_merged:
            fields["merged"] = True
        if change.is_overwritten:
            fields["overwritten"] = True
        changes.append(fields)
    return {
        "applied": is_applied,
        "changes": changes,
        "unchanged": plan.unchanged,
        "kept": plan.kept,
        "conflicts": [
            {"path": conflict.path, "reason": conflict.reason} for conflict in plan.conflicts
        ],
    }
