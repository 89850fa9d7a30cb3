"""beray apply with a real server: the result, conflicts, and random trees."""

from __future__ import annotations

import base64
import io
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if os.name != "posix":
    pytest.skip("the work_dirs of these tests have modes and links", allow_module_level=True)

from beray.client import BeRayClient
from beray.testing import RunningServer
from tests.apply.random_trees import joined, random_pair
from tests.apply.trees import read_tree, write_tree
from tests.cli.cli_support import Command, ScriptedServer, use
from tests.cli.history_task import BEFORE, run_task

AFTER: dict[str, Any] = {
    "data.bin": (b"new\0", 0o644),
    "empty": (None, 0o755),
    "lib": (None, 0o755),
    "lib/moved.py": (BEFORE["src/moved.py"], 0o755),
    "link": Path("new.txt"),
    "new.txt": (b"new\n", 0o644),
    "src": (None, 0o755),
    "text.txt": (BEFORE["text.txt"].replace(b"line 15\n", b"line fifteen\n"), 0o644),
}


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
def checkout() -> Path:
    """Local directory with the files that the task has found."""
    return write_tree(Path("checkout"), dict(BEFORE))


def test_a_directory_gets_the_changes_of_a_task(beray: Command, task: str, tmp_path: Path) -> None:
    checkout = write_tree(Path("checkout"), dict(BEFORE))
    lines = [
        "modified  data.bin",
        "added     empty",
        "deleted   gone.txt",
        "renamed   src/moved.py -> lib/moved.py",
        "added     link",
        "added     new.txt",
        "modified  text.txt",
    ]
    planned = beray("apply", task, "--into", "checkout", "--dry-run")
    assert (planned.status, planned.out.splitlines()) == (0, lines)
    assert "would change 7 paths in checkout" in planned.err
    assert read_tree(checkout).keys() == {*BEFORE, "src"}
    outcome = beray("apply", task, "--into", "checkout")
    assert (outcome.status, outcome.out.splitlines()) == (0, lines)
    assert read_tree(checkout) == AFTER
    again = beray("apply", task, "--into", "checkout", "--json")
    assert again.status == 0
    assert again.json == [
        {
            "applied": True, "changes": [], "kept": [], "conflicts": [],
            "unchanged": ["data.bin", "empty", "gone.txt", "lib/moved.py", "link", "new.txt",
                          "src/moved.py", "text.txt"],
        }
    ]  # fmt: skip


def test_the_current_directory_and_single_paths(
    beray: Command, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = write_tree(Path("checkout"), dict(BEFORE))
    monkeypatch.chdir(checkout)
    assert beray("apply", task, "text.txt", "lib", "src").status == 0
    assert sorted(read_tree(Path())) == [
        "data.bin", "gone.txt", "lib", "lib/moved.py", "src", "text.txt",
    ]  # fmt: skip
    # The changes in the other direction.
    assert beray("apply", task, "--from", "c2", "--to", "c1", "text.txt", "lib", "src").status == 0
    assert {path: value[0] for path, value in read_tree(Path()).items() if value[0]} == BEFORE


def test_local_changes_are_merged_or_reported(beray: Command, task: str, checkout: Path) -> None:
    (checkout / "text.txt").write_bytes(b"local\n" + BEFORE["text.txt"])
    (checkout / "data.bin").write_bytes(b"local")
    (checkout / "new.txt").write_bytes(b"local")
    before = read_tree(checkout)
    outcome = beray("apply", task, "--into", "checkout")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.splitlines() == [
        "conflict: 'data.bin' has other changes here; --force replaces it, --exclude leaves it out",
        "conflict: 'new.txt' exists here with another content; --force replaces it, --exclude "
        "leaves it out",
        "beray: 2 conflicts; nothing was changed",
    ]
    assert read_tree(checkout) == before
    [result] = beray("apply", task, "--into", "checkout", "--json").json
    assert result["applied"] is False
    assert [found["path"] for found in result["conflicts"]] == ["data.bin", "new.txt"]
    excluded = beray(
        "apply", task, "--into", "checkout", "--exclude", "data.*", "--exclude", "new.txt"
    )
    assert excluded.status == 0
    assert "modified  text.txt  (merged with the changes here)" in excluded.out.splitlines()
    assert (checkout / "text.txt").read_bytes() == b"local\n" + AFTER["text.txt"][0]
    forced = beray("apply", task, "--into", "checkout", "--force")
    assert "modified  data.bin  (the changes here are lost)" in forced.out.splitlines()
    assert (checkout / "data.bin").read_bytes() == b"new\0"
    # The merged text has the changes of the task already.
    assert (checkout / "text.txt").read_bytes() == b"local\n" + AFTER["text.txt"][0]


@pytest.mark.parametrize(
    ("goal", "reason"),
    [
        ("!mkdir -p .git/hooks && echo evil > .git/hooks/post-checkout", "git repository"),
        ("!mkdir -p a/.GIT && echo evil > a/.GIT/config", "git repository"),
        ("!ln -s /etc/passwd link", "is a link to the absolute path '/etc/passwd'"),
        ("!mkdir d && ln -s ../../x d/link", "leaves the directory"),
        ("!mkdir -p sub && echo evil > sub/file", "'sub' is a symbolic link here"),
        ("!mkfifo pipe", "has the type 'special', which cannot be created"),
    ],
)
def test_dangerous_changes_are_refused(
    beray: Command, account: BeRayClient, goal: str, reason: str
) -> None:
    task_id = run_task(account, {"ok": b"1"}, f"{goal} && echo 2 > ok")
    checkout = write_tree(Path("checkout"), {"ok": b"1", ".git/config": b"own"})
    Path("elsewhere").mkdir()
    (checkout / "sub").symlink_to("../elsewhere")
    before = read_tree(checkout)
    for options in ([], ["--force"]):
        outcome = beray("apply", str(task_id), "--into", "checkout", *options)
        assert outcome.status == 1
        assert reason in outcome.err
        assert "--exclude leaves it out" in outcome.err
    assert read_tree(checkout) == before
    assert list(Path("elsewhere").iterdir()) == []


def test_a_diff_that_the_server_invents_is_refused(
    beray: Command, scripted: ScriptedServer
) -> None:
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    new = {"type": "file", "mode": "644", "size": 4, "sha256": digest}
    position = {"checkpoint": "c1", "seq": 1}
    diff: dict[str, Any] = {"from": position, "to": position}
    scripted.answers["GET /tasks/1/files/content"] = (200, b"evil")
    for path in ("../evil", "/tmp/evil", ".git/config", "a/../../evil", "GIT~1/config", "x\0y"):
        files = [{"path": path, "change": "added", "new": new}]
        scripted.answers["GET /tasks/1/diff"] = (200, {**diff, "files": files})
        outcome = beray("apply", "1")
        assert outcome.status == 1, path
        assert outcome.err.endswith("beray: 1 conflict; nothing was changed\n")
    # A content that is not that of the diff.
    files = [{"path": "harmless", "change": "added", "new": new}]
    scripted.answers["GET /tasks/1/diff"] = (200, {**diff, "files": files})
    outcome = beray("apply", "1")
    assert outcome.status == 1
    assert "the content of the server is not that of the diff; nothing was changed" in outcome.err
    assert list(Path().iterdir()) == []


def test_many_files_are_downloaded_in_archives(beray: Command, account: BeRayClient) -> None:
    goal = "!for i in $(seq 120); do mkdir -p d$((i % 7)); echo $i > d$((i % 7))/f$i; done; chmod 400 d1/*"
    task_id = run_task(account, {}, goal)
    assert beray("apply", str(task_id)).status == 0
    found = read_tree(Path())
    assert sum(value[0] is not None for value in found.values()) == 120
    assert found["d1/f1"] == (b"1\n", 0o400)


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.long)])
def test_random_trees_become_those_of_the_task(
    beray: Command, account: BeRayClient, seed: int
) -> None:
    """Each seed is a pair of tasks that create 25 trees and change them."""
    chance = random.Random(seed)
    pairs = [random_pair(chance) for _ in range(25)]
    old = joined([before for before, _ in pairs])
    new = joined([after for _, after in pairs])
    Path("trees").mkdir()
    first, second = write_tree(Path("trees/old"), old), write_tree(Path("trees/new"), new)
    created = account.run(f"!{extracting(first)}")["id"]
    clear = "find . -mindepth 1 -delete"
    changed = account.run(f"!{clear}; {extracting(second)}", from_task={"task": created})["id"]
    outcome = beray("apply", str(changed), "--into", "trees/old")
    assert outcome.status == 0, outcome.err
    expected = read_tree(second)
    assert read_tree(first) == expected
    # The diff in the other direction leads back, and a second time changes nothing.
    again = beray("apply", str(changed), "--into", "trees/old", "--json")
    assert again.json[0]["changes"] == []
    copy = write_tree(Path("trees/copy"), old)
    newest = account.list_checkpoints(changed)[-1]["checkpoint"]
    positions = ["--from", newest, "--to", "c1"]
    back = beray("apply", str(changed), "--into", "trees/old", *positions)
    assert back.status == 0, back.err
    assert read_tree(first) == read_tree(copy)


def extracting(tree: Path) -> str:
    """Return a shell command that creates a tree in the current directory."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path in sorted(tree.iterdir()):
            archive.add(path, path.name)
    text = base64.encodebytes(data.getvalue()).decode()
    return f"base64 -d <<END | tar -xzp --no-same-owner\n{text}END\n"
