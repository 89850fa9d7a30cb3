"""Rejection of exactly the names that a platform cannot represent."""

from __future__ import annotations

from pathlib import Path

import pytest

from beray.exceptions import InvalidResponseError
from beray.transfers.local_names import LocalNames, System, local_path, name_problem

ALL: list[System] = ["linux", "macos", "windows"]


@pytest.mark.parametrize("system", ALL)
@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/..", "../a", "/a", "a//b", "a/", "a\0b", "x" * 256, "a/" * 501 + "a",
     "/".join(["x" * 200] * 21), "\udcff", "\ud800"],
)  # fmt: skip
def test_names_that_no_platform_allows(name: str, system: System) -> None:
    assert name_problem(name, system) is not None
    assert name_problem(f"ok/{name}", system) is not None


@pytest.mark.parametrize(
    "name",
    ["a:b.txt", "C:x", "12:30.log", "..\\x", "a\\b", "what?", "a*", 'say "hi"', "a<b>", "a|b", "tab\there",
     "line\nbreak", "\x1b[2J", "...", "a.", "a ", " ", "con", "AUX.txt", "lpt1.tar.gz", "nul ", "com¹"],
)  # fmt: skip
def test_names_that_only_windows_rejects(name: str) -> None:
    assert name_problem(name, "linux") is None
    assert name_problem(name, "macos") is None
    assert name_problem(f"ok/{name}/x", "windows") is not None


@pytest.mark.parametrize("system", ALL)
@pytest.mark.parametrize(
    "name",
    ["a", ".hidden", "a b", "..a", "console", "auxiliary.c", ".con", "日本語", "x" * 255, "a\x7fb"],
)
def test_ordinary_names(name: str, system: System) -> None:
    assert name_problem(name, system) is None


def test_the_length_of_a_name_is_counted_by_the_rules_of_the_platform() -> None:
    assert name_problem("ü" * 128, "linux") is not None
    assert name_problem("ü" * 255, "macos") is None
    assert name_problem("𝔸" * 128, "windows") is not None


@pytest.mark.parametrize(
    ("names", "on_linux"),
    [(("a", "A"), True), (("ä", "A\u0308"), True), (("a/b", "A"), True), (("a", "a"), False), (("a", "a/b"), False)],
)  # fmt: skip
def test_names_that_a_file_system_does_not_distinguish(
    names: tuple[str, str], on_linux: bool
) -> None:
    for system in ALL:
        known = LocalNames(system)
        assert known.add(names[0], is_directory=False) is None
        found = known.add(names[1], is_directory=False)
        assert (found is None) == (on_linux and system == "linux")


def test_the_error_names_file_and_reason() -> None:
    with pytest.raises(InvalidResponseError, match=r"'a/\.\./b' cannot be saved here.*leaves"):
        local_path(Path("out"), "a/../b")
