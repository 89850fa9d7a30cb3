"""Collection of unused contents while checkpoints are written, read and deleted."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beray.server.objects.local import LocalObjectStore
from beray.server.tasks.checkpoints import TaskCheckpoints
from beray.server.workspace.history.blobs import BlobStore
from beray.server.workspace.history.collection import Collection
from beray.server.workspace.history.manifest import decode_chunks, encode_chunks
from beray.server.workspace.history.positions import UnknownCheckpoint
from beray.server.workspace.history.thinning import Thinning, superfluous
from beray.server.workspace.watcher import FileWatcher
from tests.server.history.recorded_work_dir import (
    GIB,
    TASK,
    USER,
    RecordedWorkDir,
    recorded_work_dir,
    state_of,
)
from tests.support import WAIT_SECONDS

MIB = 1024 * 1024


class Blobs:
    """Blobs of a work_dir with their collection, without the services around them."""

    def __init__(self, work: RecordedWorkDir) -> None:
        self.work = work
        self.store = BlobStore(
            blobs=work.repositories.blobs,
            objects=work.store,
            limit_bytes=GIB,
            has_space=lambda _: True,
        )
        checkpoints = work.repositories.checkpoints
        self.collection = Collection(checkpoints=checkpoints, blobs=self.store)

    def stored(self, *digests: bytes) -> set[bytes]:
        return self.work.repositories.blobs.existing(USER, digests)

    def write(self, *contents: bytes) -> list[bytes]:
        """Store contents to which no checkpoint refers."""
        with self.store.writing(USER) as writer:
            digests = [writer.add(content) for content in contents]
            writer.flush()
        return digests


@pytest.fixture
def blobs(work: RecordedWorkDir) -> Blobs:
    return Blobs(work)


def delete(work: RecordedWorkDir, *numbers: int) -> None:
    work.repositories.checkpoints.delete(TASK, numbers)


def test_unused_content_is_removed(work: RecordedWorkDir) -> None:
    (work.path / "a").write_bytes(os.urandom(MIB))
    first = work.recorded()
    (work.path / "a").write_bytes(os.urandom(MIB))
    second = work.recorded()
    assert work.stored_bytes() > 2 * MIB
    work.history.collect(USER)
    assert work.stored_bytes() > 2 * MIB
    delete(work, first.number)
    work.history.collect(USER)
    assert MIB < work.stored_bytes() < MIB + 20_000
    assert len(work.pack_files()) == 1
    assert work.content(second, b"a") == (work.path / "a").read_bytes()
    work.history.delete_of_task(TASK)
    work.history.collect(USER)
    assert work.stored_bytes() == 0
    assert work.pack_files() == []
    assert work.history.users() == []


def test_content_of_an_active_writer_is_kept(blobs: Blobs) -> None:
    (old,) = blobs.write(b"old content")
    with blobs.store.writing(USER) as writer:
        new = writer.add(b"new content")
        found = writer.add(b"old content")
        writer.flush()
        assert found == old
        blobs.collection.collect(USER)
        assert blobs.stored(old, new) == {old, new}
    blobs.collection.collect(USER)
    assert blobs.stored(old, new) == set()


def test_content_that_waits_to_be_stored_is_stored_after_a_collection(blobs: Blobs) -> None:
    blobs.write(b"content")
    with blobs.store.writing(USER) as writer:
        digest = writer.add(b"content")
        blobs.collection.collect(USER)
        writer.flush()
        assert blobs.stored(digest) == {digest}
        assert blobs.store.read(USER, digest) == b"content"


class PausedObjects:
    """Object store whose first read calls a function."""

    def __init__(self, objects: LocalObjectStore, during: Callable[[], object]) -> None:
        self._objects = objects
        self._during = [during]

    def write_bytes(self, key: str, data: bytes) -> None:
        self._objects.write_bytes(key, data)

    def read_bytes(self, key: str, start: int, length: int) -> bytes:
        if self._during:
            self._during.pop()()
        return self._objects.read_bytes(key, start, length)

    def remove(self, keys: Any) -> None:
        self._objects.remove(keys)


def during_a_collection(work: RecordedWorkDir, action: Callable[[Blobs], object]) -> Blobs:
    """Collect, and perform an action while the collection reads the first manifest."""
    blobs = Blobs(work)
    blobs.store.objects = PausedObjects(work.store, lambda: action(blobs))
    blobs.collection.collect(USER)
    return blobs


def test_a_writer_that_finishes_during_a_collection_is_protected(work: RecordedWorkDir) -> None:
    work.recorded(reason="start", always=True)
    roots: list[bytes] = []

    def finish_a_writer(blobs: Blobs) -> None:
        with blobs.store.writing(USER) as writer:
            roots.append(writer.add(b"content"))
            writer.flush()

    blobs = during_a_collection(work, finish_a_writer)
    assert blobs.stored(*roots) == set(roots)
    blobs.collection.collect(USER)
    assert blobs.stored(*roots) == set()


def test_a_second_collection_at_the_same_time_does_nothing(work: RecordedWorkDir) -> None:
    work.recorded(always=True)
    calls: list[bool] = []

    def collect(blobs: Blobs) -> None:
        blobs.collection.collect(USER)
        calls.append(bool(blobs.stored(*unused)))

    unused = Blobs(work).write(b"unused")
    blobs = during_a_collection(work, collect)
    assert calls == [True]
    assert blobs.stored(*unused) == set()


def test_a_pinned_checkpoint_is_kept(work: RecordedWorkDir, blobs: Blobs) -> None:
    (work.path / "a").write_bytes(b"a" * 1000)
    row = work.recorded()
    work.history.delete_of_task(TASK)
    with blobs.store.pinned(USER, row.root), blobs.store.pinned(USER, row.root):
        blobs.collection.collect(USER)
        assert work.content(row, b"a") == b"a" * 1000
    blobs.collection.collect(USER)
    assert blobs.stored(row.root) == set()


def test_a_pending_restore_is_kept(work: RecordedWorkDir) -> None:
    (work.path / "a").write_bytes(b"a" * 1000)
    row = work.recorded()
    delete(work, row.number)
    checkpoints = work.repositories.checkpoints
    checkpoints.begin_restore(TASK, USER, row.root, None, "restore")
    work.history.collect(USER)
    assert work.content(row, b"a") == b"a" * 1000
    checkpoints.end_restore(TASK)
    work.history.collect(USER)
    assert work.pack_files() == []


def test_files_with_the_content_of_manifests(work: RecordedWorkDir, blobs: Blobs) -> None:
    """Content that is a manifest or a list of chunks does not hide what these refer to."""
    (work.path / "z").mkdir()
    (work.path / "z" / "large").write_bytes(os.urandom(3 * MIB))
    (work.path / "z" / "small").write_bytes(b"small")
    for number in range(300):
        (work.path / "z" / f"{number}").write_text(f"{number}")
    entries = work.entries(work.recorded())
    references = [entries[b"z"].reference, entries[b"z/large"].reference]
    for number, reference in enumerate(references):
        (work.path / f"a{number}").write_bytes(blobs.store.read(USER, reference))
    work.recorded()
    state = state_of(work.path)
    work.history.collect(USER)
    delete(work, 1)
    work.history.collect(USER)
    row = work.history.positions.find(TASK, None)
    work.workspaces.remove(TASK)
    work.workspaces.create(TASK)
    work.restore(f"c{row.number}")
    assert state_of(work.path) == state
    assert len(decode_chunks(encode_chunks(work.reader.pieces(entries[b"z/large"])))) > 1


def test_packs_with_little_use_are_written_again(work: RecordedWorkDir) -> None:
    """Small rests of many packs become one pack."""
    for number in range(6):
        (work.path / "changes").write_bytes(os.urandom(100_000))
        (work.path / f"stays{number}").write_bytes(os.urandom(10_000))
        work.recorded()
    assert len(work.pack_files()) == 6
    state = state_of(work.path)
    delete(work, 1, 2, 3, 4, 5)
    work.history.collect(USER)
    assert len(work.pack_files()) == 2
    assert work.stored_bytes() < 200_000
    (work.path / "changes").unlink()
    work.restore("c6")
    assert state_of(work.path) == state


def test_packs_of_many_blobs_are_not_joined(work: RecordedWorkDir) -> None:
    for folder in ("a", "b"):
        (work.path / folder).mkdir()
        for number in range(1500):
            (work.path / folder / str(number)).write_text(f"{folder} {number}")
        (work.path / "large").write_bytes(os.urandom(300_000))
        work.recorded()
    (work.path / "large").unlink()
    last = work.recorded()
    delete(work, 1, 2)
    work.history.collect(USER)
    used = work.repositories.blobs.pack_use(USER)
    assert all(pack.blobs <= 2000 for pack in used)
    assert work.stored_bytes() < 300_000
    assert len(work.entries(last)) == 3002


def test_a_damaged_manifest_stops_the_collection_of_its_user(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "a").write_bytes(b"a")
        first = work.recorded()
        (work.path / "a").write_bytes(b"b")
        work.recorded()
        work.damage(first.root)
    with recorded_work_dir(tmp_path / "data") as work:
        before = work.stored_bytes()
        unused = Blobs(work).write(b"unused")
        work.history.collect(USER)
        assert work.stored_bytes() > before
        delete(work, first.number)
        work.history.collect(USER)
        assert work.repositories.blobs.existing(USER, unused) == set()
        assert work.restore("c2").changes == []


def test_damaged_content_does_not_stop_the_collection(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "damaged").write_bytes(os.urandom(1000))
        (work.path / "good").write_bytes(os.urandom(1000))
        (work.path / "unused").write_bytes(os.urandom(100_000))
        first = work.recorded()
        (work.path / "unused").unlink()
        second = work.recorded()
        work.damage(work.entries(second)[b"damaged"].digest)
        delete(work, first.number)
    with recorded_work_dir(tmp_path / "data") as work:
        for _ in range(2):
            work.history.collect(USER)
        # The rest was moved to a new pack.
        assert work.content(second, b"good") == (work.path / "good").read_bytes()
        delete(work, second.number)
        work.history.delete_of_task(TASK)
        work.history.collect(USER)
        assert work.pack_files() == []


def test_a_missing_pack_does_not_stop_the_collection(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data") as work:
        (work.path / "a").write_bytes(os.urandom(1000))
        (work.path / "unused").write_bytes(os.urandom(100_000))
        work.recorded()
        (pack,) = work.pack_files()
        (work.path / "unused").unlink()
        work.recorded()
        delete(work, 1)
        pack.unlink()
    with recorded_work_dir(tmp_path / "data") as work:
        work.history.collect(USER)
        work.history.delete_of_task(TASK)
        work.history.collect(USER)
        assert work.stored_bytes() == 0
        assert work.history.users() == []


async def test_a_request_at_the_end_of_a_collection_is_not_lost(
    work: RecordedWorkDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Request another collection in the step of the event loop after the end of the first one."""
    loop = asyncio.get_running_loop()
    checkpoints = TaskCheckpoints(
        history=work.history,
        tasks=work.repositories.tasks,
        files=FileWatcher(work.workspaces.root),
    )
    collected_again = asyncio.Event()
    calls = iter([lambda: None, collected_again.set])

    def request_after(collection: asyncio.Task[None]) -> None:
        if collection.done():
            checkpoints.collect(USER)
        else:
            loop.call_soon(request_after, collection)

    monkeypatch.setattr(work.history, "collect", lambda _: loop.call_soon_threadsafe(next(calls)))
    async with checkpoints.running(), asyncio.timeout(WAIT_SECONDS):
        others = asyncio.all_tasks()
        checkpoints.collect(USER)
        (collection,) = asyncio.all_tasks() - others
        request_after(collection)
        await collected_again.wait()


# Thinning


@dataclass
class Row:
    number: int
    reason: str


def rows(reasons: str) -> list[Row]:
    names = {"s": "step", "u": "upload", "r": "restore", "S": "start", "E": "end"}
    return [Row(number, names[one]) for number, one in enumerate(reasons, start=1)]


@pytest.mark.parametrize(
    ("reasons", "thinning", "removed"),
    [
        ("", (1, 0), []),
        ("S", (1, 0), []),
        ("SE", (1, 0), []),
        ("SssssE", (1, 0), [2, 3, 4, 5]),
        ("SsusrE", (1, 0), [2, 4]),
        ("ssssss", (1, 0), [2, 3, 4, 5]),
        ("ssssss", (3, 0), [2, 3]),
        ("ssssss", (6, 0), []),
        ("ssssss", (9, 0), []),
        ("sssssss", (1, 2), [3, 5, 6]),
        ("sssssss", (1, 5), []),
        ("Suuuuuu", (1, 0), []),
    ],
)
def test_superfluous_checkpoints(
    reasons: str, thinning: tuple[int, int], removed: list[int]
) -> None:
    assert superfluous(rows(reasons), Thinning(*thinning)) == removed


def test_thinning_keeps_every_state_that_remains(work: RecordedWorkDir) -> None:
    states = {}
    for number in range(30):
        (work.path / f"f{number % 7}").write_bytes(os.urandom(500))
        row = work.recorded(reason="start" if not number else "step")
        states[row.number] = state_of(work.path)
    assert work.history.thin(TASK, Thinning(newest=5, steps=4))
    assert not work.history.thin(TASK, Thinning(newest=5, steps=4))
    work.history.collect(USER)
    numbers = [row.number for row in work.history.positions.list_page(TASK, 0, 100)]
    assert len(numbers) == 10
    assert numbers[0] == 1
    assert numbers[-5:] == [26, 27, 28, 29, 30]
    removed = next(number for number in states if number not in numbers)
    with pytest.raises(UnknownCheckpoint, match="removed to limit their number"):
        work.history.positions.find(TASK, f"c{removed}")
    # A seq between two remaining checkpoints stands for the one before it.
    assert work.history.positions.find(TASK, 25).number == numbers[-6]
    for number in numbers:
        work.restore(f"c{number}")
        assert state_of(work.path) == states[number]


def test_a_full_history_keeps_fewer_checkpoints_of_ended_tasks(tmp_path: Path) -> None:
    with recorded_work_dir(tmp_path / "data", user_bytes=4 * MIB) as work:
        for task in (2, 3):
            path = work.workspaces.create(task)
            for number in range(4):
                (path / "a").write_bytes(os.urandom(100_000))
                work.history.record(task, USER, seq=number, reason="step")
        assert not work.history.thin_user(USER, running=set())
        (work.path / "a").write_bytes(os.urandom(3 * MIB))
        work.recorded()
        assert work.history.thin_user(USER, running={3})
        count = {task: len(work.history.positions.list_page(task, 0, 100)) for task in (TASK, 2, 3)}
        assert count == {TASK: 1, 2: 2, 3: 4}
        assert not work.history.thin_user(USER, running={3})
        assert work.history.thin_user(USER, running=set())


# Everything at the same time


@contextmanager
def repeating(*actions: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Repeat actions, each in a thread, during the block."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def repeat(action: Callable[[], None]) -> None:
        while not stop.is_set():
            try:
                action()
            except BaseException as error:
                errors.append(error)
                raise

    threads = [threading.Thread(target=repeat, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_threads_that_record_restore_and_collect(work: RecordedWorkDir) -> None:
    """Afterwards, every checkpoint is restorable."""
    contents = [os.urandom(20_000) for _ in range(6)] + [os.urandom(2 * MIB)]
    states: dict[int, dict[int, Any]] = {TASK: {}, 2: {}}
    work.workspaces.create(2)

    def change(task: int, chance: random.Random) -> None:
        path = work.workspaces.path(task)
        with suppress(FileExistsError):
            (path / "d").mkdir()
        name = chance.choice(["a", "b", "c", "d/e", "d/f"])
        (path / name).write_bytes(chance.choice(contents))
        recorded = work.history.record(task, USER, seq=0, reason="step")
        if recorded is not None:
            states[task][recorded.checkpoint.number] = state_of(path)
        if chance.random() < 0.2 and states[task]:
            number = chance.choice(list(states[task]))
            try:
                target = work.history.positions.find(task, f"c{number}")
            except UnknownCheckpoint:
                return
            restored = work.history.restores.restore(task, USER, target, seq=0)
            assert state_of(path) == states[task][number]
            if restored.checkpoint is not None:
                states[task][restored.checkpoint.number] = state_of(path)

    def thin() -> None:
        chance = random.Random()
        work.history.thin(chance.choice([TASK, 2]), Thinning(newest=2, steps=2))
        work.history.collect(USER)

    chances = {task: random.Random(task) for task in states}
    with repeating(
        *(partial(change, task, chances[task]) for task in states),
        thin,
        thin,
    ) as errors:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not errors:
            work.history.used_bytes(USER)
    assert errors == []
    work.history.collect(USER)
    for task, known in states.items():
        remaining = work.history.positions.list_page(task, 0, 1000)
        assert remaining
        for row in remaining:
            work.history.restores.restore(task, USER, row, seq=0)
            assert state_of(work.workspaces.path(task)) == known[row.number]
