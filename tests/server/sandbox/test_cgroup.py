"""Groups of cgroup v2 for commands, on the real file system of groups where it is writable.

The controllers of memory and processes may belong to cgroup v1 on the host; then their limits
cannot be tested, and the rest of a group's life is.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from beray.server.sandbox.launcher import cgroup
from beray.server.sandbox.launcher.cgroup import CommandGroup


@pytest.fixture
def parent() -> Iterator[str]:
    own = cgroup.own_folder()
    if own is None:
        pytest.skip("there is no cgroup v2")
    folder = os.path.join(own, f"beray-test-{os.getpid()}")
    try:
        os.mkdir(folder)
    except OSError as error:
        pytest.skip(f"groups cannot be made here: {error}")
    yield folder
    os.rmdir(folder)


def test_a_group_holds_a_command_and_is_removed_with_what_is_left(parent: str) -> None:
    group = CommandGroup(parent, {})
    (name,) = [one for one in os.listdir(parent) if one.startswith("beray-command-")]
    sleeping = subprocess.Popen(["sleep", "60"], preexec_fn=group.enter)
    with open(os.path.join(parent, name, "cgroup.procs")) as file:
        assert file.read().split() == [str(sleeping.pid)]
    assert group.problem() is None
    with open(os.path.join(parent, name, "cgroup.kill"), "w") as file:
        file.write("1")
    assert sleeping.wait(timeout=20) < 0
    group.remove()
    assert not [one for one in os.listdir(parent) if one.startswith("beray-command-")]


def test_limits_are_set_or_no_group_is_left(parent: str) -> None:
    limits = {"processes": 20, "memory": 50_000_000}
    try:
        group = CommandGroup(parent, limits)
    except OSError:
        # The controllers are not available below the parent.
        assert not [one for one in os.listdir(parent) if one.startswith("beray-command-")]
        return
    try:
        with open(os.path.join(group._folder, "pids.max")) as file:
            assert file.read() == f"{20 * cgroup.THREADS_FACTOR}\n"
    finally:
        group.remove()


def test_a_group_that_was_not_delegated_is_left_alone() -> None:
    own = cgroup.own_folder()
    if own is None:
        pytest.skip("there is no cgroup v2")
    before = sorted(os.listdir(own))
    assert cgroup.prepare() == cgroup.commands_folder()
    assert sorted(os.listdir(own)) == before
