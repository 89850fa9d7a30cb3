"""A server that is root: its users' commands have uids of their own and cannot reach the host."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from gateway_support import refusal
from support import done, sleepers, text, until

from beray import BeRayClient
from beray.server.gateway.prefabs import archives
from beray.testing import RunningServer
from tests.server.gateway.prefab_calls import Caller, add, call, put
from tests.server.gateway.prefab_folders import write_prefab

from .conftest import RANGE, Box, require_root

HOST_FILES = "/proc/sys /proc/irq /proc/bus /proc/fs /proc/acpi /proc/scsi /proc/driver /sys"
# Opening for appending changes nothing, and needs the same permission as writing.
OPEN_ALL = f"""
for file in /proc/sysrq-trigger $(find {HOST_FILES} -type f 2>/dev/null); do
    (: >> "$file") 2>/dev/null && echo "opened $file"
done
for file in kernel/core_pattern kernel/panic vm/overcommit_memory; do
    cat /proc/sys/$file > /dev/null && echo "read $file"
done
"""
PREFAB = """
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
    """Uids and gids of a directory and of all that is in it."""
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
    archive = archives.packed(write_prefab(tmp_path / "prefab", module, FUNCTION))
    caller = Caller.new(root_server)
    with caller.account:
        added = add(root_server, archive, str(caller.account._session.headers["Authorization"]))
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
    # The mounts that its sandbox is made of are in a namespace of their own.
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
            # Outside of any sandbox, where the process can be named.
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


def test_files_belong_to_the_user_whoever_writes_them(
    root_server: RunningServer, alice: BeRayClient
) -> None:
    task = alice.create_task("!cat new/deep/upload.txt > made", start=False)
    alice.upload_file(task["id"], "new/deep/upload.txt", b"uploaded")
    alice.start_task(task["id"])
    until(lambda: alice.get_task(task["id"])["status"] == "COMPLETED")
    found = work_dir(root_server, task)
    assert owners(found) == {(uid_of(alice), uid_of(alice))}


def test_a_command_changes_what_was_uploaded(
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


def test_a_user_beyond_the_range_is_told(tmp_path: Path, box: Box) -> None:
    del box  # bubblewrap works here
    require_root()
    settings = {"BERAY_SANDBOX_UIDS": "700000-700001", "BERAY_PREFAB_AUTHORS": "*"}
    with RunningServer.start(tmp_path / "data", **settings) as server:
        first, second = server.sign_up(), server.sign_up()
        assert done(first, "!true")[-1]["status"] == "COMPLETED"
        refused = second._session.post(
            f"{server.url}/api/v1/tasks/", json={"goal": "!true"}, timeout=30
        )
        assert refused.status_code == 503
        assert "BERAY_SANDBOX_UIDS=700000-700001" in refused.json()["detail"]
        assert second.list_tasks() == []
        module = "def main(call):\n    return {}\n"
        archive = archives.packed(write_prefab(tmp_path / "prefab", module, "[functions.main]"))
        token = str(second._session.headers["Authorization"])
        assert refusal(add(server, archive, token)) == (503, "NO_SANDBOX_UID")
        # Everything else goes on.
        assert add(server, archive, str(first._session.headers["Authorization"])).ok
        failed = Caller.of(server, second).failure(call("main"))
        assert "BERAY_SANDBOX_UIDS=700000-700001" in failed["message"]
        assert second.get_current_user()
