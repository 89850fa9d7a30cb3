"""Tests of the screen with the changes of a task, with fixed answers instead of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from beray.exceptions import ConflictError, ConnectionFailed, NotFoundError
from beray.history_schema import FileDiff
from tests.tui import dashboard_stub as stub
from tests.tui.dashboard_pilot import screen, strips, until, until_shown
from tests.tui.diff_parts import hunk_of
from tests.tui.hostile_text import HOSTILE, assert_clean
from tui.diff import file_facts, view
from tui.diff.file_list import path_parts
from tui.diff.screen import DiffScreen

CHECKPOINTS = [{"checkpoint": f"c{number}", "seq": 4 * number} for number in range(1, 5)]
OLD = [f"line {number}" for number in range(1, 60)]
NEW = [*OLD[:4], "line five", *OLD[5:40], "line 41 of all", *OLD[41:]]


def text_file(path: str, old: list[str], new: list[str], **fields: Any) -> Any:
    change = "modified" if old and new else "added" if new else "deleted"
    counts = {"lines_added": len(new), "lines_deleted": len(old)}
    hunks = [hunk_of(old, new)] if old or new else []
    return {"path": path, "change": change, "hunks": hunks, **counts, **fields}


FILES = [
    text_file("src/app.py", OLD, NEW, lines_added=2, lines_deleted=2),
    text_file("README.md", ["one word here"], ["two words here"]),
    text_file("new.txt", [], ["new"]),
]


class HistoryClient(stub.StubClient):
    """Client that records the requested changes and restores."""

    def __init__(self, files: list[Any] = FILES) -> None:
        super().__init__()
        self.tasks = [stub.task(12, "write the [b]report[/]", "COMPLETED", last_seq=16)]
        self.checkpoints = CHECKPOINTS
        self.changed = files
        self.requested: list[tuple[Any, Any]] = []
        self.restores: list[tuple[Any, ...]] = []
        self.more: dict[str, Any] = {}

    def diff(self, task_id: int, *, from_: Any = None, to: Any = None) -> Any:
        self.requested.append((from_, to))
        position = {"from": from_ or "c1", "to": to or "c4"}
        seqs = {one["checkpoint"]: one["seq"] for one in CHECKPOINTS}
        ends = {side: {"checkpoint": name, "seq": seqs[name]} for side, name in position.items()}
        counts = {"lines_added": 12, "lines_deleted": 3}
        return {**ends, "files": stub.answered(self.changed), **counts, **self.more}

    def restore(self, task_id: int, to: Any, *, paths: Any = (), dry_run: bool = False) -> Any:
        self.restores.append((to, list(paths), dry_run))
        stub.answered(self.restored)
        files = [{"path": "src/app.py", "change": "modified"}]
        result = {"dry_run": dry_run, "to": {"checkpoint": to, "seq": 1}, "files": files}
        before = {"checkpoint": "c4", "seq": 16}
        return result if dry_run else {**result, "before": before, "checkpoint": "c5"}


@asynccontextmanager
async def changes(
    client: HistoryClient, folder: Path, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Pilot[None]]:
    app = stub.stub_app(client, folder)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until_shown(pilot, "● online", "report")
        await pilot.press("v")
        await until(pilot, lambda: isinstance(app.screen, DiffScreen))
        await until(pilot, lambda: not shown(pilot).controller.is_reading)
        yield pilot


def shown(pilot: Pilot[None]) -> DiffScreen:
    found = pilot.app.screen_stack[2]
    assert isinstance(found, DiffScreen)
    return found


def row(pilot: Pilot[None], *texts: str) -> str:
    """Return the row of the screen that contains all of ``texts``; "" if it is missing."""
    rows = screen(pilot).split("\n")
    return next((one for one in rows if all(text in one for text in texts)), "")


async def test_lines_are_side_by_side_from_140_columns(tmp_path: Path) -> None:
    async with changes(HistoryClient(), tmp_path, (139, 40)) as pilot:
        await until_shown(pilot, "#12 write the [b]report[/]", "c1 → c4 · 3 files · +12 −3")
        await until_shown(
            pilot, "M src/app.py", "+2 −2", "change 1 of 2", "- line 5", "+ line five"
        )
        assert not row(pilot, "- line 5", "+ line five")
        await pilot.resize_terminal(140, 40)
        await until(pilot, lambda: row(pilot, "- line 5", "+ line five"))
        await pilot.press("u")
        await until(pilot, lambda: not row(pilot, "- line 5", "+ line five"))
        await pilot.resize_terminal(160, 40)  # the choice of the user is kept
        await until_shown(pilot, "+ line five")
        assert not row(pilot, "- line 5", "+ line five")


async def test_lines_of_an_added_file_are_not_beside_an_empty_side(tmp_path: Path) -> None:
    empty = {"path": "empty", "change": "added", "new": {"type": "directory"}}
    async with changes(HistoryClient([empty, *FILES[2:]]), tmp_path, (160, 40)) as pilot:
        await until_shown(pilot, "A empty/", "An empty directory.")
        await pilot.press("]")
        await until(pilot, lambda: row(pilot, "│      1 + new"))
        assert shown(pilot).lines.has_focus  # the arrow keys scroll


async def test_a_change_of_the_arrangement_keeps_the_position(tmp_path: Path) -> None:
    async with changes(HistoryClient(), tmp_path, (160, 14)) as pilot:
        await until_shown(pilot, "line five")
        await pilot.press("]")
        await until_shown(pilot, "line 41 of all", "change 2 of 2")
        top = shown(pilot).lines.row_texts[int(shown(pilot).lines.scroll_y)]
        await pilot.press("u")
        await until_shown(pilot, "- line 41", "change 2 of 2")
        assert top.split()[0] in screen(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (160, 45)])
async def test_keys_go_through_all_changes_and_files(tmp_path: Path, size: tuple[int, int]) -> None:
    async with changes(HistoryClient(), tmp_path, size) as pilot:
        for key, path, change in (
            ("]", "src/app.py", "change 2 of 2"),
            ("]", "README.md", "change 1 of 1"),
            ("n", "new.txt", "change 1 of 1"),
            ("N", "README.md", "change 1 of 1"),
            ("[", "src/app.py", "change 2 of 2"),
            ("}", "README.md", "change 1 of 1"),
            ("}", "new.txt", "change 1 of 1"),
        ):
            await pilot.press(key)
            await until(pilot, lambda path=path: row(pilot, "╭─", path))  # type: ignore[misc]
            await until_shown(pilot, change)
        await pilot.press("]")
        await until_shown(pilot, "This is the last change.")
        await pilot.press("}")
        await until_shown(pilot, "This is the last file.")
        await pilot.press("tab", "home")
        await until(pilot, lambda: shown(pilot).files.has_focus)
        await pilot.press("up", "down", "enter")
        await until(pilot, lambda: shown(pilot).lines.has_focus)
        assert row(pilot, "╭─", "README.md")
        await pilot.press("l")
        await until(pilot, lambda: "Changes · 3 files" not in screen(pilot))
        await pilot.press("v")
        await until_shown(pilot, "● online")


async def test_changed_words_have_another_background(tmp_path: Path) -> None:
    async with changes(HistoryClient(FILES[1:]), tmp_path) as pilot:
        await until_shown(pilot, "- one word here", "+ two words here")
        colours: dict[str, Any] = {
            segment.text.strip(): segment.style.bgcolor
            for strip in strips(pilot)
            for segment in strip
            if segment.style is not None
        }
        assert len({colours[word] for word in ("one word", "two words", "-", "+")}) == 4


async def test_steps_are_gone_through(tmp_path: Path) -> None:
    client = HistoryClient()
    async with changes(client, tmp_path) as pilot:
        await pilot.press("greater_than_sign")
        await until_shown(pilot, "one step · c1 → c2")
        await pilot.press("greater_than_sign")
        await until_shown(pilot, "one step · c2 → c3")
        await pilot.press("less_than_sign")
        await until_shown(pilot, "one step · c1 → c2")
        await pilot.press("less_than_sign")
        await until_shown(pilot, "There is no earlier step.")
        await pilot.press("V")
        await until_shown(pilot, "all changes · c1 → c4")
        await pilot.press("less_than_sign")
        await until_shown(pilot, "one step · c3 → c4")
        steps = [("c1", "c2"), ("c2", "c3"), ("c1", "c2"), (None, None), ("c3", "c4")]
        assert client.requested == [(None, None), *steps]


@pytest.mark.parametrize(
    ("files", "checkpoints", "text"),
    [
        ([], CHECKPOINTS, "No files changed between c1 and c4."),
        ([], [], "The task has no checkpoints yet."),
        (ConnectionFailed("the line is cut"), CHECKPOINTS, "the line is cut"),
        (
            [],
            NotFoundError("no", status_code=404, error_detail="Not Found"),
            "This server keeps no history",
        ),
        (
            [],
            ConflictError("no", status_code=409, error_detail="History is turned off."),
            "History is turned off.",
        ),
    ],
)
async def test_missing_changes_are_explained(
    tmp_path: Path, files: Any, checkpoints: Any, text: str
) -> None:
    client = HistoryClient(files)
    client.checkpoints = checkpoints
    async with changes(client, tmp_path) as pilot:
        await until_shown(pilot, text)
        client.changed, client.checkpoints = FILES, CHECKPOINTS
        await pilot.press("f5")
        await until_shown(pilot, "line five")


STATE = {"type": "file", "mode": "644", "size": 12_000, "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"binary": True, "old": STATE, "new": {**STATE, "size": 9}}, ["A binary file.", "9 B"]),
        ({"omitted": "larger than 4 MiB", "new": STATE}, ["larger than 4 MiB", "SHA-256 abababab"]),
        ({"old": STATE, "new": {**STATE, "mode": "755"}}, ["Only the mode", "mode 644 → 755"]),
        ({"change": "added", "new": {"type": "link", "target": "../x"}}, ["after   → ../x"]),
        (
            {"hunks": [hunk_of(["a"], ["b"])], "new": {"type": "link", "target": "../y"}},
            ["modified · link", "after   → ../y"],
        ),
        ({"change": "added", "new": {"type": "directory"}}, ["An empty directory."]),
        ({"change": "added", "new": {"type": "file"}}, ["An empty file."]),
        ({"change": "renamed", "old_path": "b", "similarity": 100}, ["b → a", "without other"]),
        ({"omitted": "not stored", "new": {"type": "file"}}, ["not stored", "content not stored"]),
        ({"change": "something"}, ["? a"]),
    ],
)
async def test_files_without_changed_lines_are_described(
    tmp_path: Path, fields: dict[str, Any], texts: list[str]
) -> None:
    file = {"path": "a", "change": "modified", **fields}
    async with changes(HistoryClient([file]), tmp_path) as pilot:
        await until_shown(pilot, *texts)


async def test_hostile_changes_are_shown_and_control_nothing(tmp_path: Path) -> None:
    hostile: Any = text_file(HOSTILE, [HOSTILE, "a\r"], [HOSTILE + "x", "a"])
    hostile |= {"change": HOSTILE, "old_path": HOSTILE, "omitted": None}
    named = {"path": HOSTILE, "change": "added", "omitted": HOSTILE, "new": {"type": HOSTILE}}
    client = HistoryClient([hostile, named])
    client.more = {"truncated": True}
    for size in ((80, 24), (160, 45)):
        async with changes(client, tmp_path, size) as pilot:
            await until_shown(pilot, "… more files changed", "␍")
            assert_clean(screen(pilot))
            await pilot.press("}")
            await until_shown(pilot, "The lines are not shown")
            assert_clean(screen(pilot))
            await pilot.press("r")
            await until_shown(pilot, "Restore files?")
            assert_clean(screen(pilot))


async def test_a_long_file_is_laid_out_in_a_thread(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(view, "_MAX_LINES_AT_ONCE", 10)
    async with changes(HistoryClient(), tmp_path) as pilot:
        await until_shown(pilot, "+ line five", "change 1 of 2")
        await pilot.press("]")
        await until_shown(pilot, "change 2 of 2")
        await pilot.resize_terminal(150, 40)
        await until(pilot, lambda: row(pilot, "- line 41", "+ line 41 of all"))


# Restoring


async def test_a_file_is_restored_after_a_dry_run(tmp_path: Path) -> None:
    client = HistoryClient()
    async with changes(client, tmp_path) as pilot:
        await pilot.press("r")
        await until_shown(pilot, "src/app.py to c1, the state before these changes", "M src/app.py")
        await pilot.press("escape")
        await until(pilot, lambda: "Restore files?" not in screen(pilot))
        assert client.restores == [("c1", ["src/app.py"], True)]
        await pilot.press("}", "r")
        await until_shown(pilot, "README.md to c1", "M src/app.py")
        await pilot.press("y")
        await until_shown(pilot, "Restored 1 file to c1. To undo it, restore c4.")
        assert client.restores[1:] == [("c1", ["README.md"], True), ("c1", ["README.md"], False)]
        await until(pilot, lambda: len(client.requested) == 2)  # read again


async def test_either_state_of_a_step_is_restored(tmp_path: Path) -> None:
    client = HistoryClient()
    async with changes(client, tmp_path) as pilot:
        await pilot.press("greater_than_sign")
        await until_shown(pilot, "one step · c1 → c2")
        await pilot.press("R")
        await until_shown(pilot, "All files to c1", "M src/app.py", "o other state")
        await pilot.press("o")
        await until_shown(pilot, "All files to c2, the state after these changes", "M src/app.py")
        await pilot.press("y")
        await until_shown(pilot, "Restored 1 file to c2.")
        assert client.restores == [("c1", [], True), ("c2", [], True), ("c2", [], False)]


async def test_a_restore_while_the_task_runs_is_refused_with_the_reason(tmp_path: Path) -> None:
    client = HistoryClient()
    reason = "Task 12 is running; stop it before restoring files."
    client.restored = ConflictError("no", status_code=409, error_detail=reason)
    async with changes(client, tmp_path) as pilot:
        await pilot.press("R")
        await until_shown(pilot, reason)
        await pilot.press("y")  # not available
        client.restored = None
        await pilot.press("n", "R")
        await until_shown(pilot, "M src/app.py")
        client.restored = ConflictError("no", status_code=409, error_detail=reason)
        await pilot.press("y")
        await until_shown(pilot, reason)
        assert [dry_run for _, _, dry_run in client.restores] == [True, True, False]


# Parts


def test_paths_are_shortened_at_their_start() -> None:
    assert path_parts("src/deep/app.py", 15) == ("src/deep/", "app.py")
    assert path_parts("src/deep/app.py", 12) == ("…deep/", "app.py")
    assert path_parts("src/empty/", 12) == ("src/", "empty/")
    assert path_parts("src/deep/app.py", 7) == ("", "app.py")
    assert path_parts("src/deep/app.py", 5) == ("", "app.…")


def test_counts_are_short() -> None:
    assert file_facts.counts(1200, 0) == "+1,200"
    assert file_facts.counts(None, None) == ""
    file: FileDiff = {"path": "b", "change": "renamed", "old_path": "a", "similarity": 95}
    assert file_facts.title(file) == "a → b"
    assert file_facts.facts(file) == ["renamed", "95 % similar"]
    assert file_facts.index_of([file], "c") == 0
