"""beray log, diff and restore, files at a position, and tasks from a checkpoint."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.apply.trees import write_tree
from tests.cli.cli_support import Command, ScriptedServer, use
from tests.cli.history_task import BEFORE, run_task

STAT = """\
 data.bin              | Bin 256 -> 4 bytes
 empty/                |   0
 gone.txt              |   1 -
 {src => lib}/moved.py |   0
 link                  |   1 +
 new.txt               |   1 +
 text.txt              |   2 +-
 7 files changed, 3 insertions(+), 2 deletions(-)
"""


@pytest.fixture(scope="module")
def owner(beray_server: RunningServer) -> Iterator[BeRayClient]:
    with beray_server.sign_up() as client:
        yield client


@pytest.fixture(scope="module")
def finished(owner: BeRayClient) -> str:
    """Finished task, which tests do not change."""
    return str(run_task(owner))


@pytest.fixture
def task(finished: str, owner: BeRayClient, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, with its account configured for the command."""
    use(owner, monkeypatch)
    return finished


@pytest.fixture
def own_task(account: BeRayClient) -> str:
    """Finished task of an account of its own, which the test may change."""
    return str(run_task(account))


def test_log_lists_the_checkpoints(beray: Command, task: str, owner: BeRayClient) -> None:
    checkpoints = beray("log", task, "--json").json
    assert checkpoints == owner.list_checkpoints(int(task))
    rows = [line.split("\t") for line in beray("log", task).out.splitlines()]
    assert [row[0] for row in rows] == [found["checkpoint"] for found in checkpoints]
    assert [row[3] for row in rows] == ["start", "step", "end"]
    changed = rows[1]
    assert changed[1] == str(checkpoints[1]["seq"])
    assert changed[2] == checkpoints[1]["created_at"]
    assert (changed[5], changed[6], changed[7]) == ("3", "2", "shell")


def test_log_shows_the_files_of_each_step(beray: Command, task: str) -> None:
    outcome = beray("log", task, "--stat")
    assert STAT in outcome.out
    heads = [line for line in outcome.out.splitlines() if line.startswith("c")]
    assert [head.split("  ")[3] for head in heads] == ["start", "step", "end"]


def test_diff_in_a_pipe_is_a_patch(beray: Command, task: str, owner: BeRayClient) -> None:
    outcome = beray("diff", task)
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.raw_out == owner.diff_text(int(task))
    assert beray("diff", task, "--patch").raw_out == outcome.raw_out
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    checkout = write_tree(Path("checkout"), dict(BEFORE))
    subprocess.run(["git", "apply"], cwd=checkout, input=outcome.raw_out, check=True)
    assert (checkout / "text.txt").read_bytes().count(b"line fifteen\n") == 1
    assert (checkout / "lib/moved.py").stat().st_mode & 0o100
    assert (checkout / "data.bin").read_bytes() == b"new\0"
    assert (checkout / "link").readlink() == Path("new.txt")
    assert not (checkout / "gone.txt").exists()


def test_formats_of_a_diff(beray: Command, task: str, owner: BeRayClient) -> None:
    assert beray("diff", task, "--json").json == [owner.diff(int(task))]
    assert beray("diff", task, "--stat").out == STAT
    assert beray("diff", task, "--name-only").out.splitlines() == [
        "data.bin", "empty", "gone.txt", "lib/moved.py", "link", "new.txt", "text.txt",
    ]  # fmt: skip


def test_a_diff_of_paths_and_positions(beray: Command, task: str) -> None:
    assert beray("diff", task, "new.txt", "link", "--name-only").out == "link\nnew.txt\n"
    assert beray("diff", task, "--to", "c1").raw_out == b""
    reverse = beray("diff", task, "--from", "c2", "--to", "2", "new.txt")
    assert b"deleted file mode 100644" in reverse.raw_out
    outcome = beray("diff", task, "missing")
    assert (outcome.status, outcome.out) == (1, "")
    assert "missing" in outcome.err


def test_a_diff_with_more_files_than_a_response_is_complete(
    beray: Command, account: BeRayClient
) -> None:
    goal = (
        "!chmod 700 old && mkdir -p many/deep && cd many && touch ../z deep/gaa deep/gab && "
        "seq 5200 | sed 's/^/f/' | xargs touch"
    )
    task_id = run_task(account, {"old/file": b"1"}, goal)
    assert account.diff(task_id)["truncated"]
    names = beray("diff", str(task_id), "--name-only").out.splitlines()
    assert len(names) == len(set(names)) == 5204
    assert {"old", "z", "many/f5200", "many/deep/gaa"} <= set(names)
    assert "5204 files changed" in beray("diff", str(task_id), "--stat").out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["diff", "1", "--from", "x"], "'--from': expected the seq of an event, such as 17"),
        (["diff", "1", "--to", "c0"], "got 'c0'"),
        (["diff", "1", "--stat", "--json"], "--stat and --json are different formats"),
        (["log", "1", "--stat", "--json"], "--stat and --json are different formats"),
        (["restore", "1", "17.5", "--yes"], "'POS': expected the seq of an event"),
        (["restore", "1", "c1"], "stdin is not a terminal; pass --yes to restore without"),
        (["apply", "1", "--into", "nowhere"], "--into nowhere is not a directory"),
        (["ls", "1", "--at", "-3"], "got '-3'"),
        (["run", "x", "--from", "c3"], "--from expects the id of a task"),
        (["run", "x", "--from", "12@"], "--from 12@: expected the seq of an event"),
        (["run", "x", "--from", "12@c1@c2"], "got 'c1@c2'"),
    ],
)
def test_invalid_usage_is_one_line(beray: Command, argv: list[str], expected: str) -> None:
    outcome = beray(*argv)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert expected in outcome.err


@pytest.mark.parametrize(
    "argv",
    [
        ["log", "999"], ["diff", "999"], ["restore", "999", "c1", "--yes"], ["apply", "999"],
        ["run", "!true", "--from", "999"], ["ls", "999", "--at", "c1"],
    ],
)  # fmt: skip
def test_an_unknown_task_is_reported(beray: Command, task: str, argv: list[str]) -> None:
    outcome = beray(*argv)
    assert outcome.status == 1
    assert "Task 999 does not exist. (404)" in outcome.err


@pytest.mark.parametrize("command", ["diff", "apply", "ls", "restore"])
def test_an_unknown_checkpoint_is_reported(beray: Command, task: str, command: str) -> None:
    options = {"diff": ["--from", "c9"], "apply": ["--to", "c9"], "ls": ["--at", "c9"]}
    outcome = beray(command, task, *options.get(command, ["c9", "--dry-run"]))
    assert outcome.status == 1
    assert "has no checkpoint c9; its checkpoints are c1 to c3" in outcome.err
    outcome = beray("restore", task, "99999", "--dry-run")
    assert outcome.status == 1
    assert "Event 99999 does not exist" in outcome.err


def test_restore_changes_the_files_and_can_be_undone(
    beray: Command, own_task: str, account: BeRayClient
) -> None:
    task_id = int(own_task)
    planned = beray("restore", own_task, "c1", "--dry-run")
    assert planned.status == 0
    assert "added     gone.txt  (5 bytes)" in planned.out.splitlines()
    assert "modified  text.txt  (236 -> 231 bytes)" in planned.out.splitlines()
    assert "deleted   lib/" in planned.out.splitlines()
    assert account.get_file_content(task_id, "new.txt").content == b"new\n"
    restored = beray("restore", own_task, "c1", "--yes")
    assert restored.status == 0
    assert restored.out == planned.out
    assert account.get_file_content(task_id, "gone.txt").content == b"gone\n"
    assert f"`beray restore {own_task} c3` undoes this" in restored.err
    undone = beray("restore", own_task, "c3", "--yes", "--json")
    assert undone.status == 0
    assert undone.json[0]["dry_run"] is False
    assert account.diff(task_id, from_="c3")["files"] == []
    again = beray("restore", own_task, "c3", "--dry-run")
    assert (again.status, again.out) == (0, "")
    assert "nothing to restore: the files are those of c3" in again.err


def test_restore_of_paths(beray: Command, own_task: str, account: BeRayClient) -> None:
    assert beray("restore", own_task, "2", "text.txt", "--yes").status == 0
    assert account.get_file_content(int(own_task), "text.txt").content == BEFORE["text.txt"]
    assert account.get_file_content(int(own_task), "new.txt").content == b"new\n"
    [row] = beray("log", own_task, "--json").json[3:]
    assert (row["reason"], row["modified"]) == ("restore", 1)


def test_restore_is_refused_while_the_task_runs(beray: Command, account: BeRayClient) -> None:
    task_id = account.create_task("!sleep 60")["id"]
    stream = account.stream_task_updates(task_id)
    while next(stream).get("status") != "RUNNING":
        pass
    outcome = beray("restore", str(task_id), "c1", "--yes")
    assert outcome.status == 1
    assert "(409)" in outcome.err
    account.stop_task(task_id)


def test_files_at_a_position(beray: Command, task: str) -> None:
    listed = [line.split("\t")[3] for line in beray("ls", task, "--at", "c1").out.splitlines()]
    assert listed == ["data.bin", "gone.txt", "src", "src/moved.py", "text.txt"]
    assert beray("cat", task, "text.txt", "--at", "2").raw_out == BEFORE["text.txt"]
    assert beray("get", task, "gone.txt", "--at", "c1").status == 0
    assert Path("gone.txt").read_bytes() == b"gone\n"
    assert beray("get", task, "gone.txt", "--at", "c2", "--force").status == 1
    piped = beray("zip", task, "-o", "-", "--at", "c1")
    assert zipfile.ZipFile(io.BytesIO(piped.raw_out)).read("data.bin") == BEFORE["data.bin"]
    assert beray("zip", task, "src", "-o", "src.zip", "--at", "c1").status == 0
    assert zipfile.ZipFile("src.zip").read("src/moved.py") == BEFORE["src/moved.py"]


@pytest.mark.parametrize("command", ["ls", "cat", "get", "zip"])
def test_a_server_that_would_ignore_the_position_is_reported(
    beray: Command, scripted: ScriptedServer, command: str
) -> None:
    scripted.answers |= {
        "GET /tasks/1/files/tree": (200, []),
        "GET /tasks/1/files/content": (200, b"current"),
        "POST /tasks/1/files/download": (200, b"current"),
    }
    argv = {"ls": [], "cat": ["a"], "get": ["a"], "zip": ["-o", "a.zip"]}[command]
    outcome = beray(command, "1", *argv, "--at", "c1")
    assert (outcome.status, outcome.out) == (1, "")
    assert scripted.calls() == ["GET /tasks/1/diff"]


@pytest.mark.parametrize("position", ["", "@c1", "@2"])
def test_a_task_from_another_one(
    beray: Command, task: str, owner: BeRayClient, position: str
) -> None:
    outcome = beray("run", "!ls *.txt", "--from", f"{task}{position}")
    files = "gone.txt\ntext.txt\n" if position else "new.txt\ntext.txt\n"
    assert (outcome.status, outcome.out) == (0, files)
    checkpoint = "c1" if position else "c3"
    [first, *_] = outcome.err.splitlines()
    assert first.partition(", ")[2].startswith(f"from {task}@{checkpoint} (seq ")
    created = max(owner.list_tasks(), key=lambda found: found["id"])
    shown = beray("show", str(created["id"]))
    assert f"from:     {task}@{checkpoint} (seq " in shown.out
    rows = beray("tasks").out.splitlines()
    assert rows[0].split("\t")[3] == "!ls *.txt"


def test_a_server_that_ignores_the_origin_is_reported(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["POST /tasks/"] = (200, {"id": 1, "status": "QUEUED"})
    outcome = beray("run", "x", "--from", "12@17", "--detach")
    assert outcome.status == 0
    assert "does not support and ignored: from" in outcome.err
    assert b'"from": {"task": 12, "seq": 17}' in scripted.requests[-1].body


def test_the_step_of_a_checkpoint_is_its_tool_call(
    beray: Command, scripted: ScriptedServer
) -> None:
    checkpoints = [
        {"checkpoint": "c1", "seq": 1, "reason": "start"},
        {"checkpoint": "c2", "seq": 12, "reason": "step", "added": 1, "not_stored": 2},
        {"checkpoint": "c3", "seq": 14, "reason": "step", "modified": 1},
    ]
    calls = [("edit", '{"path": ', "1"), ("write", '{"x": 1}', "2"), (None, '"a.py"}', "1")]
    events = [
        {"seq": seq, "type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": name,
         "args_chunk": chunk, "call_id": call_id}
        for seq, (name, chunk, call_id) in enumerate(calls, 9)
    ]  # fmt: skip
    events += [
        {"seq": 12, "type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "edit", "call_id": "1"},
        {"seq": 13, "type": "AGENT_EVENT_TOOL_RESULT", "tool_name": "write", "call_id": "2"},
        {"seq": 14, "type": "USER_MESSAGE", "text": "go\non"},
    ]
    scripted.answers |= {
        "GET /tasks/1/checkpoints": (200, checkpoints),
        "GET /tasks/1/events": (200, events),
    }
    rows = [line.split("\t") for line in beray("log", "1").out.splitlines()]
    assert [row[7] for row in rows] == [
        "",
        '(2 files not stored) edit called with {"path": "a.py"}',
        "you> go on",
    ]
    # The events of neighbouring steps are requested once.
    assert scripted.calls().count("GET /tasks/1/events") == 1
