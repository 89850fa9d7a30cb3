"""Damaged packs: the content that is lost is reported, and everything else remains available."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from beray.server.files.http_ranges import IncompleteFile
from beray.server.workspace.history.checkpoint_files import CheckpointFiles
from beray.server.workspace.history.errors import DamagedContent
from beray.server.workspace.history.file_diffs import FileDiffs, count_changed_lines
from beray.server.workspace.history.unified import unified_diff
from tests.server.history.recorded_work_dir import (
    USER,
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)
from tests.server.history.two_states import assert_nothing_staged, numbers

TEXT = "".join(f"line {number}\n" for number in range(50))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data directory with two checkpoints, whose contents are in one pack each."""
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "d").mkdir()
        (work.path / "d" / "text").write_text(TEXT)
        (work.path / "d" / "unchanged").write_bytes(b"unchanged")
        (work.path / "large").write_bytes(random.Random(1).randbytes(5_000_000))
        (work.path / "other").write_text("other")
        work.recorded()
        (work.path / "d" / "text").write_text(TEXT.replace("line 7", "changed"))
        (work.path / "large").write_bytes(b"small")
        (work.path / "other").write_text("changed")
        work.recorded()
    return tmp_path / "data"


@contextmanager
def damaged(data: Path, position: str, path: bytes, chunk: int = 0) -> Iterator[RecordedWorkDir]:
    """Open the history after a byte of a file's content was changed."""
    with recorded_work_dir(data) as work:
        entry = work.entries(work.history.positions.find(1, position))[path]
        work.damage(work.reader.pieces(entry)[chunk].digest)
    with recorded_work_dir(data) as work:
        yield work


def changes(work: RecordedWorkDir) -> list[Any]:
    first, second = (work.history.positions.find(1, name) for name in ("c1", "c2"))
    return list(work.reader.changes(first.root, second.root))


def test_other_files_remain_available(data: Path) -> None:
    with damaged(data, "c1", b"d/text") as work:
        first, second = (work.history.positions.find(1, name) for name in ("c1", "c2"))
        files = CheckpointFiles(work.reader, first)
        with pytest.raises(DamagedContent, match="damaged"):
            files.open_file("d/text")
        assert [item["path"] for item in files.tree("", limit=100)] == [
            "d", "d/text", "d/unchanged", "large", "other",
        ]  # fmt: skip
        for name, content in (("d/unchanged", b"unchanged"), ("other", b"other")):
            file, entry = files.open_file(name)
            assert (file.read(entry.size), entry.size) == (content, len(content))
        assert work.content(second, b"d/text") == (work.path / "d" / "text").read_bytes()
        with pytest.raises(IncompleteFile, match="damaged"):
            b"".join(files.stream_zip(files.select([])))
        assert b"".join(files.stream_zip(files.select(["other", "large"])))


def test_damage_in_the_middle_of_a_large_file(data: Path) -> None:
    with damaged(data, "c1", b"large", chunk=2) as work:
        files = CheckpointFiles(work.reader, work.history.positions.find(1, "c1"))
        file, entry = files.open_file("large")
        assert entry.size == 5_000_000
        with file:
            first = file.read(1000)
            assert first == random.Random(1).randbytes(5_000_000)[:1000]
            with pytest.raises(IncompleteFile, match="damaged"):
                while file.read(1_000_000):
                    continue
            file.seek(4_999_000)
            assert len(file.read(1000)) == 1000


def test_a_restore_is_refused_without_side_effects(data: Path) -> None:
    with damaged(data, "c1", b"d/text") as work:
        before = state_of(work.path)
        for paths in ([], ["d"], ["d/text", "other"]):
            with pytest.raises(DamagedContent, match="'d/text' cannot be restored"):
                work.restore("c1", paths=paths)
        assert state_of(work.path) == before
        assert numbers(work) == [1, 2]
        assert_nothing_staged(work)
        work.restore("c1", paths=["other", "large"])
        assert (work.path / "other").read_text() == "other"
        assert (work.path / "large").stat().st_size == 5_000_000
        # What has the content anyway is not needed from the store.
        (work.path / "d" / "text").write_text(TEXT)
        work.restore("c1")


def test_a_diff_omits_damaged_content(data: Path) -> None:
    with damaged(data, "c1", b"d/text") as work:
        read = work.reader.read
        files = {file["path"]: file for file in FileDiffs(changes(work), read)}
        assert "damaged" in str(files["d/text"].get("omitted"))
        assert "hunks" not in files["d/text"]
        assert len(files["other"]["hunks"]) == 1
        patch = b"".join(unified_diff(changes(work), read))
        assert b"Binary files a/d/text and b/d/text differ" in patch
        assert b"+changed" in patch
        assert count_changed_lines(changes(work), read, max_bytes=10**6) == (1, 1)


def test_new_checkpoints_are_recorded(data: Path) -> None:
    """Damage of an earlier state does not end the history of a task."""
    with damaged(data, "c2", b"d/text") as work:
        (work.path / "new").write_text("new")
        row = work.recorded()
        assert row.added == 1
        (work.path / "d" / "text").write_text("replaced")
        row = work.recorded()
        work.restore("c1", paths=["d"])
        work.restore(f"c{row.number}")
        assert (work.path / "d" / "text").read_text() == "replaced"


def test_a_damaged_manifest(data: Path) -> None:
    with recorded_work_dir(data) as work:
        first = work.history.positions.find(1, "c1")
        work.damage(work.entries(first)[b"d"].reference)
    with recorded_work_dir(data) as work:
        before = state_of(work.path)
        assert work.content(first, b"other") == b"other"
        for action in (
            lambda: work.content(first, b"d/unchanged"),
            lambda: work.entries(first),
            lambda: changes(work),
            lambda: work.restore("c1"),
            lambda: work.restore("c1", paths=["d/text"]),
        ):
            with pytest.raises(DamagedContent):
                action()
        assert state_of(work.path) == before
        assert_nothing_staged(work)
        # The manifest of the other directory is not needed.
        work.restore("c1", paths=["other"])
        assert (work.path / "other").read_text() == "other"
        (work.path / "later").write_text("later")
        work.recorded()
        work.restore("c2")
        assert state_of(work.path) == before


def test_a_damaged_newest_checkpoint_is_followed_by_others(data: Path) -> None:
    with recorded_work_dir(data) as work:
        second = work.history.positions.find(1, "c2")
        work.damage(second.root)
    with recorded_work_dir(data) as work:
        (work.path / "new").write_text("new")
        row = work.recorded()
        assert row.number == 3
        assert set(work.entries(row)) == {
            b"d", b"d/text", b"d/unchanged", b"large", b"new", b"other",
        }  # fmt: skip
        (work.path / "new").write_text("newer")
        assert work.recorded().modified == 1
        work.restore("c1")
        work.restore(f"c{row.number}")
        assert (work.path / "new").read_text() == "new"


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def flipped(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def overwritten(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes(len(content) - at)


@pytest.mark.parametrize("damage", [truncated, flipped, overwritten, None])
def test_any_damage_is_detected(
    tmp_path: Path, damage: Callable[[bytes, random.Random], bytes] | None
) -> None:
    """Whatever is read is correct, and nothing but ``DamagedContent`` is raised."""
    with recorded_work_dir(tmp_path / "data") as work:
        for number in range(20):
            (work.path / f"f{number}").write_text(f"{number}\n" * 100)
        (work.path / "large").write_bytes(os.urandom(1_200_000))
        row = work.recorded()
        state = {path: value[-1] for path, value in state_of(work.path).items()}
        (pack,) = work.pack_files()
    content = pack.read_bytes()
    chance = random.Random(5)
    for _ in range(15 if damage is not None else 1):
        pack.unlink(missing_ok=True)
        if damage is not None:
            pack.write_bytes(damage(content, chance))
        with recorded_work_dir(tmp_path / "data") as work:
            for path, expected in state.items():
                with suppress(DamagedContent):
                    assert work.content(row, path) == expected
            with suppress(DamagedContent):
                (work.path / "f1").write_text("changed")
                work.restore(f"c{row.number}")
                assert (work.path / "f1").read_bytes() == state[b"f1"]
            assert_nothing_staged(work)
            work.history.collect(USER)
    pack.write_bytes(content)
    with recorded_work_dir(tmp_path / "data") as work:
        work.restore(f"c{row.number}")
        assert {path: value[-1] for path, value in state_of(work.path).items()} == state
