"""Two different states of a work_dir, and checks after restores of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.server.history.recorded_work_dir import TASK, RecordedWorkDir, state_of


def first_state(path: Path) -> None:
    (path / "src" / "deep").mkdir(parents=True)
    (path / "src" / "a").write_text("a")
    (path / "src" / "b").write_text("b")
    (path / "src" / "deep" / "c").write_text("c")
    (path / "only then").write_text("then")
    (path / "kind").mkdir()
    (path / "kind" / "inner").write_text("inner")
    (path / "large").write_bytes(os.urandom(1_500_000))
    (path / "link").symlink_to("src/a")
    (path / "empty").mkdir(mode=0o750)


def second_state(path: Path) -> None:
    (path / "src" / "a").write_text("changed")
    (path / "src" / "b").unlink()
    (path / "src" / "new").write_text("new")
    shutil.rmtree(path / "src" / "deep")
    (path / "only then").unlink()
    (path / "only now").write_text("now")
    shutil.rmtree(path / "kind")
    (path / "kind").write_text("a file")
    with (path / "large").open("ab") as file:
        file.write(b"more")
    (path / "link").unlink()
    (path / "link").symlink_to("elsewhere")
    (path / "empty").chmod(0o700)
    (path / "other" / "folder").mkdir(parents=True)
    (path / "other" / "folder" / "x").write_text("x")


def two_states(work: RecordedWorkDir) -> list[dict[bytes, tuple[object, ...]]]:
    """Record two states as c1 and c2, and return them."""
    states = []
    for change in (first_state, second_state):
        change(work.path)
        work.recorded()
        states.append(state_of(work.path))
    return states


def assert_nothing_staged(work: RecordedWorkDir) -> None:
    staging = work.workspaces.root / ".restoring"
    assert not staging.exists() or list(staging.iterdir()) == []
    assert work.repositories.checkpoints.list_pending() == []


def numbers(work: RecordedWorkDir) -> list[int]:
    return [row.number for row in work.history.positions.list_page(TASK, 0, 1000)]
