"""Server that runs as root: each user's commands have a separate uid and cannot change the host."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from beray import BeRayClient
from beray.server.prefabs import archives
from beray.server.workspace import atomic_file
from beray.server.workspace.atomic_file import AtomicFileWriter
from beray.server.workspace.ownership import inherit_owner
from beray.server.workspace.workspace import Workspace, open_work_dir
from beray.testing import RunningServer, authorization
from tests.gateway_support import refusal
from tests.server.gateway.prefab_calls import Caller, add, call, put
from tests.server.gateway.prefab_folders import write_prefab
from tests.server.sandbox.sandbox_harness import RANGE, SandboxHarness, require_root
from tests.support import done, sleepers, text, until

HOST_FILES = (
    "/proc/sys /proc/irq /proc/pressure /proc/bus /proc/fs /proc/acpi /proc/scsi /proc/driver /sys"
)
# Opening for appending changes nothing, but needs the same permission as writing.
OPEN_ALL = f"""
for file in /proc/sysrq-trigger $(find {HOST_FILES} -type f 2>/dev/null); do
    (: >> "$file") 2>/dev/null && echo "opened $file"
done
for file in kernel/core_pattern kernel/panic vm/overcommit_memory; do
    cat /proc/sys/$file > /dev/null && echo "read $file"
done
"""
PREFAB = """
import itertools
import os

def main(call):
    opened, read = [], []
    for top in TOPS:
        for folder, _, names in os.walk(top):
            for name in names:
                try:
                    os.close(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_APPEND))
                    opened.append(os.path.join(folder, name))
                except OSError:
                    pass
    for name in ("kernel/core_pattern", "kernel/panic", "vm/overcommit_memory"):
        with open(os.path.join("/proc/sys", name)) as file:
            read.append(file.read())
    try:
        os.close(os.open("/proc/sysrq-trigger", os.O_WRONLY))
        opened.append("/proc/sysrq-trigger")
    except OSError:
        pass
    call.output("out", "made.txt").write_bytes(call.files["file"][0].read_bytes())
    call.files["file"][0].write_text("changed")
    return {"opened": opened, "read": len(read), "uid": os.getuid()}
"""
FUNCTION = """
[functions.main]
[functions.main.files.inputs.file]
required = true
[functions.main.files.outputs.out]
"""


@pytest.fixture
def alice(root_server: RunningServer) -> BeRayClient:
    return root_server.sign_up()


def uid_of(client: BeRayClient) -> int:
    return RANGE.of_user(int(client.get_current_user()["id"]))


def work_dir(server: RunningServer, task: Any) -> Path:
    return server.data_dir / "workspaces" / str(task["id"])


def owners(folder: Path) -> set[tuple[int, int]]:
    """Return the uids and gids of a directory and its content."""
    found = [folder, *folder.rglob("*")]
    return {(path.lstat().st_uid, path.lstat().st_gid) for path in found}


def sleeper(client: BeRayClient, mark: str) -> tuple[Any, psutil.Process]:
    task = client.create_task(f"!sleep {mark} & sleep {mark}; wait")
    until(lambda: len(sleepers(mark)) == 2)
    return task, sleepers(mark)[0]


def test_a_goal_cannot_open_settings_of_the_host_for_writing(alice: BeRayClient) -> None:
    events = done(alice, f"!{OPEN_ALL}")
    assert text(events).split("\n") == [
        "read kernel/core_pattern",
        "read kernel/panic",
        "read vm/overcommit_memory",
        "",
    ]


def test_a_prefab_cannot_open_settings_of_the_host_for_writing(
    root_server: RunningServer, tmp_path: Path
) -> None:
    module = PREFAB.replace("TOPS", repr(HOST_FILES.split()))
    archive = archives.pack(write_prefab(tmp_path / "prefab", module, FUNCTION))
    caller = Caller.new(root_server)
    with caller.account:
        added = add(caller.account, archive)
        assert added.status_code == 201, added.text
        url = put(caller, "in.txt", "in")
        result = caller.result(call("main", {"file": [url]}))
        uid = uid_of(caller.account)
    assert result["output"]["output"] == {"opened": [], "read": 3, "uid": uid}
    assert len(result["output"]["files"]["out"]) == 1


def test_the_host_sees_the_uid_of_the_user(alice: BeRayClient) -> None:
    task, process = sleeper(alice, "9871")
    assert set(process.uids()) == set(process.gids()) == {uid_of(alice)}
    status = Path(f"/proc/{process.pid}/status").read_text()
    assert "Groups:\t \n" in status
    assert "CapEff:\t0000000000000000" in status
    # The mounts of its sandbox are in a separate namespace.
    assert "\nberay " not in Path("/proc/mounts").read_text()
    alice.stop_task(task["id"])
    until(lambda: not sleepers("9871"))


def test_a_user_can_neither_signal_nor_trace_the_commands_of_another(
    root_server: RunningServer, alice: BeRayClient
) -> None:
    task, process = sleeper(alice, "9872")
    with root_server.sign_up() as bob:
        assert uid_of(bob) != uid_of(alice)
        for uid, allowed in ((uid_of(alice), True), (uid_of(bob), False)):
            # Outside of any sandbox, where the pid of the process is valid.
            signalled = subprocess.run(
                ["kill", "-0", str(process.pid)], user=uid, group=uid, extra_groups=[],
                capture_output=True, check=False,
            )  # fmt: skip
            assert (signalled.returncode == 0) == allowed
        traced = subprocess.run(
            ["cat", f"/proc/{process.pid}/environ"], user=uid_of(bob), group=uid_of(bob),
            extra_groups=[], capture_output=True, check=False,
        )  # fmt: skip
        assert traced.returncode != 0
    alice.stop_task(task["id"])
    until(lambda: not sleepers("9872"))


def test_a_stop_ends_the_whole_tree(alice: BeRayClient) -> None:
    task = alice.create_task("!(setsid sleep 9873 &) ; sleep 9873 & trap '' TERM INT; sleep 9873")
    until(lambda: len(sleepers("9873")) == 3)
    alice.stop_task(task["id"])
    until(lambda: not sleepers("9873"))
    events = list(alice.stream_task_updates(task["id"]))
    assert events[-1]["status"] == "STOPPED"


def test_files_of_commands_and_uploads_belong_to_the_user(
    root_server: RunningServer, alice: BeRayClient
) -> None:
    task = alice.create_task("!cat new/deep/upload.txt > made", start=False)
    alice.upload_file(task["id"], "new/deep/upload.txt", b"uploaded")
    alice.start_task(task["id"])
    until(lambda: alice.get_task(task["id"])["status"] == "COMPLETED")
    found = work_dir(root_server, task)
    assert owners(found) == {(uid_of(alice), uid_of(alice))}


def test_a_command_can_change_uploaded_files(
    root_server: RunningServer, alice: BeRayClient
) -> None:
    goal = (
        "!echo more >> new/deep/upload.txt && rm -r new && mkdir -m 0700 new && echo x > new/file"
    )
    task = alice.create_task(goal, start=False)
    alice.upload_file(task["id"], "new/deep/upload.txt", b"uploaded")
    alice.start_task(task["id"])
    events = list(alice.stream_task_updates(task["id"]))
    assert events[-1]["status"] == "COMPLETED", text(events)
    alice.upload_file(task["id"], "new/other/upload.txt", b"uploaded")
    assert owners(work_dir(root_server, task)) == {(uid_of(alice), uid_of(alice))}


# The data directory of another server


def old_server(server: RunningServer, client: BeRayClient) -> Path:
    """Return a work_dir in the state of a server without uids; the server is stopped."""
    task = client.create_task(
        "!mkdir -p a/b/c shut && echo 1 > a/b/c/file && ln a/b/c/file a/second && ln -s /etc/passwd "
        "passwd && ln -s ../.. up && mkfifo fifo && chmod 000 shut && echo 2 > a/b/2"
    )
    assert list(client.stream_task_updates(task["id"]))[-1]["status"] == "COMPLETED"
    server.stop()
    found = work_dir(server, task)
    for path in [found, *found.rglob("*")]:
        os.lchown(path, 0, 0)
    return found


@pytest.fixture
def server(tmp_path: Path) -> Any:
    require_root()
    with RunningServer.start(tmp_path / "data", BERAY_SANDBOX="auto") as server:
        if "sandbox: bubblewrap" not in server.log.read_text():
            pytest.skip("bubblewrap does not work here")
        yield server


def test_the_owner_of_an_existing_work_dir_is_corrected(server: RunningServer) -> None:
    client = server.sign_up()
    found, uid = old_server(server, client), RANGE.of_user(1)
    before = {path: os.lstat(path) for path in (Path("/etc/passwd"), server.data_dir)}
    server.restart()
    assert owners(found) == {(uid, uid)}
    assert {path: os.lstat(path).st_uid for path in before} == dict.fromkeys(before, 0)
    assert "changed to the uids" in server.log.read_text()


def test_an_interrupted_change_of_owners_is_completed(server: RunningServer) -> None:
    client = server.sign_up()
    found, uid = old_server(server, client), RANGE.of_user(1)
    # As after a kill: the owners of some files have been changed, that of the work_dir has not.
    for path in list(found.rglob("*"))[::2]:
        os.lchown(path, uid, uid)
    server.restart()
    assert owners(found) == {(uid, uid)}


@pytest.mark.parametrize(
    "begin",
    [
        lambda work: work.write("a/b/c/file").commit(),
        lambda work: work.make_directory("a/b/c/folder"),
    ],
    ids=["file", "folder"],
)
def test_a_server_killed_in_the_middle_of_an_upload_leaves_no_directory_of_root(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, begin: Callable[[Workspace], object]
) -> None:
    client = server.sign_up()
    task = client.create_task("!true")
    list(client.stream_task_updates(task["id"]))
    found, uid = work_dir(server, task), RANGE.of_user(1)
    server.stop()
    # As after a kill between mkdir and chown: nothing is completed or undone.
    monkeypatch.setattr(AtomicFileWriter, "discard", lambda _self: None)
    monkeypatch.setattr(Path, "rmdir", lambda _self: None)
    monkeypatch.setattr(atomic_file, "_remove_created", lambda _work_dir, _parts: None)
    with monkeypatch.context() as killed, open_work_dir(found) as workspace:
        killed.setattr(atomic_file, "inherit_owner", _killed_at_second_call())
        with pytest.raises(KeyboardInterrupt):
            begin(workspace)
    assert owners(found) == {(uid, uid), (0, 0)}
    server.restart()
    assert owners(found) == {(uid, uid)}


def _killed_at_second_call() -> Callable[[int, int], None]:
    calls = itertools.count(1)

    def killed(descriptor: int, directory: int) -> None:
        if next(calls) > 1:
            raise KeyboardInterrupt
        inherit_owner(descriptor, directory)

    return killed


def test_a_file_with_a_hard_link_elsewhere_keeps_its_owner(
    server: RunningServer, tmp_path: Path
) -> None:
    client = server.sign_up()
    found, uid = old_server(server, client), RANGE.of_user(1)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    os.link(secret, found / "linked")
    server.restart()
    assert secret.stat().st_uid == 0
    (found / "linked").unlink()
    assert owners(found) == {(uid, uid)}
    assert "hard links elsewhere" in server.log.read_text()


def test_owners_are_corrected_after_a_server_without_a_sandbox(server: RunningServer) -> None:
    client = server.sign_up()
    task = client.create_task("!echo 1 > mine")
    list(client.stream_task_updates(task["id"]))
    server.restart(BERAY_SANDBOX="none")
    found = work_dir(server, task)
    assert found.stat().st_uid == 0
    (found / "as-root").write_text("written by a command without a sandbox")
    server.restart(BERAY_SANDBOX="auto")
    uid = uid_of(client)
    assert owners(found) == {(uid, uid)}


def test_owners_are_corrected_for_another_range(server: RunningServer) -> None:
    client = server.sign_up()
    task = client.create_task("!echo 1 > mine")
    list(client.stream_task_updates(task["id"]))
    server.restart(BERAY_SANDBOX_UIDS="700000-700009")
    uid = 700000 + int(client.get_current_user()["id"])
    assert owners(work_dir(server, task)) == {(uid, uid)}
    assert text(done(client, "!id -u")) == f"{uid}\n"


def test_a_user_beyond_the_range_gets_an_error(tmp_path: Path, harness: SandboxHarness) -> None:
    del harness  # bubblewrap works here
    require_root()
    settings = {"BERAY_SANDBOX_UIDS": "700000-700001", "BERAY_PREFAB_AUTHORS": "*"}
    with RunningServer.start(tmp_path / "data", settings) as server:
        first, second = server.sign_up(), server.sign_up()
        assert done(first, "!true")[-1]["status"] == "COMPLETED"
        rejected = requests.post(
            f"{server.url}/api/v1/tasks/",
            json={"goal": "!true"},
            headers=authorization(second),
            timeout=30,
        )
        assert rejected.status_code == 503
        assert "BERAY_SANDBOX_UIDS=700000-700001" in rejected.json()["detail"]
        assert second.list_tasks() == []
        module = "def main(call):\n    return {}\n"
        archive = archives.pack(write_prefab(tmp_path / "prefab", module, "[functions.main]"))
        assert refusal(add(second, archive)) == (503, "NO_SANDBOX_UID")
        # Everything else still works.
        assert add(first, archive).ok
        failed = Caller.of(server, second).failure(call("main"))
        assert "BERAY_SANDBOX_UIDS=700000-700001" in failed["message"]
        assert second.get_current_user()


def test_uploaded_files_are_executable_and_writable_for_the_user(
    root_server: RunningServer, alice: BeRayClient
) -> None:
    task = alice.create_task("!./build.sh; touch made/x; rmdir made/empty; ls made", start=False)
    alice.upload_file(task["id"], "build.sh", "#!/bin/sh\nid -u\n", mode=0o700)
    alice.create_directory(task["id"], "made/empty", 0o700)
    folder = work_dir(root_server, task)
    assert owners(folder) == {(uid_of(alice), uid_of(alice))}
    alice.start_task(task["id"])
    events = list(alice.stream_task_updates(task["id"]))
    # The first word is the uid inside the sandbox, which differs from that on the host.
    assert text(events).split()[1:] == ["x"]
    assert events[-1]["status"] == "COMPLETED"
    alice.upload_file(task["id"], "build.sh", "changed")
    status = (folder / "build.sh").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (uid_of(alice), 0o700)
