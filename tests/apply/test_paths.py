"""Paths and link targets that must not be created in a local directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from beray.apply.paths import path_problem, resolved_target_problem, target_problem


@pytest.mark.parametrize(
    "path",
    [
        ".git", ".git/config", ".GIT/hooks/post-checkout", "vendor/.Git/config", ".git ", ".git.",
        ".git. . /x", "git~1/config", "GIT~1", ".git::$INDEX_ALLOCATION/config", ".git:stream",
        ".g\u200cit/config", "\ufeff.git/x", ".git\u206f/config", ".g\u2426E2\u242680\u24268Cit/x",
    ],
)  # fmt: skip
def test_the_directory_of_a_repository_is_rejected_under_all_its_names(path: str) -> None:
    assert path_problem(path, "linux") == "belongs to the directory of a git repository"


@pytest.mark.parametrize(
    "path", [".gitignore", ".github/x", "git", "a.git/x", ".gitmodules", "git~2"]
)
def test_similar_names_are_accepted(path: str) -> None:
    assert path_problem(path, "linux") is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/passwd", "is absolute"),
        ("../x", "leaves the directory"),
        ("a/../../x", "leaves the directory"),
        ("a//b", "has an empty part"),
        ("./a", "has an empty part or '.'"),
        ("", "has an empty part"),
        ("a\0b", "contains a NUL"),
        ("\ud800", "is not valid Unicode"),
        ("x" * 300, "is too long"),
    ],
)
def test_paths_outside_of_the_directory_are_rejected(path: str, reason: str) -> None:
    found = path_problem(path, "linux")
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("path", ["C:/x", "a\\b", "nul", "a/con.txt", "x.", "x ", "a?b"])
def test_names_that_windows_does_not_allow_are_rejected_there(path: str) -> None:
    assert path_problem(path, "windows") is not None
    assert path_problem(path, "linux") is None


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("l", "a"),
        ("l", "./a/b"),
        ("a/l", "../b"),
        ("a/b/l", "../../c/d"),
        ("l", "."),
        ("l", "a//b"),
    ],
)
def test_targets_inside_of_the_directory_are_accepted(path: str, target: str) -> None:
    assert target_problem(path, target, "linux") is None


@pytest.mark.parametrize(
    ("path", "target", "reason"),
    [
        ("l", "", "invalid target"),
        ("l", "a\0b", "invalid target"),
        ("l", "x" * 30_000, "too long"),
        ("l", "/etc/passwd", "absolute path '/etc/passwd'"),
        ("l", "..", "leaves the directory"),
        ("a/l", "../../x", "leaves the directory"),
        ("a/l", ".././../x", "leaves the directory"),
        # "a" may itself be a link to a directory further up.
        ("l", "a/../x", "'..' after the name"),
        ("l", ".git", "git repository"),
        ("a/l", "../.GIT/hooks", "git repository"),
        ("l", "git~1/hooks", "git repository"),
    ],
)
def test_other_targets_are_rejected(path: str, target: str, reason: str) -> None:
    found = target_problem(path, target, "linux")
    assert found is not None
    assert reason in found


@pytest.mark.parametrize("target", ["C:\\x", "C:x", "\\\\server\\share", "a\\..\\..\\x", "\\x"])
def test_targets_that_windows_takes_for_other_places_are_rejected_there(target: str) -> None:
    found = target_problem("l", target, "windows")
    assert found is not None
    assert "not a relative path" in found


def test_a_target_must_not_lead_through_links_out_of_the_directory(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / ".git" / "hooks").mkdir(parents=True)
    (root / "inside").symlink_to(root / "real")
    (root / "outside").symlink_to(tmp_path)
    (root / "hooks").symlink_to(".git/hooks")
    assert resolved_target_problem(root, "l", "inside/x") is None
    assert "leaves the directory through" in (resolved_target_problem(root, "l", "outside") or "")
    assert "leaves" in (resolved_target_problem(root, "a/l", "../outside/x") or "")
    assert "git repository" in (resolved_target_problem(root, "l", "hooks/x") or "")
