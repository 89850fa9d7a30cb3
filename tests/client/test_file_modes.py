"""Permission bits and empty directories in uploads and downloads."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beray import APIError, BeRayClient, NotFoundError
from beray.testing import FaultServer, ScriptedResponse
from beray.transfers import file_modes
from beray.transfers.archive import extract_archive
from beray.transfers.sync_folder import UploadDirectory, create_directories
from tests.support import done, text

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows has no permission bits")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def task_id(beray_client: BeRayClient) -> int:
    return beray_client.create_task("!true", start=False)["id"]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def modes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): mode(path) for path in folder.rglob("*")}


def listed(client: BeRayClient, task_id: int) -> dict[str, str | None]:
    entries: list[Any] = client.list_files_tree(task_id)
    return {item["path"]: item.get("mode") for item in entries}


def make(folder: Path) -> None:
    """Create files and directories with several modes."""
    for name in ("closed/deep/empty", "bare", "data"):
        (folder / name).mkdir(parents=True)
    for name, bits in (
        ("run.sh", 0o755),
        ("data/secret", 0o600),
        ("data/fixed", 0o444),
        ("closed/x", 0o711),
    ):
        (folder / name).write_text(name)
        (folder / name).chmod(bits)
    for name, bits in (
        ("bare", 0o700),
        ("data", 0o750),
        ("closed/deep/empty", 0o555),
        ("closed", 0o511),
    ):
        (folder / name).chmod(bits)


EXPECTED = {
    "run.sh": 0o755, "data/secret": 0o600, "data/fixed": 0o444, "closed/x": 0o711, "bare": 0o700,
    "data": 0o750, "closed/deep/empty": 0o555, "closed/deep": 0o755, "closed": 0o511,
}  # fmt: skip


def test_modes_survive_an_upload_and_a_download(
    beray_client: BeRayClient, task_id: int, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    make(source)
    result = beray_client.upload_dir(task_id, source)
    assert len(result.uploaded) == 4 and result.left_out == []
    assert listed(beray_client, task_id) == {path: f"{bits:o}" for path, bits in EXPECTED.items()}
    target = beray_client.download_dir(task_id, tmp_path / "target")
    assert modes(target) == EXPECTED
    (tmp_path / "there").mkdir()
    assert modes(beray_client.download_dir(task_id, tmp_path / "there")) == EXPECTED


def test_only_the_changed_mode_is_uploaded(
    beray_client: BeRayClient, task_id: int, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    make(source)
    beray_client.upload_dir(task_id, source)
    assert beray_client.upload_dir(task_id, source).uploaded == []
    (source / "run.sh").chmod(0o644)
    (source / "bare").chmod(0o755)
    assert beray_client.upload_dir(task_id, source).uploaded == ["run.sh"]
    found = listed(beray_client, task_id)
    assert (found["run.sh"], found["bare"]) == ("644", "755")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_git_repository_stays_valid(
    beray_client: BeRayClient, task_id: int, tmp_path: Path
) -> None:
    def git(folder: Path, *arguments: str) -> str:
        environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
        who = ["-c", "user.name=a", "-c", "user.email=a@example.test", "-c", "core.fileMode=true"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=folder, env=environ, check=True, capture_output=True,
            text=True, timeout=60,
        ).stdout  # fmt: skip

    source = tmp_path / "source"
    (source / "src").mkdir(parents=True)
    git(source, "init", "-q")
    (source / "build.sh").write_text("#!/bin/sh\necho built\n")
    (source / "build.sh").chmod(0o755)
    (source / "src" / "a.txt").write_text("a")
    git(source, "add", ".")
    git(source, "commit", "-qm", "first")
    git(source, "gc", "-q")  # git packs the references and leaves .git/refs empty
    beray_client.upload_dir(task_id, source)
    target = beray_client.download_dir(task_id, tmp_path / "target")
    assert git(target, "status", "--porcelain") == ""
    git(target, "fsck", "--strict")
    assert (target / ".git" / "refs" / "heads").is_dir()
    assert git(target, "ls-files", "-s", "build.sh").startswith("100755")
    again = beray_client.upload_dir(task_id, target)
    assert set(again.uploaded) <= {".git/index"}  # git status updates the index


def test_a_program_that_was_uploaded_runs(beray_client: BeRayClient, tmp_path: Path) -> None:
    script = tmp_path / "build.sh"
    script.write_text("#!/bin/sh\necho built\n")
    script.chmod(0o700)
    task = beray_client.create_task("!./build.sh", start=False)
    beray_client.upload_path(task["id"], script)
    beray_client.start_task(task["id"])
    events = list(beray_client.stream_task_updates(task["id"]))
    assert text(events) == "built\n"
    assert events[-1]["status"] == "COMPLETED"


def test_an_overwrite_without_a_mode_keeps_the_old_mode(beray_client: BeRayClient) -> None:
    task_id = done(beray_client, "!echo 1 > run; chmod 750 run; echo 2 > plain")[0]["task_id"]
    for name in ("run", "plain", "new"):
        beray_client.upload_file(task_id, name, b"3")
    assert listed(beray_client, task_id) == {"run": "750", "plain": "644", "new": "644"}
    beray_client.upload_file(task_id, "run", b"4", mode=0o640)
    assert listed(beray_client, task_id)["run"] == "640"


def test_only_permission_bits_are_transferred(beray_client: BeRayClient, tmp_path: Path) -> None:
    command = "!echo 1 > x; chmod 6755 x; mkdir -m 3777 d; echo 2 > set; chmod 4711 set"
    task_id = done(beray_client, command)[0]["task_id"]
    assert listed(beray_client, task_id) == {"x": "755", "d": "777", "set": "711"}
    beray_client.upload_file(task_id, "set", b"3")
    beray_client.upload_file(task_id, "up", b"4", mode=0o7755)
    beray_client.create_directory(task_id, "made", 0o7770)
    found = listed(beray_client, task_id)
    assert (found["set"], found["up"], found["made"]) == ("711", "755", "770")
    target = beray_client.download_dir(task_id, tmp_path / "out")
    assert (mode(target / "x"), mode(target / "up")) == (0o755, 0o755)


def test_a_download_keeps_the_mode_whatever_the_umask_is(
    beray_client: BeRayClient, tmp_path: Path
) -> None:
    command = "!echo 1 > x; chmod 775 x; mkdir -m 777 d; echo 2 > d/y; chmod 640 d/y"
    task_id = done(beray_client, command)[0]["task_id"]
    os.umask(0o027)
    saved = beray_client.download_file(task_id, "x", tmp_path / "x")
    assert mode(saved) == 0o775
    target = beray_client.download_dir(task_id, tmp_path / "out")
    assert modes(target) == {"x": 0o775, "d": 0o777, "d/y": 0o640}


def test_a_server_without_modes_leaves_those_of_replaced_files(tmp_path: Path) -> None:
    for name in ("single", "out/zipped"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("old")
        (tmp_path / name).chmod(0o750)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("zipped", b"new")
        archive.writestr("other", b"new")
    with FaultServer([ScriptedResponse(b"new"), ScriptedResponse(file.getvalue())]) as server:
        client = BeRayClient(server.url)
        client.download_file(1, "single", tmp_path / "single", overwrite=True)
        client.download_dir(1, tmp_path / "out", overwrite=True)
    assert (tmp_path / "single").read_text() == (tmp_path / "out/zipped").read_text() == "new"
    assert mode(tmp_path / "single") == 0o750
    assert modes(tmp_path / "out") == {"zipped": 0o750, "other": 0o644}


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_cannot_create_directories_gets_the_files(
    tmp_path: Path, status: int
) -> None:
    source = tmp_path / "source"
    (source / "empty" / "deep").mkdir(parents=True)
    (source / "full").mkdir()
    (source / "full" / "x").write_text("x")
    answers = [
        ScriptedResponse(b'{"detail": "Not Found"}', 404),  # the directory does not exist yet
        ScriptedResponse(b'{"message": "", "path": "dst/full/x", "size": 1}'),
        ScriptedResponse(b'{"detail": "?"}', status),
    ]
    with FaultServer(answers) as server:
        result = BeRayClient(server.url).upload_dir(1, source, "dst")
        sent = [(request.method, request.path) for request in server.requests]
    assert result.uploaded == ["dst/full/x"]
    assert result.left_out == ["dst/empty", "dst/empty/deep"]
    assert sum("directory" in path for _, path in sent) == 1


def test_a_task_that_does_not_exist_is_an_error(beray_client: BeRayClient, tmp_path: Path) -> None:
    (tmp_path / "source" / "empty").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="Task 999999 does not exist"):
        beray_client.upload_dir(999_999, tmp_path / "source", "dst")


def test_a_published_server_omits_an_empty_directory(
    tmp_path: Path,
) -> None:
    (tmp_path / "source" / "empty").mkdir(parents=True)
    missing = ScriptedResponse(b'{"detail": "Not Found"}', 404)
    with FaultServer([missing, missing, ScriptedResponse(b"[]")]) as server:
        result = BeRayClient(server.url).upload_dir(1, tmp_path / "source", "dst")
    assert result.left_out == ["dst", "dst/empty"]


def test_other_errors_of_the_request_are_raised() -> None:
    def refuse(path: str, bits: int | None) -> object:
        raise APIError("full", status_code=507)

    with pytest.raises(APIError, match="full"):
        create_directories([UploadDirectory("a", None)], [], refuse, list)


@pytest.mark.parametrize(
    ("wanted", "files", "known", "made"),
    [
        ([("a", 0o755)], ["a/x"], {}, []),
        ([("a", 0o755)], ["b/x"], {}, [("a", 0o755)]),
        ([("a", 0o700)], ["a/x"], {}, [("a", 0o700)]),
        ([("a", 0o700), ("a/b", 0o755)], [], {}, [("a/b", 0o755), ("a", 0o700)]),
        ([("a", 0o755), ("a/b", 0o755)], [], {}, [("a/b", 0o755)]),
        ([("a", 0o755)], [], {"a": 0o755}, []),
        ([("a", 0o700)], [], {"a": 0o755}, [("a", 0o700)]),
        ([("a", 0o700)], [], {"a": None}, []),
        ([("a", None)], [], {"a": 0o700}, []),
        ([("a", None)], ["a/b/x"], {}, []),
        ([("a", None)], [], {}, [("a", None)]),
    ],
)
def test_only_necessary_requests_are_sent(
    wanted: list[tuple[str, int | None]],
    files: list[str],
    known: dict[str, int | None],
    made: list[tuple[str, int | None]],
) -> None:
    calls: list[tuple[str, int | None]] = []
    create_directories(
        [UploadDirectory(*one) for one in wanted],
        files,
        lambda *call: calls.append(call),
        list,
        known,
    )
    assert calls == made


def test_archives_state_modes_only_with_a_file_type(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, attributes in (
            ("typed", stat.S_IFREG | 0o600), ("filled", 0o600), ("program", 0o755), ("none", 0),
            ("special", stat.S_IFREG | 0o6711), ("d/", stat.S_IFDIR | 0o1770),
        ):  # fmt: skip
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            archive.writestr(info, b"")
    target = extract_archive(file, tmp_path / "out")
    assert modes(target) == {
        "typed": 0o600, "filled": 0o644, "program": 0o755, "none": 0o644, "special": 0o711,
        "d": 0o770,
    }  # fmt: skip


def test_owner_access_keeps_files_accessible(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, attributes in (("d/", stat.S_IFDIR), ("d/x", stat.S_IFREG | 0o111)):
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes << 16
            archive.writestr(info, b"x")
    target = extract_archive(file, tmp_path / "out", owner_access=True)
    assert modes(target) == {"d": 0o700, "d/x": 0o711}


def test_a_mode_on_the_wire() -> None:
    assert [file_modes.format_mode(bits) for bits in (0o100755, 0o7, 0o104000)] == [
        "755",
        "007",
        "000",
    ]
    for value in ("", "75", "888", "07555", "0x1f", 755, None, "755\n"):
        assert file_modes.parse(value) is None
    assert [file_modes.parse(value) for value in ("755", "0755", "4755")] == [0o755] * 3
