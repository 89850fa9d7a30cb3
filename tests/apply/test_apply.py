"""Changes of a task, applied to a local directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from beray import InvalidArgument, InvalidResponseError, TransferError
from beray.apply.changes import apply_plan
from beray.apply.plan import ApplyPlan
from beray.apply.planner import plan_changes
from beray.history_schema import FileDiff
from tests.apply.trees import Tree, Trees, read_tree, write_tree

TEXT = b"".join(b"line %d\n" % number for number in range(1, 21))
CHANGED = TEXT.replace(b"line 10\n", b"line ten\n")
BINARY = bytes(range(256)) * 40
COMMON: Tree = {"same.txt": b"same", "keep/file": b"kept"}


def applied(trees: Trees, target: Path, **options: Any) -> ApplyPlan:
    """Plan the changes and make them; the plan must have no conflicts."""
    plan = plan_changes(trees.diff, target, trees, **options)
    assert plan.conflicts == []
    apply_plan(plan, trees)
    return plan


def reasons(trees: Trees, target: Path, **options: Any) -> dict[str, str]:
    """Return the conflicts; check that the plan could be made without any change."""
    before = read_tree(target)
    plan = plan_changes(trees.diff, target, trees, **options)
    assert read_tree(target) == before
    return {conflict.path: conflict.reason for conflict in plan.conflicts}


def shown(plan: ApplyPlan) -> list[tuple[str, str]]:
    return [(change.change, change.path) for change in plan.changes]


CASES: dict[str, tuple[Tree, Tree]] = {
    "nothing": ({}, {}),
    "added": ({}, {"a.txt": TEXT, "deep/er/b.bin": BINARY, "empty": b""}),
    "modified": ({"a.txt": TEXT, "b": BINARY}, {"a.txt": CHANGED, "b": BINARY[1:]}),
    "deleted": ({"a.txt": TEXT, "d/e/f": b"1", "d/g": b"2"}, {"d/g": b"2"}),
    "directories": ({"old": None, "gone/x": b""}, {"new/deep": None, "mode": (None, 0o700)}),
    "modes": (
        {"a": (TEXT, 0o644), "d": (None, 0o755), "r": (b"", 0o400)},
        {"a": (TEXT, 0o755), "d": (None, 0o500), "r": (b"x", 0o440)},
    ),
    "links": (
        {"l": Path("same.txt"), "gone": Path("nowhere"), "d": Path("keep")},
        {"l": Path("keep/file"), "a/new": Path("../same.txt"), "d": Path("keep")},
    ),
    "file to link": ({"x": TEXT}, {"x": Path("same.txt")}),
    "link to file": ({"x": Path("same.txt")}, {"x": TEXT}),
    "file to directory": ({"x": TEXT}, {"x/y/z": TEXT}),
    "directory to file": ({"x/y/z": TEXT, "x/w": None}, {"x": TEXT}),
    "link to directory": ({"x": Path("keep")}, {"x/file": TEXT}),
    "directory to link": ({"x/file": TEXT}, {"x": Path("keep")}),
    "directory becomes empty": ({"x/file": TEXT}, {"x": None}),
    "empty directory gets a file": ({"x": None}, {"x/file": TEXT}),
    "names": ({"caf\u2426E9": b"1"}, {"caf\u2426E9": b"2", "new\nline": b"", "\x1b[31m": b"3"}),
    "read-only directory": ({"d": (None, 0o555)}, {"d": (None, 0o755), "d/x": b"1"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_old_tree_becomes_the_new_one(case: str, tmp_path: Path) -> None:
    old, new = CASES[case]
    trees = Trees(tmp_path, old | COMMON, new | COMMON)
    target = trees.checkout(tmp_path / "target")
    plan = applied(trees, target)
    assert read_tree(target) == read_tree(trees.roots["c2"])
    assert bool(plan.changes) == (case != "nothing")
    # A second time, nothing is left to do, and nothing is requested.
    trees.saved.clear()
    again = applied(trees, target)
    assert again.changes == []
    assert trees.saved == []
    assert sorted(os.listdir(tmp_path)) == ["home", "new", "old", "target"]


@pytest.mark.parametrize("case", CASES)
def test_the_new_tree_becomes_the_old_one(case: str, tmp_path: Path) -> None:
    old, new = CASES[case]
    trees = Trees(tmp_path, new | COMMON, old | COMMON)
    target = trees.checkout(tmp_path / "target")
    applied(trees, target)
    assert read_tree(target) == read_tree(trees.roots["c2"])


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"a": b"1", "d/x": b"1"}, {"a": b"2", "n/y": b"2"})
    target = trees.checkout(tmp_path / "target")
    own = {"own.txt": b"own", "d/own": b"own", "n/own": b"own", ".git/config": b"own"}
    write_tree(target, own)
    applied(trees, target)
    found = {path: value[0] for path, value in read_tree(target).items() if value[0] is not None}
    assert found == own | {"a": b"2", "n/y": b"2"}


def test_a_directory_that_has_other_files_here_is_kept(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"d": None, "e": None}, {})
    target = trees.checkout(tmp_path / "target")
    (target / "d" / "own").write_text("own")
    plan = applied(trees, target)
    assert plan.kept == ["d"]
    assert shown(plan) == [("deleted", "e")]
    assert os.listdir(target) == ["d"]


def test_changes_that_were_made_here_already_are_skipped(tmp_path: Path) -> None:
    trees = Trees(
        tmp_path,
        {"a": TEXT, "b": b"1", "gone": b"1", "l": Path("a")},
        {"a": CHANGED, "b": b"2", "new": b"3", "l": Path("b")},
    )
    target = trees.checkout(tmp_path / "target")
    (target / "a").write_bytes(CHANGED)
    (target / "new").write_bytes(b"3")
    (target / "gone").unlink()
    plan = applied(trees, target)
    assert shown(plan) == [("modified", "b"), ("modified", "l")]
    assert plan.unchanged == ["a", "gone", "new"]
    assert trees.saved == ["b"]


def test_a_text_with_other_changes_gets_those_of_the_task(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"a.txt": (TEXT, 0o644)}, {"a.txt": (CHANGED, 0o755)})
    target = trees.checkout(tmp_path / "target")
    (target / "a.txt").write_bytes(b"top\n" + TEXT + b"end\n")
    (target / "a.txt").chmod(0o664)
    plan = applied(trees, target)
    assert (target / "a.txt").read_bytes() == b"top\n" + CHANGED + b"end\n"
    assert (target / "a.txt").stat().st_mode & 0o777 == 0o775
    assert [change.is_merged for change in plan.changes] == [True]
    assert trees.saved == []


def test_omitted_changes_of_a_text_are_requested_if_they_are_needed(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"a": TEXT, "b": TEXT}, {"a": CHANGED, "c": CHANGED}, {"c": "b"})
    target = trees.checkout(tmp_path / "target")
    for file in trees.diff["files"]:
        del file["hunks"]
        file["omitted"] = "too large"
    for name in "ab":
        (target / name).write_bytes(b"top\n" + TEXT)
    applied(trees, target)
    assert {path: value[0] for path, value in read_tree(target).items()} == {
        "a": b"top\n" + CHANGED, "c": b"top\n" + CHANGED,
    }  # fmt: skip


def test_modes_change_by_the_bits_that_the_task_has_changed(tmp_path: Path) -> None:
    trees = Trees(
        tmp_path,
        {"a": (TEXT, 0o644), "b": (b"1", 0o644), "c": (b"1", 0o644)},
        {"a": (TEXT, 0o755), "b": (b"2", 0o644), "c": (b"1", 0o600)},
    )
    target = trees.checkout(tmp_path / "target")
    (target / "a").write_bytes(b"changed here")
    for name in "abc":
        (target / name).chmod(0o664)
    applied(trees, target)
    modes = {name: (target / name).stat().st_mode & 0o777 for name in "abc"}
    assert modes == {"a": 0o775, "b": 0o664, "c": 0o620}
    assert (target / "a").read_bytes() == b"changed here"


RENAMES: dict[str, tuple[Tree, Tree, dict[str, str]]] = {
    "moved": ({"a": TEXT}, {"d/b": TEXT}, {"d/b": "a"}),
    "moved and changed": ({"d/a": (TEXT, 0o644)}, {"b": (CHANGED, 0o755)}, {"b": "d/a"}),
    "moved in a chain": ({"a": TEXT, "b": BINARY}, {"b": TEXT, "c": BINARY}, {"b": "a", "c": "b"}),
    "swapped": ({"a": TEXT, "b": BINARY}, {"b": TEXT, "a": BINARY}, {"b": "a", "a": "b"}),
    "link": ({"a": Path("x")}, {"b": Path("x")}, {"b": "a"}),
    "to a directory of its name": ({"a": TEXT}, {"a/a": TEXT}, {"a/a": "a"}),
    "out of a directory of its name": ({"a/a": TEXT}, {"a": TEXT}, {"a": "a/a"}),
}


@pytest.mark.parametrize("case", RENAMES)
def test_renamed_files_are_renamed(case: str, tmp_path: Path) -> None:
    old, new, renames = RENAMES[case]
    trees = Trees(tmp_path, old | COMMON, new | COMMON, renames)
    target = trees.checkout(tmp_path / "target")
    plan = applied(trees, target)
    assert read_tree(target) == read_tree(trees.roots["c2"])
    assert {"renamed"} == {change.change for change in plan.changes if change.path in renames}
    assert not {change.path for change in plan.changes} & set(renames.values()) - set(renames)
    if case == "moved":
        assert trees.saved == []
    assert applied(trees, target).changes == []


def test_a_renamed_file_keeps_the_changes_made_here(tmp_path: Path) -> None:
    trees = Trees(
        tmp_path,
        {"a": TEXT, "x": BINARY},
        {"b": CHANGED, "y": BINARY},
        {"b": "a", "y": "x"},
    )
    target = trees.checkout(tmp_path / "target")
    (target / "a").write_bytes(b"top\n" + TEXT)
    (target / "x").write_bytes(b"own")
    plan = applied(trees, target)
    assert {path: value[0] for path, value in read_tree(target).items()} == {
        "b": b"top\n" + CHANGED, "y": b"own",
    }  # fmt: skip
    assert [change.is_merged for change in plan.changes] == [True, True]


def test_a_renamed_file_may_be_the_same_on_a_file_system_that_ignores_case(tmp_path: Path) -> None:
    old, new = {"Readme": TEXT, "d/File": BINARY}, {"README": TEXT, "d/file": BINARY[1:]}
    trees = Trees(tmp_path, old, new, {"README": "Readme"})
    target = trees.checkout(tmp_path / "target")
    # Hard links are two names of one file as well.
    (target / "README").hardlink_to(target / "Readme")
    (target / "d/file").hardlink_to(target / "d/File")
    applied(trees, target)
    assert {path: value[0] for path, value in read_tree(target).items() if value[0]} == new


def test_conflicts_are_listed_together_and_nothing_is_written(tmp_path: Path) -> None:
    trees = Trees(
        tmp_path,
        {"text": TEXT, "bin": BINARY, "gone": TEXT, "lost": b"1", "link": Path("text"), "ok": b"1",
         "d": b"1", "moved": TEXT},
        {"text": CHANGED, "bin": BINARY[1:], "lost": b"2", "link": Path("bin"), "ok": b"2",
         "new": b"3", "d": b"2", "to": CHANGED, "deep/er": b"1", "f": None},
        {"to": "moved"},
    )  # fmt: skip
    target = trees.checkout(tmp_path / "target")
    (target / "text").write_bytes(TEXT.replace(b"line 9", b"line nine"))
    (target / "bin").write_bytes(BINARY[2:])
    (target / "gone").write_bytes(b"changed")
    (target / "lost").unlink()
    (target / "link").unlink()
    (target / "link").symlink_to("ok")
    (target / "new").write_bytes(b"own")
    (target / "d").unlink()
    (target / "d").mkdir()
    (target / "moved").unlink()
    (target / "deep").write_bytes(b"own")
    (target / "f").write_bytes(b"own")
    assert reasons(trees, target) == {
        "text": "has other changes here, and the lines around line 7 differ",
        "bin": "has other changes here",
        "gone": "has other changes here",
        "lost": "does not exist here",
        "link": "has other changes here",
        "new": "exists here with another content",
        "d": "is a directory here",
        "to": "was renamed from 'moved', which does not exist here",
        "deep/er": "cannot be reached: 'deep' is a file here",
        "f": "is a file here, not a directory",
    }
    # Those of files can be overwritten.
    assert set(reasons(trees, target, force=True)) == {"d", "deep/er", "f"}


def test_force_replaces_files_but_still_merges(tmp_path: Path) -> None:
    trees = Trees(
        tmp_path,
        {"text": TEXT, "fits": TEXT, "gone": TEXT, "lost": b"1", "link": Path("text"), "m": TEXT},
        {"text": CHANGED, "fits": CHANGED, "lost": b"2", "link": b"3", "new": b"4", "n": CHANGED},
        {"n": "m"},
    )
    target = trees.checkout(tmp_path / "target")
    (target / "text").write_bytes(b"own")
    (target / "fits").write_bytes(b"top\n" + TEXT)
    (target / "gone").write_bytes(b"own")
    (target / "lost").unlink()
    (target / "link").unlink()
    (target / "link").symlink_to("own")
    (target / "new").symlink_to("own")
    (target / "m").write_bytes(b"own")
    plan = applied(trees, target, force=True)
    assert {path: value[0] for path, value in read_tree(target).items()} == {
        "text": CHANGED, "fits": b"top\n" + CHANGED, "lost": b"2", "link": b"3", "new": b"4",
        "n": CHANGED,
    }  # fmt: skip
    assert {change.path for change in plan.changes if change.is_overwritten} == {
        "text", "gone", "link", "new", "n",
    }  # fmt: skip


def test_excluded_paths_are_left_out(tmp_path: Path) -> None:
    trees = Trees(
        tmp_path,
        {"a": b"1", "src/b": b"1", "gone.log": b"", "old": TEXT},
        {"a": b"2", "src/b": b"2", ".git/config": b"x", "x/venv/l": Path("/bin/sh"), "new": TEXT},
        {"new": "old"},
    )
    target = trees.checkout(tmp_path / "target")
    plan = applied(trees, target, exclude=[".git", "venv", "src/*", "*.log", "old"])
    assert shown(plan) == [("modified", "a"), ("added", "new")]
    assert (target / "old").exists()


def entry(path: str, **fields: Any) -> FileDiff:
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    new = {"type": "file", "mode": "644", "size": 4, "sha256": digest}
    return {"path": path, "change": "added", "new": new} | fields  # type: ignore[return-value]


def link(path: str, target: str) -> FileDiff:
    return entry(path, new={"type": "link", "target": target})


HOSTILE: dict[str, tuple[list[FileDiff], str]] = {
    "repository": ([entry(".git/hooks/post-checkout")], "git repository"),
    "repository in other letters": ([entry("sub/.GiT/config")], "git repository"),
    "short name": ([entry("git~1/config")], "git repository"),
    "absolute path": ([entry("/tmp/x")], "is absolute"),
    "parent": ([entry("../x")], "leaves the directory"),
    "parent in the middle": ([entry("a/../../x")], "leaves the directory"),
    "deletion in the repository": (
        [entry(".git/config", change="deleted", old={"type": "file"}, new=None)],
        "git repository",
    ),
    "rename out of the repository": (
        [entry("x", change="renamed", old_path=".git/config", old={"type": "file"})],
        "git repository",
    ),
    "link to a parent": ([link("l", "../x")], "leaves the directory"),
    "absolute link": ([link("l", "/etc/passwd")], "absolute path"),
    "link to the repository": ([link("l", ".git/hooks")], "git repository"),
    "link to a link that leaves": ([link("l", "outside/x")], "through another link"),
    "through a local link": ([entry("outside/x")], "'outside' is a symbolic link here"),
    "through a local link inside": ([entry("inside/x")], "'inside' is a symbolic link here"),
    "deletion through a link": (
        [entry("outside/victim", change="deleted", old={"type": "file"}, new=None)],
        "'outside' is a symbolic link here",
    ),
    "rename through a link": (
        [entry("x", change="renamed", old_path="outside/victim", old={"type": "file"})],
        "'outside' is a symbolic link here",
    ),
    "link that it creates itself": ([link("l", "sub"), entry("l/x")], "path of another file"),
    "file below a file": ([entry("f"), entry("f/x")], "path of another file"),
    "special": ([entry("fifo", new={"type": "special"})], "has the type 'special'"),
    "unknown type": ([entry("x", new={"type": "socket"})], "has the type 'socket'"),
    "not stored": ([entry("x", new={"type": "file", "size": 4})], "server has not stored"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("force", [False, True])
def test_hostile_changes_are_rejected(case: str, force: bool, tmp_path: Path) -> None:
    trees = Trees(tmp_path, {}, {})
    target = write_tree(tmp_path / "target", {".git/config": b"own", "sub": None})
    write_tree(tmp_path / "elsewhere", {"victim": b"test"})
    (target / "outside").symlink_to(tmp_path / "elsewhere")
    (target / "inside").symlink_to("sub")
    files, reason = HOSTILE[case]
    trees.diff["files"] = [entry("harmless"), *files]
    found = reasons(trees, target, force=force)
    assert found, case
    assert all(reason in text for text in found.values()), found
    assert read_tree(tmp_path / "elsewhere") == {"victim": (b"test", 0o644)}


def test_a_link_is_replaced_by_a_directory_only_if_the_task_did_it(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"x": Path("keep")}, {"x/file": b"new"})
    target = write_tree(tmp_path / "target", {"keep": None, "x": Path("other")})
    assert reasons(trees, target) == {"x": "has other changes here"}
    (target / "x").unlink()
    (target / "x").symlink_to("keep")
    applied(trees, target)
    assert read_tree(target)["x/file"] == (b"new", 0o644)
    assert list((target / "keep").iterdir()) == []


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([entry("a"), entry("a")], "'a' is listed twice"),
        ([{"path": "a", "change": "modified"}], "'a' has no state"),
    ],
)
def test_a_diff_that_contradicts_itself_is_rejected(
    files: list[FileDiff], reason: str, tmp_path: Path
) -> None:
    trees = Trees(tmp_path, {}, {})
    trees.diff["files"] = files
    with pytest.raises(InvalidResponseError, match=reason):
        plan_changes(trees.diff, tmp_path, trees)


def test_a_content_that_is_not_that_of_the_diff_is_rejected(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"a": TEXT, "b": TEXT}, {"a": CHANGED, "b": CHANGED})
    target = trees.checkout(tmp_path / "target")
    (target / "a").write_bytes(b"top\n" + TEXT)
    before = read_tree(target)
    (trees.roots["c2"] / "b").write_bytes(b"exchanged")
    plan = plan_changes(trees.diff, target, trees)
    with pytest.raises(TransferError, match="'b': the content of the server is not that of the"):
        apply_plan(plan, trees)
    assert read_tree(target) == before
    (trees.roots["c1"] / "a").write_bytes(b"exchanged")
    with pytest.raises(InvalidResponseError, match="'a' has another content in c1"):
        plan_changes(trees.diff, target, trees)


def test_a_file_that_changes_after_the_plan_ends_it(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {"a": b"1", "b": b"1"}, {"a": b"2", "b": b"2"})
    target = trees.checkout(tmp_path / "target")
    plan = plan_changes(trees.diff, target, trees)
    (target / "b").write_bytes(b"just saved")
    before = read_tree(target)
    with pytest.raises(TransferError, match="'b' was changed by another program meanwhile"):
        apply_plan(plan, trees)
    assert read_tree(target) == before


def test_a_failure_in_the_middle_undoes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old: Tree = {"a": TEXT, "b/c": b"1", "d": Path("a"), "e": (None, 0o755), "z": b"1", "y": b"1"}
    new: Tree = {"a": CHANGED, "b": b"2", "d/n": b"3", "e": (None, 0o700), "z": b"2", "w": TEXT}
    trees = Trees(tmp_path, old, new)
    target = trees.checkout(tmp_path / "target")
    before = read_tree(target)
    inode = (target / "a").stat().st_ino
    steps, limit, completed = 0, 0, False
    original = {name: getattr(Path, name) for name in ("rename", "replace", "chmod", "rmdir")}

    def limited(name: str) -> Any:
        def call(path: Path, *arguments: Any, **options: Any) -> Any:
            nonlocal steps
            if ".part/new/" not in str(path) or name != "chmod":
                steps += 1
                if steps == limit:
                    raise OSError(28, "No space left on device", str(path))
            return original[name](path, *arguments, **options)

        return call

    for name in original:
        monkeypatch.setattr(Path, name, limited(name))
    while not completed:
        plan = plan_changes(trees.diff, target, trees)
        steps, limit = 0, limit + 1
        try:
            apply_plan(plan, trees)
            completed = True
        except TransferError as error:
            assert "No space left on device; nothing was changed" in str(error)
            assert read_tree(target) == before
            assert (target / "a").stat().st_ino == inode
    monkeypatch.undo()
    assert limit >= 8
    assert read_tree(target) == read_tree(trees.roots["c2"])


def test_the_target_must_be_a_directory_outside_of_repositories(tmp_path: Path) -> None:
    trees = Trees(tmp_path, {}, {"a": b"1"})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        plan_changes(trees.diff, tmp_path / "file", trees)
    hooks = tmp_path / "checkout/.git/hooks"
    hooks.mkdir(parents=True)
    with pytest.raises(InvalidArgument, match="belongs to the directory of a git repository"):
        plan_changes(trees.diff, hooks, trees)
    shutil.rmtree(tmp_path / "checkout")
