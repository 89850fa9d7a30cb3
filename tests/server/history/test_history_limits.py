"""Limits of the history: content beyond them is listed, and the rest is stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.recorder import Recorded
from beray.server.workspace.history.restore import ContentNotStored
from tests.server.history.recorded_work_dir import (
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)

MIB = 1024 * 1024


class Disk:
    """Disk with a number of free bytes."""

    def __init__(self) -> None:
        self.free = 10**12

    def has_space(self, size: int) -> bool:
        return size < self.free


@contextmanager
def limited(directory: Path, **limits: Any) -> Iterator[RecordedWorkDir]:
    with recorded_work_dir(directory / "data", **limits) as work:
        yield work


def write(work: RecordedWorkDir, **sizes: int) -> dict[str, bytes]:
    """Write files with random content."""
    contents = {name: os.urandom(size) for name, size in sizes.items()}
    for name, content in contents.items():
        (work.path / name).write_bytes(content)
    return contents


def recorded(work: RecordedWorkDir, *paths: str) -> Recorded:
    result = work.record(*paths)
    assert result is not None
    return result


def problems(result: Recorded) -> dict[str, str]:
    return {problem.path.decode(): problem.reason for problem in result.problems}


def assert_stored(work: RecordedWorkDir, result: Recorded, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        assert work.content(result.checkpoint, name.encode()) == content


def test_large_files_are_listed_only(tmp_path: Path) -> None:
    with limited(tmp_path, file_bytes=2 * MIB) as work:
        contents = write(work, small=MIB, exact=2 * MIB, large=2 * MIB + 1)
        large = contents.pop("large")
        first = recorded(work)
        assert problems(first) == {
            "large": "it is larger than BERAY_HISTORY_FILE_BYTES (2,097,152 bytes)"
        }
        assert_stored(work, first, contents)
        row = first.checkpoint
        assert (row.files, row.bytes, row.not_stored) == (3, 3 * MIB, 1)
        entry = work.entries(row)[b"large"]
        assert (entry.size, entry.digest, entry.is_stored) == (len(large), b"", False)
        with pytest.raises(DamagedContent, match="not stored"):
            work.content(row, b"large")
        assert work.record() is None
        # It is stored once it is small enough.
        (work.path / "large").write_bytes(b"small")
        assert_stored(work, recorded(work, "large"), {"large": b"small"})


def test_the_limit_of_a_user(tmp_path: Path) -> None:
    """A large file that does not fit neither uses up the space nor leaves anything behind."""
    with limited(tmp_path, user_bytes=8 * MIB) as work:
        contents = write(work, a=MIB, large=20 * MIB, z=MIB, zz=MIB)
        del contents["large"]
        first = recorded(work)
        assert problems(first) == {"large": "BERAY_HISTORY_BYTES is used up"}
        assert_stored(work, first, contents)
        assert work.stored_bytes() < 3 * MIB + 20_000
        assert first.checkpoint.not_stored == 1


def test_an_append_to_a_stored_file_fits(tmp_path: Path) -> None:
    with limited(tmp_path, user_bytes=30 * MIB) as work:
        contents = write(work, large=20 * MIB)
        recorded(work)
        contents["large"] += os.urandom(MIB)
        (work.path / "large").write_bytes(contents["large"])
        result = recorded(work)
        assert problems(result) == {}
        assert_stored(work, result, contents)


def test_content_is_stored_once_there_is_space(tmp_path: Path) -> None:
    with limited(tmp_path, user_bytes=5 * MIB) as work:
        contents = write(work, a=3 * MIB)
        first = recorded(work)
        assert problems(first) == {}
        (work.path / "a").unlink()
        contents = write(work, b=3 * MIB, c=1000)
        second = recorded(work)
        assert problems(second) == {"b": "BERAY_HISTORY_BYTES is used up"}
        assert_stored(work, second, {"c": contents["c"]})
        # It is neither reported nor read again with each step.
        contents |= write(work, c=2000)
        assert problems(recorded(work, "c")) == {}
        contents |= write(work, c=3000)
        assert problems(recorded(work)) == {}
        work.repositories.checkpoints.delete(1, [first.checkpoint.number])
        work.history.collect(1)
        assert work.stored_bytes() < MIB
        # A later comparison of all files stores it, without a change of the file.
        third = recorded(work)
        assert problems(third) == {}
        assert third.checkpoint.not_stored == 0
        assert_stored(work, third, contents)


def test_small_files_beyond_the_limit(tmp_path: Path) -> None:
    with limited(tmp_path, user_bytes=MIB) as work:
        contents = write(work, **{f"f{number:03}": 20_000 for number in range(100)})
        result = recorded(work)
        missing = problems(result)
        assert 40 < len(missing) < 60
        assert_stored(
            work, result, {name: contents[name] for name in contents.keys() - missing.keys()}
        )
        assert result.checkpoint.not_stored == len(missing)
        # Content that is stored already needs no space.
        stored = next(name for name in contents if name not in missing)
        (work.path / "copy").write_bytes(contents[stored])
        result = recorded(work, "copy")
        assert problems(result) == {}
        assert_stored(work, result, {"copy": contents[stored]})


def test_the_limit_applies_to_each_user(tmp_path: Path) -> None:
    with limited(tmp_path, user_bytes=2 * MIB) as work:
        write(work, a=MIB)
        assert problems(recorded(work)) == {}
        (work.workspaces.create(2) / "a").write_bytes(os.urandom(3 * MIB // 2))
        other = work.history.record(2, 2, seq=1, reason="step")
        assert other is not None
        assert problems(other) == {}


def test_a_nearly_full_disk(tmp_path: Path) -> None:
    disk = Disk()
    with limited(tmp_path, has_space=disk.has_space) as work:
        contents = write(work, a=MIB)
        recorded(work)
        disk.free = 0
        contents |= write(work, b=1000, c=2 * MIB)
        result = recorded(work)
        reason = "the disk is nearly full"
        assert problems(result) == {"b": reason, "c": reason}
        assert result.checkpoint.not_stored == 2
        assert_stored(work, result, {"a": contents["a"]})
        disk.free = 10**12
        result = recorded(work)
        assert problems(result) == {}
        assert_stored(work, result, contents)


def test_a_restore_never_loses_content_that_is_not_stored(tmp_path: Path) -> None:
    with limited(tmp_path, file_bytes=MIB) as work:
        write(work, a=10)
        first = recorded(work)
        write(work, large=MIB + 1)
        second = recorded(work)
        before = state_of(work.path)
        # The file could not be restored from the state before.
        with pytest.raises(ContentNotStored) as caught:
            work.restore(f"c{first.checkpoint.number}")
        assert caught.value.path == "large"
        assert state_of(work.path) == before
        (work.path / "a").write_bytes(b"changed")
        work.restore(f"c{first.checkpoint.number}", paths=["a"])
        assert state_of(work.path) == before
        # Its mode and time can be restored, because its content stays.
        (work.path / "large").chmod(0o600)
        work.restore(f"c{second.checkpoint.number}")
        assert state_of(work.path) == before
        (work.path / "large").unlink()
        with pytest.raises(ContentNotStored):
            work.restore(f"c{second.checkpoint.number}")
        assert not (work.path / "large").exists()
        work.restore(f"c{first.checkpoint.number}")
