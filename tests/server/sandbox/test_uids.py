"""Ranges of uids, and work_dirs that do not belong to the server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from beray.server import lifecycle
from beray.server.lifecycle import CannotServe
from beray.server.prefabs import process
from beray.server.sandbox import work_dir_owners
from beray.server.sandbox.sandbox import Sandbox
from beray.server.sandbox.work_dir_owners import UnusableWorkDir
from beray.server.setting_types import uids
from beray.server.setting_types.uids import NoSandboxUid, UidRange
from beray.server.settings import Settings
from beray.server.workspace.ownership import chown_tree, make_world_readable
from beray.server.workspace.workspace import Workspaces
from tests.server.sandbox.sandbox_harness import require_root


def test_the_default_contains_no_uids_that_other_programs_assign() -> None:
    found = uids.parse(uids.DEFAULT)
    for assigned in (0, 999, 65534, 65535, 100000, 600100000, 1879048191, 2000200000, 2147352576):
        assert assigned not in found
    assert found.of_user(None) == found.first
    assert found.of_user(1) != found.of_user(2)
    assert found.of_user(900_000) in found


@pytest.mark.parametrize(
    "text",
    ["", "1000", "x-y", "1000-", "-1000", "2000-1000", "2000-2000", "0-5000", "999-5000",
     "60000-70000", "2147483000-2147483648", "99999999999-999999999999", "1000-2000-3000",
     "٣٠٠٠-٤٠٠٠"],
)  # fmt: skip
def test_an_invalid_range_is_rejected(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("BERAY_SANDBOX_UIDS", text)
    with pytest.raises(ValidationError, match="sandbox_uids"):
        Settings()


def test_a_user_beyond_the_range_has_no_uid() -> None:
    found = UidRange(70000, 70002)
    assert found.of_user(2) == 70002
    with pytest.raises(NoSandboxUid, match="user 3 has no uid in BERAY_SANDBOX_UIDS=70000-70002"):
        found.of_user(3)


@pytest.mark.parametrize(
    ("uid_map", "exists"),
    [
        ("         0          0 4294967295\n", True),
        ("         0     100000      65536\n", False),
        ("0 1000 1\n1 100000 65536\n70000 300000 10\n", True),
        ("0 0 70002\n", False),
        ("", False),
    ],
)
def test_a_range_must_exist_in_the_user_namespace(uid_map: str, exists: bool) -> None:
    found = UidRange(70000, 70002).unmapped(uid_map)
    assert (found is None) == exists
    assert exists or "BERAY_SANDBOX_UIDS=70000-70002 do not exist" in str(found)


def test_accounts_of_the_host_in_the_range_are_found(tmp_path: Path) -> None:
    passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:70001:70001::/home/ada:/bin/sh\n+\n#\n"
    (tmp_path / "passwd").write_text(passwd)
    (tmp_path / "subuid").write_text("ada:100000:65536\nbob:165536:65536\nbroken:x:y\n")
    names = [f"{tmp_path}/passwd: ada", f"{tmp_path}/subuid: ada", f"{tmp_path}/subuid: bob"]
    assert UidRange(70000, 70002).shared_with(tmp_path) == names[:1]
    assert UidRange(80000, 100000).shared_with(tmp_path) == names[1:2]
    assert UidRange(60000, 300000).shared_with(tmp_path) == names
    assert uids.parse(uids.DEFAULT).shared_with(tmp_path) == []
    assert UidRange(70000, 70002).shared_with(tmp_path / "nothing") == []


def test_a_directory_of_another_user_has_no_uid(tmp_path: Path) -> None:
    with pytest.raises(NoSandboxUid, match=f"uid {os.geteuid()}.*BERAY_SANDBOX_UIDS"):
        uids.parse(uids.DEFAULT).require(tmp_path)


def test_only_bubblewrap_of_root_has_own_uids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    assert Sandbox("none", settings=settings).uid_of(1) is None
    assert Sandbox("bubblewrap", settings=settings).has_own_uids == (os.geteuid() == 0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert Sandbox("bubblewrap", settings=settings).uid_of(1) is None


def test_a_server_that_is_not_root_reports_a_work_dir_of_another_user(
    unprivileged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Workspaces(unprivileged / "workspaces").create(1)
    work_dir_owners.correct_owners(path.parent, {1: 1}, lambda _user: None)
    if os.getuid() != 0:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    else:
        os.seteuid(0)
        os.chown(path, 2100000001, 2100000001)
        os.seteuid(65534)
    with pytest.raises(UnusableWorkDir, match=r"sudo chown -R \d+ "):
        work_dir_owners.correct_owners(path.parent, {1: 1}, lambda _user: None)


def test_a_data_directory_of_root_is_reported(unprivileged: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can create a directory of another user")
    data_dir = unprivileged / "data"
    os.seteuid(0)
    data_dir.mkdir(mode=0o700)
    os.seteuid(65534)
    with (
        pytest.raises(CannotServe, match="belongs to uid 0, and this server runs as uid 65534"),
        lifecycle.locked_data_dir(data_dir, 0.0),
    ):
        raise AssertionError("the directory does not belong to the server")


def test_an_owner_that_cannot_be_changed_is_logged(unprivileged: Path) -> None:
    workspaces = Workspaces(unprivileged / "workspaces")
    first, second = workspaces.create(1), workspaces.create(2)
    with capture_logs() as logged:
        work_dir_owners.correct_owners(workspaces.root, {1: 1, 2: 2}, lambda _user: 2100000001)
    assert [entry["path"] for entry in logged] == [str(first), str(second)]
    assert {entry["problem"] for entry in logged} == {"Operation not permitted"}


def test_links_and_files_in_place_of_work_dirs_are_ignored(tmp_path: Path) -> None:
    require_root()
    root = Workspaces(tmp_path / "workspaces").root
    (root / "1").symlink_to(tmp_path)
    (root / "2").touch()
    work_dir_owners.correct_owners(root, dict.fromkeys((1, 2, 3), 1), lambda _user: 2100000001)
    assert {path.lstat().st_uid for path in (root / "1", root / "2", tmp_path)} == {0}


def test_directories_that_belong_to_no_task_are_ignored(tmp_path: Path) -> None:
    require_root()
    root = Workspaces(tmp_path / "workspaces").root
    for name in ("7", "notes", "-1"):
        (root / name).mkdir()
    work_dir_owners.correct_owners(root, {1: 1}, lambda _user: 2100000001)
    assert {path.stat().st_uid for path in root.iterdir()} == {0}


def test_a_user_without_a_uid_does_not_affect_other_users(tmp_path: Path) -> None:
    require_root()
    workspaces = Workspaces(tmp_path / "workspaces")
    first, second = workspaces.create(1), workspaces.create(2)
    work_dir_owners.correct_owners(workspaces.root, {1: 9, 2: 1}, UidRange(70000, 70002).of_user)
    assert (first.stat().st_uid, second.stat().st_uid) == (0, 70001)


def test_links_are_not_followed(tmp_path: Path) -> None:
    require_root()
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    (outside / "inner").mkdir(parents=True)
    tree.mkdir()
    (tree / "folder").symlink_to(outside)
    (tree / "inner").symlink_to(outside / "inner")
    chown_tree(tree, 70001)
    assert {path.stat().st_uid for path in (outside, outside / "inner")} == {0}
    assert {path.lstat().st_uid for path in [tree, *tree.iterdir()]} == {70001}
    with pytest.raises(OSError, match="tree"):
        chown_tree(tree / "folder", 70002)


def test_devices_keep_their_owner(tmp_path: Path) -> None:
    require_root()
    try:
        os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    except OSError:
        pytest.skip("devices cannot be created here")
    chown_tree(tmp_path, 70001)
    assert (tmp_path / "null").stat().st_uid == 0


def test_the_owner_of_the_directory_itself_changes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner indicates that its content has been changed."""
    require_root()
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "file").touch()
    real = os.chown

    def killed(path: object, *arguments: int, **options: int) -> None:
        if path == b"file":
            raise KeyboardInterrupt
        real(path, *arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "chown", killed)
        chown_tree(tmp_path / "tree", 70001)
    assert (tmp_path / "tree").stat().st_uid == 0
    chown_tree(tmp_path / "tree", 70001)
    assert {path.stat().st_uid for path in (tmp_path / "tree").rglob("*")} == {70001}


def test_a_python_that_others_cannot_read_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.touch(mode=0o750)
    monkeypatch.setattr("sys.executable", str(program))
    assert process.unreadable_paths() == [str(program)]
    program.chmod(0o755)
    assert process.unreadable_paths() == []


def test_a_prefab_becomes_readable_for_all(tmp_path: Path) -> None:
    prefab = tmp_path / "prefab"
    (prefab / "data").mkdir(mode=0o700, parents=True)
    (prefab / "data" / "file").touch(mode=0o600)
    outside = tmp_path / "outside"
    outside.touch(mode=0o600)
    (prefab / "link").symlink_to(outside)
    prefab.chmod(0o700)
    make_world_readable(prefab)
    modes = [path.stat().st_mode & 0o777 for path in (prefab, prefab / "data")]
    assert modes == [0o755, 0o755]
    assert (prefab / "data" / "file").stat().st_mode & 0o777 == 0o644
    assert outside.stat().st_mode & 0o777 == 0o600
