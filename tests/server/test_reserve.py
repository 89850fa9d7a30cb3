"""The disk reserve: a file that is released in steps and refilled."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from beray.server.storage import disk_reserve
from beray.server.storage.database_errors import is_full
from beray.server.storage.disk_reserve import MIN_STEP_BYTES, DiskReserve

SIZE = 4 * MIN_STEP_BYTES


def full() -> OSError:
    return OSError(errno.ENOSPC, "full")


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_the_reserve_is_allocated_and_not_sparse(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    assert DiskReserve(path, SIZE).refill()
    assert path.stat().st_size == SIZE <= blocks(path)
    os.truncate(path, 0)
    os.truncate(path, SIZE)  # as a copy of a data directory may have it
    again = DiskReserve(path, SIZE)
    assert again.is_incomplete
    assert again.refill()
    assert blocks(path) >= SIZE


@pytest.mark.parametrize("size", [0, MIN_STEP_BYTES])
def test_a_smaller_setting_releases_space(tmp_path: Path, size: int) -> None:
    path = tmp_path / "reserve"
    DiskReserve(path, SIZE).refill()
    smaller = DiskReserve(path, size)
    assert not smaller.is_incomplete
    assert (path.stat().st_size if path.exists() else 0) == size


def test_an_operation_gets_one_step_at_a_time(tmp_path: Path) -> None:
    held = DiskReserve(tmp_path / "reserve", SIZE)
    held.refill()
    sizes: list[int] = []

    def work() -> str:
        sizes.append((tmp_path / "reserve").stat().st_size)
        if len(sizes) < 3:
            raise full()
        return "done"

    assert held.use(work) == "done"
    assert sizes == [SIZE, SIZE - MIN_STEP_BYTES, SIZE - 2 * MIN_STEP_BYTES]
    assert (tmp_path / "reserve").stat().st_size == SIZE  # the disk had the space


def test_an_operation_that_needs_more_than_the_reserve_fails(tmp_path: Path) -> None:
    held = DiskReserve(tmp_path / "reserve", SIZE)
    held.refill()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        raise full()

    with pytest.raises(OSError, match="full"):
        held.use(work)
    assert len(calls) == 2 + SIZE // MIN_STEP_BYTES
    assert not held.is_incomplete


def test_other_errors_release_nothing(tmp_path: Path) -> None:
    held = DiskReserve(tmp_path / "reserve", SIZE)
    held.refill()

    def work() -> None:
        raise OSError(errno.EACCES, "denied")

    with pytest.raises(OSError, match="denied"):
        held.use(work)
    assert (tmp_path / "reserve").stat().st_size == SIZE


def test_ordinary_writes_fail_until_the_reserve_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = DiskReserve(tmp_path / "reserve", SIZE)
    monkeypatch.setattr(disk_reserve, "free_bytes", lambda _folder: MIN_STEP_BYTES)
    with pytest.raises(OperationalError) as caught:
        held.require_complete()
    assert is_full(caught.value)
    # What there is, the reserve takes first.
    assert (tmp_path / "reserve").stat().st_size == MIN_STEP_BYTES
    monkeypatch.undo()
    held.require_complete()
    assert (tmp_path / "reserve").stat().st_size == SIZE
