"""Disk quota of a work_dir: measurement, and rejection before data is written."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from acp import RequestError

from beray import BeRayClient
from beray.server.runners.acp.files import TaskFiles
from beray.server.runners.model.file_tools import FileTools
from beray.server.runners.task_paths import TaskPaths
from beray.server.workspace import disk_usage, tree
from beray.server.workspace.disk_quota import DiskQuota, DiskQuotaExceeded, InsufficientSpace
from beray.server.workspace.disk_usage import USAGE_FILE, DiskLimits, DiskUsage
from beray.server.workspace.workspace import Workspaces, open_work_dir
from beray.testing import RunningServer, authorization
from tests.support import done, until

LIMIT = 2_000_000
MANY = DiskLimits(10**12, 10**9)


# Measuring


def blocks(*paths: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in paths)


def test_every_name_counts_and_every_block_once(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "data").write_bytes(b"x" * 100_000)
    os.link(root / "a" / "data", root / "a" / "b" / "again")
    with (root / "hole").open("wb") as file:
        file.truncate(10**9)
    os.symlink("/usr", root / "link")
    os.mkfifo(root / "fifo")
    usage = disk_usage.measure([root])
    counted = (root, root / "a", root / "a" / "b", root / "a" / "data", root / "hole")
    assert usage.bytes == blocks(*counted, root / "link", root / "fifo")
    assert usage.files == 7
    assert usage.is_complete


def test_folders_that_are_not_there_use_nothing(tmp_path: Path) -> None:
    assert disk_usage.measure([tmp_path / "missing"]) == DiskUsage()


def test_any_depth_is_measured_with_few_descriptors(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    root.mkdir()
    folder = os.open(root, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=folder)
        deeper = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    usage = disk_usage.measure([root])
    tree.remove(root)  # which pytest cannot
    assert (usage.files, usage.is_complete) == (3_000, True)


def test_counting_stops_beyond_the_limit(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).touch()
    usage = disk_usage.measure([tmp_path], DiskLimits(10**12, 10))
    assert 10 < usage.files < 20


def test_a_folder_that_cannot_be_read_is_noticed(unprivileged: Path) -> None:
    hidden = unprivileged / "hidden"
    hidden.mkdir()
    (hidden / "large").write_bytes(b"x" * 1_000_000)
    hidden.chmod(0)
    try:
        assert not disk_usage.measure([unprivileged]).is_complete
    finally:
        hidden.chmod(0o700)
    assert disk_usage.measure([unprivileged]).is_complete


async def test_files_in_folders_that_cannot_be_read_count_by_the_growth_of_the_file_system(
    unprivileged: Path,
) -> None:
    hidden = unprivileged / "hidden"
    hidden.mkdir()
    hidden.chmod(0o300)
    space = DiskQuota(unprivileged, DiskLimits(LIMIT, 1_000))

    def write() -> None:
        (hidden / "large").write_bytes(b"x" * 20_000_000)

    writing = threading.Timer(0.5, write)
    writing.start()
    try:
        with pytest.raises(DiskQuotaExceeded, match="cannot be read"):
            await space.enforce()
    finally:
        writing.join()
        hidden.chmod(0o700)


@pytest.mark.parametrize("content", ["", "junk", "1 2 3", "-5 -5", "9" * 60])
def test_a_report_that_is_damaged_counts_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / USAGE_FILE).write_text(content)
    assert disk_usage.unlinked_usage(tmp_path) == DiskUsage()


# Reserving


def quota_of(folder: Path, *, size: int = LIMIT, files: int = 10) -> DiskQuota:
    return DiskQuota(folder, DiskLimits(size, files))


def test_concurrent_reservations_count(tmp_path: Path) -> None:
    space = quota_of(tmp_path)
    one = space.reservation(files=1)
    one.grow_to(1_200_000)
    other = space.reservation(files=1)
    with pytest.raises(
        InsufficientSpace, match=r"1,200,128 more bytes .* of 2,000,000 bytes"
    ) as refused:
        other.grow_to(1_200_000)
    assert not refused.value.fits_never
    one.close(written=False)
    one.close(written=False)
    other.grow_to(1_200_000)
    other.close(written=True)
    with pytest.raises(InsufficientSpace):
        space.reservation(files=1).grow_to(1_200_000)


def test_files_that_never_fit_are_marked(tmp_path: Path) -> None:
    with pytest.raises(InsufficientSpace) as refused:
        quota_of(tmp_path).reservation(files=1).grow_to(LIMIT + 1)
    assert refused.value.fits_never


def test_a_file_that_is_replaced_gives_its_space(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"x" * 1_500_000)
    workspaces = Workspaces(tmp_path / "all", quota_of=quota_of)
    workspaces.create(1)
    for _ in range(3):
        with workspaces.open(1) as workspace, workspace.write("file") as writer:
            for _ in range(15):
                writer.write(b"x" * 100_000)
    with (
        workspaces.open(1) as workspace,
        pytest.raises(InsufficientSpace),
        workspace.write("b") as writer,
    ):
        writer.write(b"x" * 1_500_000)
    assert os.listdir(workspaces.path(1)) == ["file"]


def test_the_number_of_files_is_limited(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, quota_of=quota_of)
    workspaces.create(1)
    for number in range(10):
        with workspaces.open(1) as workspace, workspace.write(str(number)) as writer:
            writer.write(b"x")
    with workspaces.open(1) as workspace, pytest.raises(InsufficientSpace, match="10 of 10 files"):
        workspace.write("another")
    with workspaces.open(1) as workspace, workspace.write("3") as writer:
        writer.write(b"replaced")


def test_folders_that_are_made_on_the_way_count(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path, quota_of=quota_of)
    workspaces.create(1)
    with workspaces.open(1) as workspace:
        with pytest.raises(InsufficientSpace, match="files and folders"):
            workspace.write("a/" * 10 + "file")
        with workspace.write("a/" * 8 + "file") as writer:
            writer.write(b"x")
        with workspace.write("a/" * 8 + "second"):
            pass
        with pytest.raises(InsufficientSpace):
            workspace.write("third")


def test_tools_of_models_do_not_exceed_the_quota(tmp_path: Path) -> None:
    work_dir = Workspaces(tmp_path).create(1)
    tools = FileTools(work_dir, space=quota_of(work_dir))
    tools.write_file("a", "first\n" + "x" * 1_500_000)
    with pytest.raises(InsufficientSpace, match="delete files first"):
        tools.write_file("b", "x" * 1_500_000)
    with pytest.raises(InsufficientSpace):
        tools.edit_file("a", "first", "y" * 700_000)
    assert os.listdir(work_dir) == ["a"]


def test_agents_do_not_exceed_the_quota(tmp_path: Path) -> None:
    work_dir = Workspaces(tmp_path).create(1)
    files = TaskFiles(work_dir, paths=TaskPaths(work_dir, "/w"), space=quota_of(work_dir))
    files.write("/w/a", "x" * 1_500_000)
    with pytest.raises(RequestError, match="of 2,000,000 bytes"):
        files.write("/w/b", "x" * 1_500_000)
    assert os.listdir(work_dir) == ["a"]


def test_without_a_quota_no_file_is_rejected(tmp_path: Path) -> None:
    work_dir = Workspaces(tmp_path).create(1)
    with open_work_dir(work_dir) as workspace, workspace.write("a") as writer:
        writer.write(b"x" * 3_000_000)


# Uploads


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer.start(
        tmp_path_factory.mktemp("server"),
        BERAY_WORK_DIR_BYTES=str(LIMIT),
        BERAY_WORK_DIR_FILES="20",
    ) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[BeRayClient]:
    with server.sign_up() as client:
        yield client


def put(client: BeRayClient, task: int, path: str, body: Any) -> requests.Response:
    return requests.put(
        f"{client.base_url}/api/v1/tasks/{task}/files/content",
        params={"path": path},
        data=body,
        headers=authorization(client),
        timeout=30,
    )


def held(client: BeRayClient) -> int:
    return client.create_task("!true", start=False)["id"]


@pytest.mark.parametrize("chunked", [False, True])
def test_uploads_beyond_the_quota_are_rejected_with_numbers(
    server: RunningServer, client: BeRayClient, chunked: bool
) -> None:
    task = held(client)

    def body(size: int) -> Any:
        return (b"x" * 100_000 for _ in range(size // 100_000)) if chunked else b"x" * size

    assert put(client, task, "a", body(1_500_000)).ok
    refused = put(client, task, "b", body(1_500_000))
    assert refused.status_code == 507
    assert "of 2,000,000 bytes (BERAY_WORK_DIR_BYTES) are used" in refused.json()["detail"]
    assert put(client, task, "a", body(1_800_000)).ok
    work_dir = server.data_dir / "workspaces" / str(task)
    assert os.listdir(work_dir) == ["a"]
    until(lambda: not os.listdir(server.data_dir / "workspaces" / ".incoming"))


def test_a_file_that_never_fits_is_too_large(client: BeRayClient) -> None:
    refused = put(client, held(client), "a", b"x" * 30_000_000)
    assert refused.status_code == 413
    assert "2,000,000 bytes" in refused.json()["detail"]


def test_uploads_side_by_side_do_not_exceed_the_quota(
    server: RunningServer, client: BeRayClient
) -> None:
    task = held(client)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: put(client, task, str(n), b"x" * 600_000), range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [507] * 9
    assert disk_usage.measure([server.data_dir / "workspaces" / str(task)]).bytes <= LIMIT


def test_too_many_files_are_rejected(client: BeRayClient) -> None:
    task = held(client)
    answers = [put(client, task, str(number), b"").status_code for number in range(22)]
    assert answers == [200] * 20 + [507] * 2


def test_deleted_files_free_their_quota(client: BeRayClient) -> None:
    task = client.create_task("!while [ ! -e go ]; do sleep 0.05; done; rm a", start=False)["id"]
    assert put(client, task, "a", b"x" * 1_800_000).ok
    assert put(client, task, "b", b"x" * 1_800_000).status_code == 507
    client.start_task(task)
    assert put(client, task, "go", b"").ok
    assert list(client.stream_task_updates(task))[-1]["status"] == "COMPLETED"
    assert put(client, task, "b", b"x" * 1_800_000).ok


def test_files_written_by_a_task_count(client: BeRayClient) -> None:
    task = done(client, "!head -c 1800000 /dev/zero > a")[0]["task_id"]
    assert put(client, task, "b", b"x" * 1_800_000).status_code == 507


def test_a_chat_whose_work_dir_is_full_is_not_answered(
    server: RunningServer, client: BeRayClient
) -> None:
    task = client.open_chat("full")["id"]
    work_dir = server.data_dir / "workspaces" / str(task)
    (work_dir / "large").write_bytes(b"x" * 3_000_000)
    client.send_chat_message("full", "!echo fine")
    until(lambda: client.get_task(task)["last_seq"] >= 4)
    codes = [event.get("code") for event in client.get_task(task)["events"]]
    assert "QUOTA" in codes
    shutil.rmtree(work_dir)
