"""Extraction of archives: all or nothing, for any archive and any interruption."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beray import TransferCancelled, TransferError
from beray.transfers import archive_members as members
from beray.transfers import local_files
from beray.transfers.archive import check_target_directory, extract_archive
from beray.transfers.download import PartialDownload
from beray.transfers.transfer import Transfer

posix_only = pytest.mark.skipif(os.name != "posix", reason="about modes and links of POSIX")


def left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.name != "home")


def content(folder: Path) -> dict[str, str]:
    """Return the content of a directory: the text of files, and the type of other entries."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else path.read_text()
        found[path.relative_to(folder).as_posix()] = kind
    return found


def zipped(*members: tuple[str, bytes] | tuple[zipfile.ZipInfo, bytes]) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def raw(name: str) -> Callable[[], io.BytesIO]:
    """Return an archive with a member whose stored name is exactly ``name``."""

    def make() -> io.BytesIO:
        file = zipped(("@" * len(name.encode()), b"x"))
        return io.BytesIO(file.getvalue().replace(b"@" * len(name.encode()), name.encode()))

    return make


@pytest.mark.parametrize(
    "make",
    [
        lambda: zipped(("ok", b""), ("../x", b"")),
        lambda: zipped(("a/../../x", b"")),
        lambda: zipped(("/etc/x", b"")),
        lambda: zipped(("a/./b", b"")),
        lambda: zipped(("a//b", b"")),
        raw("a\0b"),
        lambda: zipped(("a", b"1"), ("a", b"2")),
        lambda: zipped(("a", b"1"), ("a/b", b"2")),
        lambda: zipped((special("l", stat.S_IFLNK | 0o777), b"/etc/passwd")),
        lambda: zipped((special("d", stat.S_IFCHR | 0o666), b"")),
        lambda: zipped((special("p", stat.S_IFIFO | 0o666), b"")),
        lambda: zipped(("big", b"x" * 2_000_001)),
        lambda: zipped(("a", b"x" * 1_500_000), ("b", b"x" * 1_500_000)),
        lambda: io.BytesIO(b"no archive"),
        lambda: io.BytesIO(zipped(("a", b"x" * 100)).getvalue()[:-10]),
        lambda: io.BytesIO(zipped(("a", b"x" * 100)).getvalue().replace(b"xxxx", b"xxxy", 1)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("there", [False, True])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_unsafe_archive_is_rejected_completely(
    tmp_path: Path, make: Callable[[], io.BytesIO], there: bool
) -> None:
    target = tmp_path / "out"
    if there:
        target.mkdir()
        (target / "mine").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(TransferError):
        extract_archive(make(), target, overwrite=True, max_bytes=2_000_000)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_with_a_wrong_size_is_rejected(tmp_path: Path) -> None:
    honest = io.BytesIO()
    with zipfile.ZipFile(honest, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 10_000_000)
    size = (10_000_000).to_bytes(4, "little")
    lying = honest.getvalue().replace(size, (1000).to_bytes(4, "little"))
    with pytest.raises(TransferError):
        extract_archive(io.BytesIO(lying), tmp_path / "out", max_bytes=2_000_000)
    assert left(tmp_path) == []


def test_a_failed_move_is_undone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    (target / "b").mkdir(parents=True)  # a directory with the name of a member
    (target / "a").write_text("mine")
    with pytest.raises(TransferError, match="nothing was changed"):
        extract_archive(zipped(("a", b"1"), ("b", b"2"), ("new/c", b"3")), target, overwrite=True)
    assert (target / "a").read_text() == "mine"
    assert sorted(entry.name for entry in target.iterdir()) == ["a", "b"]
    assert left(tmp_path) == ["out"]


def test_a_cancelled_extraction_leaves_nothing(tmp_path: Path) -> None:
    transfer = Transfer(lambda *_: transfer.cancel())
    with pytest.raises(TransferCancelled):
        extract_archive(zipped(("a", b"1"), ("b", b"2")), tmp_path / "out", transfer=transfer)
    assert left(tmp_path) == []


def overlapping(size: int) -> io.BytesIO:
    """Return an archive with two entries that share the same data."""
    inner = zipped(("b", b"x" * size)).getvalue()
    local = inner[: inner.index(b"PK\x01\x02")]
    archive = zipped(("a", local)).getvalue()
    directory = archive.index(b"PK\x01\x02", len(local))
    second = bytearray(inner[inner.index(b"PK\x01\x02") : inner.index(b"PK\x05\x06")])
    second[42:46] = archive.index(local).to_bytes(4, "little")
    ending = archive.index(b"PK\x05\x06", directory)
    end = bytearray(archive[ending:])
    end[8:10] = end[10:12] = (2).to_bytes(2, "little")
    end[12:16] = (ending - directory + len(second)).to_bytes(4, "little")
    return io.BytesIO(archive[:ending] + bytes(second) + bytes(end))


def test_overlapping_entries_are_rejected(tmp_path: Path) -> None:
    archive = overlapping(1000)
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["a", "b"]
    with pytest.raises(TransferError, match="overlap"):
        extract_archive(archive, tmp_path / "out")
    assert left(tmp_path) == []


def test_an_encrypted_entry_is_rejected(tmp_path: Path) -> None:
    body = bytearray(zipped(("ok", b""), ("secret", b"x" * 100)).getvalue())
    body[body.rindex(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(TransferError, match="'secret' is encrypted"):
        extract_archive(io.BytesIO(body), tmp_path / "out")
    assert left(tmp_path) == []


@posix_only
def test_an_extraction_beyond_the_file_size_limit_leaves_nothing(tmp_path: Path) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    archive = zipped(("a", b"1"), ("big", b"x" * 200_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TransferError, match="big: File too large"):
            extract_archive(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert left(tmp_path) == []


# Moving into place and undoing it


def half_way(folder: Path) -> tuple[Path, io.BytesIO]:
    """Return a directory with files, and an archive that replaces some of them."""
    target = folder / "out"
    (target / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c", "other"):
        (target / name).write_text("mine")
    members = [(name, b"theirs") for name in ("a", "b", "new/x", "new/y", "sub/c", "sub/d")]
    return target, zipped(*members)


def interrupting(real: Callable[..., Any], call: int, error: BaseException, after: bool) -> Any:
    """Return ``real``, which raises before or after its action in the ``call``-th call."""
    calls = iter(range(1, 10_000))

    def wrapped(*args: Any, **options: Any) -> Any:
        due = next(calls) == call
        if due and not after:
            raise error
        result = real(*args, **options)
        if due:
            raise error
        return result

    return wrapped


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "broken"), SystemExit(3)])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 10))
@pytest.mark.parametrize("method", ["rename", "mkdir"])
def test_a_move_interrupted_at_any_point_is_undone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    after: bool,
    call: int,
    method: str,
) -> None:
    target, archive = half_way(tmp_path)
    before = content(tmp_path)
    with monkeypatch.context() as patched:
        faulty = interrupting(getattr(Path, method), call, error, after)
        patched.setattr(Path, method, faulty)
        expected = TransferError if isinstance(error, OSError) else type(error)
        try:
            extract_archive(archive, target, overwrite=True)
        except expected:
            assert content(tmp_path) == before
        else:
            # There are fewer calls.
            assert call > 6
            assert content(target)["a"] == "theirs"


def test_a_cancelled_move_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, archive = half_way(tmp_path)
    before = content(tmp_path)
    transfer = Transfer()
    real = Path.rename

    def rename(source: Path, place: Path) -> Path:
        if place.name == "c":
            transfer.cancel()
        return real(source, place)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(TransferCancelled):
        extract_archive(archive, target, overwrite=True, transfer=transfer)
    assert content(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "broken")])
def test_originals_that_cannot_be_restored_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    target, archive = half_way(tmp_path)
    real = Path.rename

    def rename(source: Path, place: Path) -> Path:
        if place == target / "sub" / "c":
            raise error
        if "old" in source.parts and place == target / "b":
            raise OSError(13, "refused", str(place))
        return real(source, place)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises((TransferError, KeyboardInterrupt)) as caught:
        extract_archive(archive, target, overwrite=True)
    (kept,) = target.glob(".out.*.part/old")
    told = [str(caught.value), *getattr(caught.value, "__notes__", [])]
    assert str(kept) in "".join(told)
    assert isinstance(caught.value, KeyboardInterrupt) == isinstance(error, KeyboardInterrupt)
    assert (target / "a").read_text() == "mine"  # undone after the failed step
    # Undoing "sub/c" failed too, because no file can be created there.
    assert content(kept) == {"b": "mine", "sub": "folder", "sub/c": "mine"}
    shutil.rmtree(kept.parent)
    assert content(target) == {"a": "mine", "other": "mine", "sub": "folder"}


@pytest.mark.parametrize("name", ["a", "b", "new/x"])
def test_a_file_created_meanwhile_is_not_replaced(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "other").write_text("mine")

    def appear(done: int, total: int | None) -> None:
        if done and not (target / name).exists():
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text("mine")

    members = [(member, b"theirs") for member in ("a", "b", "c/d", "new/x")]
    with pytest.raises(FileExistsError):
        extract_archive(zipped(*members), target, transfer=Transfer(appear))
    expected = {name: "mine", "other": "mine"} | ({"new": "folder"} if "/" in name else {})
    assert content(target) == expected
    assert left(tmp_path) == ["out"]


def test_a_directory_created_meanwhile_is_filled(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def appear(done: int, total: int | None) -> None:
        target.mkdir(exist_ok=True)
        (target / "mine").write_text("mine")

    extract_archive(zipped(("a", b"theirs")), target, transfer=Transfer(appear))
    assert content(target) == {"a": "theirs", "mine": "mine"}


@posix_only
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["link/x", "sub/link/x", "link/new/x", "link/"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str, overwrite: bool) -> None:
    target, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (target / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    for folder in (target, target / "sub"):
        (folder / "link").symlink_to(elsewhere)
    before = content(tmp_path)
    with pytest.raises(TransferError, match="is a link"):
        extract_archive(zipped(("a", b"1"), (name, b"")), target, overwrite=overwrite)
    assert content(tmp_path) == before


@posix_only
def test_a_link_in_place_of_a_file_is_replaced_itself(tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    target.mkdir()
    elsewhere.write_text("mine")
    (target / "a").symlink_to(elsewhere)
    with pytest.raises(FileExistsError):
        extract_archive(zipped(("a", b"theirs")), target)
    extract_archive(zipped(("a", b"theirs")), target, overwrite=True)
    assert content(target) == {"a": "theirs"}
    assert elsewhere.read_text() == "mine"


def test_a_rejected_archive_leaves_no_parent_directories(tmp_path: Path) -> None:
    broken = zipped(("a", b"x" * 100)).getvalue().replace(b"xxxx", b"xxxy", 1)
    with pytest.raises(TransferError):
        extract_archive(io.BytesIO(broken), tmp_path / "new" / "er" / "out")
    assert left(tmp_path) == []


@pytest.mark.parametrize("below", ["", "sub", "sub/er"])
def test_a_file_at_the_target_is_rejected_first(tmp_path: Path, below: str) -> None:
    (tmp_path / "out").write_text("mine")
    target = tmp_path / "out" / below
    with pytest.raises(NotADirectoryError):
        check_target_directory(target)
    with pytest.raises(NotADirectoryError):
        extract_archive(io.BytesIO(b"not even looked at"), target, overwrite=True)
    check_target_directory(tmp_path)
    check_target_directory(tmp_path / "new" / "er")
    assert content(tmp_path)["out"] == "mine"


# Broken archives


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_a_damaged_archive_is_extracted_or_rejected(tmp_path: Path, method: int) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in ("a.txt", "sub/b.txt", "sub/ü.txt"):
            archive.writestr(name, os.urandom(40).hex() * 4)
        archive.mkdir("empty")
    sound = file.getvalue()
    dice = random.Random(f"{method}")
    target = tmp_path / "out"
    refused = 0
    for _ in range(300):
        damaged = bytearray(sound)
        for _ in range(dice.choice((1, 1, 2, 8))):
            damaged[dice.randrange(len(damaged))] = dice.choice(
                (0, 1, 0x7F, 0xFF, dice.randrange(256))
            )
        if dice.random() < 0.1:
            del damaged[dice.randrange(len(damaged)) :]
        try:
            extract_archive(io.BytesIO(damaged), target)
        except TransferError:
            refused += 1
        else:
            shutil.rmtree(target)
        assert left(tmp_path) == []
    assert 100 < refused < 300


class FailingArchive(io.BytesIO):
    """Archive on a disk that fails after the central directory was read."""

    broken = False

    def read(self, size: int | None = -1) -> bytes:
        if self.broken:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_an_unreadable_archive_is_rejected(tmp_path: Path) -> None:
    archive = FailingArchive(zipped(("a", b"1" * 100)).getvalue())

    def fail(done: int, total: int | None) -> None:
        archive.broken = True

    with pytest.raises(TransferError, match="archive is broken"):
        extract_archive(archive, tmp_path / "out", transfer=Transfer(fail))
    assert left(tmp_path) == []


def test_a_disk_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TransferError, match=r"b\.txt: No space left"):
        extract_archive(zipped(("sub/b.txt", b"1")), tmp_path / "out")
    assert left(tmp_path) == []


def test_an_exception_of_the_caller_is_unchanged(tmp_path: Path) -> None:
    for error in (ValueError("mine"), BrokenPipeError("mine")):

        def fail(done: int, total: int | None, error: Exception = error) -> None:
            if done:
                raise error

        with pytest.raises(type(error), match="mine"):
            extract_archive(zipped(("a", b"1")), tmp_path / "out", transfer=Transfer(fail))
        assert left(tmp_path) == []


# Names


@pytest.mark.parametrize(
    "name",
    ["x" * 256, "/".join(["x" * 200] * 21), "/".join("x" * 501), "a/../x", "./a"],
)
def test_a_name_that_cannot_be_saved_rejects_the_archive(tmp_path: Path, name: str) -> None:
    with pytest.raises(TransferError, match="the archive was rejected"):
        extract_archive(zipped(("ok", b""), (name, b"")), tmp_path / "out")
    assert left(tmp_path) == []


@posix_only
@pytest.mark.parametrize(
    "name",
    [
        "12:30.log", "1:2", "a/b:c", "x" * 255, "ü" * 127, "/".join("x" * 250), "console",
        "auxiliary.c", "a.", ".con", "con", "a/AUX.txt", "C:/x", "C:x", "..\\x", "a\tb", "a\x1bb",
        "a ", "...",
    ],
)  # fmt: skip
def test_an_unusual_but_valid_name_is_accepted(tmp_path: Path, name: str) -> None:
    extract_archive(zipped((name, b"1")), tmp_path / "out")
    assert (tmp_path / "out" / name).read_bytes() == b"1"


def test_entries_are_counted_with_implied_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_ENTRIES", 10)
    extract_archive(zipped(*((f"{number}", b"") for number in range(10))), tmp_path / "ten")
    for names in (range(11), [f"{number}/x" for number in range(6)]):
        with pytest.raises(TransferError, match="limit of 10"):
            extract_archive(zipped(*((f"{name}", b"") for name in names)), tmp_path / "out")
    assert left(tmp_path) == ["ten"]


def test_names_of_64_kib_are_rejected_quickly(tmp_path: Path) -> None:
    archive = zipped(*((f"{number}/" + "x/" * 32_000 + "x", b"") for number in range(6)))
    began = time.process_time()
    with pytest.raises(TransferError, match="too long") as caught:
        extract_archive(archive, tmp_path / "out")
    assert time.process_time() - began < 1
    assert len(str(caught.value)) < 300


def test_the_cost_of_deep_names_is_linear(tmp_path: Path) -> None:
    names = ["/".join([f"{number}", *["x"] * 150]) + "/" for number in range(1000)]
    archive = zipped(*((name, b"") for name in names), ("../x", b""))
    began = time.process_time()
    with pytest.raises(TransferError, match="leaves the directory"):
        extract_archive(archive, tmp_path / "out")
    assert time.process_time() - began < 3


def test_the_check_of_many_names_can_be_cancelled(tmp_path: Path) -> None:
    transfer = Transfer()
    transfer.cancel()
    # The check no longer finds the file.
    with pytest.raises(TransferCancelled):
        extract_archive(zipped(("../x", b"")), tmp_path / "out", transfer=transfer)


# Modes, and time


@pytest.mark.parametrize("together", [False, True])
def test_files_are_flushed_before_they_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    target = tmp_path / "out"
    flushed: list[int] = []
    synced: list[int] = []

    def sync(folder: Path) -> None:
        assert not target.exists()
        synced.append(sum(1 for path in folder.rglob("*") if path.is_file()))

    monkeypatch.setattr(os, "fsync", flushed.append)
    monkeypatch.setattr(local_files, "sync_file_system", sync)
    monkeypatch.setattr(local_files, "can_sync_file_system", lambda: together)
    full = [(f"full/{number}", b"1") for number in range(150)]
    empty = [(f"{number % 50}/{number}", b"") for number in range(2000)]
    extract_archive(zipped(*empty, *full), target)
    assert (len(flushed), synced) == ((0, [2150]) if together else (150, []))
    # A few files are flushed individually: the file system may have much other data to write.
    flushed.clear()
    extract_archive(zipped(*full[:100]), tmp_path / "few")
    assert (len(flushed), len(synced)) == (100, int(together))


@pytest.mark.skipif(not local_files.can_sync_file_system(), reason="only Linux has syncfs")
def test_a_file_system_can_be_flushed(tmp_path: Path) -> None:
    local_files.sync_file_system(tmp_path)
    with pytest.raises(OSError, match="absent"):
        local_files.sync_file_system(tmp_path / "absent")


def test_files_get_the_modes_that_the_archive_states(tmp_path: Path) -> None:
    modes = {f"f{bits:o}": bits for bits in (0o755, 0o644, 0o666, 0o775, 0o777, 0o600, 0o444)}
    members = [(special(name, stat.S_IFREG | bits), b"1") for name, bits in modes.items()]
    target = extract_archive(zipped(*members), tmp_path / "out")
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == modes


@posix_only
@pytest.mark.parametrize("platform", ["linux", "other"])
def test_the_umask_is_read_without_being_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            if platform != "linux":
                patched.setattr(sys, "platform", platform)

            def refused(mask: int) -> int:
                raise AssertionError("the mask is the whole process's")

            patched.setattr(os, "umask", refused)
            start = threading.Barrier(16)

            def work(number: int) -> set[int]:
                start.wait(10)
                modes = set()
                for turn in range(10):
                    partial = PartialDownload(tmp_path / f"{number}.{turn}", "x")
                    partial.restart(None)
                    partial.publish(overwrite=False)
                    plain = tmp_path / f"{number}.{turn}.plain"
                    plain.touch()
                    modes |= {stat.S_IMODE(path.stat().st_mode) for path in (partial.target, plain)}
                return modes

            with ThreadPoolExecutor(16) as pool:
                assert set().union(*pool.map(work, range(16))) == {0o640}
            assert local_files.current_umask(tmp_path) == 0o027
    finally:
        assert os.umask(before) == 0o027
    assert len(left(tmp_path)) == 320


# Partial downloads


def begun(target: Path, source: str = "s", *, etag: str = '"v1"') -> PartialDownload:
    """Create a partial file of five bytes, as an interrupted process leaves it."""
    partial = PartialDownload(target, source)
    with partial.single_use():
        partial.restart(etag)
        with partial.open() as file:
            file.write(b"12345")
    return partial


def resumed(target: Path, source: str = "s") -> tuple[int, str | None]:
    with PartialDownload(target, source).single_use() as partial:
        return partial.size(), partial.etag


@pytest.mark.parametrize("name", ["😀" * 60, "ü" * 120, "x" * 255, "a😀" * 40])
def test_long_names_can_be_downloaded(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    begun(target)
    assert all(len(entry.encode()) <= 80 for entry in left(tmp_path))
    assert resumed(target) == (5, '"v1"')
    with PartialDownload(target, "s").single_use() as partial:
        partial.publish(overwrite=False)
    assert left(tmp_path) == [name]
    assert left(extract_archive(zipped(("a", b"1")), tmp_path / "out" / name)) == ["a"]


def test_targets_with_a_common_prefix_have_separate_partial_files(tmp_path: Path) -> None:
    begun(tmp_path / ("x" * 64 + "1"))
    assert resumed(tmp_path / ("x" * 64 + "2")) == (0, None)
    assert resumed(tmp_path / ("x" * 64 + "1"), "another source") == (0, None)
    assert resumed(tmp_path / ("x" * 64 + "1")) == (5, '"v1"')


@posix_only
@pytest.mark.parametrize("kind", ["link", "second name", "pipe", "another's"])
def test_a_partial_file_of_another_user_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    target, precious = tmp_path / "b", tmp_path / "precious"
    begun(target)
    (path,) = tmp_path.glob(".b.*.part")
    precious.write_text("precious")
    if kind == "another's":
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    else:
        path.unlink()
    if kind == "link":
        path.symlink_to(precious)
    elif kind == "second name":
        path.hardlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(path)
    with PartialDownload(target, "s").single_use() as partial:
        assert (partial.size(), partial.etag, partial.headers()) == (0, None, {})
        with pytest.raises(TransferError):
            partial.open()
        partial.restart('"v2"')
        with partial.open() as file:
            file.write(b"new")
        partial.publish(overwrite=False)
    assert target.read_bytes() == b"new"
    assert precious.read_text() == "precious"
    assert left(tmp_path) == ["b", "precious"]


@posix_only
def test_a_note_of_another_user_is_not_read(tmp_path: Path) -> None:
    target = tmp_path / "b"
    begun(target)
    (note,) = tmp_path.glob(".b.*.etag")
    note.rename(tmp_path / "elsewhere")
    note.symlink_to(tmp_path / "elsewhere")
    assert resumed(target) == (5, None)
    note.unlink()
    os.mkfifo(note)
    assert resumed(target) == (5, None)


@pytest.mark.parametrize("noted", ["", '"', '"v', 'W/"v"', '"a\nb"', '"' + "x" * 2000 + '"'])
def test_a_truncated_note_is_ignored(tmp_path: Path, noted: str) -> None:
    target = tmp_path / "b"
    begun(target)
    (note,) = tmp_path.glob(".b.*.etag")
    note.write_text(noted)
    assert resumed(target) == (5, None)


@pytest.mark.parametrize("method", ["replace", "unlink"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupted_restart_leaves_a_consistent_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, call: int
) -> None:
    target = tmp_path / "b"
    begun(target)
    with monkeypatch.context() as patched:
        faulty = interrupting(getattr(Path, method), call, KeyboardInterrupt(), False)
        patched.setattr(Path, method, faulty)
        partial = PartialDownload(target, "s")
        if method == "replace" and call > 1:
            partial.restart('"v2"')  # there is only one rename
        else:
            with pytest.raises(KeyboardInterrupt):
                partial.restart('"v2"')
    size, etag = resumed(target)
    # Content with its own ETag, or content that no download resumes.
    assert (size, etag) in {(5, '"v1"'), (5, None), (0, None)}
    assert all(note.read_text() in ('"v1"', '"v2"') for note in tmp_path.glob(".b.*.etag"))
    assert not list(tmp_path.glob(".b.*.new"))


def test_an_obstacle_to_a_partial_file_is_named(tmp_path: Path) -> None:
    target = tmp_path / "b"
    begun(target)
    (path,) = tmp_path.glob(".b.*.part")
    path.unlink()
    path.mkdir()
    with (
        PartialDownload(target, "s").single_use() as partial,
        pytest.raises(TransferError, match="cannot remove"),
    ):
        partial.restart(None)


def test_existing_files_are_listed(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(14)]
    target = extract_archive(zipped(*((name, b"mine") for name in names)), tmp_path / "out")
    with pytest.raises(FileExistsError, match=r"00, .*09 and 4 more already exist"):
        extract_archive(zipped(("new", b"1"), *((name, b"2") for name in names)), target)
    with pytest.raises(FileExistsError, match="03 already exists; pass overwrite=True"):
        extract_archive(zipped(("new", b"1"), ("03", b"2")), target)
    assert sorted(content(target)) == names
