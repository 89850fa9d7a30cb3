"""Groups of cgroup v2 for commands, tested with the real cgroup file system if it is writable.

If the controllers of memory and processes belong to cgroup v1 on the host, their limits cannot be
tested, but the other steps can.
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
    own = cgroup.own_directory()
    if own is None:
        pytest.skip("cgroup v2 is not available")
    directory = os.path.join(own, f"beray-test-{os.getpid()}")
    try:
        os.mkdir(directory)
    except OSError as error:
        pytest.skip(f"groups cannot be created here: {error}")
    yield directory
    os.rmdir(directory)


def test_a_group_contains_a_command_and_is_removed_with_its_processes(parent: str) -> None:
    group = CommandGroup(parent, {})
    (name,) = [entry for entry in os.listdir(parent) if entry.startswith("beray-command-")]
    sleeping = subprocess.Popen(["sleep", "60"], preexec_fn=group.enter)
    with open(os.path.join(parent, name, "cgroup.procs")) as file:
        assert file.read().split() == [str(sleeping.pid)]
    assert group.excess() is None
    with open(os.path.join(parent, name, "cgroup.kill"), "w") as file:
        file.write("1")
    assert sleeping.wait(timeout=20) < 0
    group.remove()
    assert not [entry for entry in os.listdir(parent) if entry.startswith("beray-command-")]


def test_limits_are_set_or_the_group_is_removed(parent: str) -> None:
    limits = {"processes": 20, "memory": 50_000_000}
    try:
        group = CommandGroup(parent, limits)
    except OSError:
        # The controllers are not available below the parent.
        assert not [entry for entry in os.listdir(parent) if entry.startswith("beray-command-")]
        return
    try:
        with open(os.path.join(group.directory, "pids.max")) as file:
            assert file.read() == f"{20 * cgroup.THREADS_FACTOR}\n"
    finally:
        group.remove()


def test_a_group_that_is_not_delegated_is_not_changed() -> None:
    own = cgroup.own_directory()
    if own is None:
        pytest.skip("cgroup v2 is not available")
    before = sorted(os.listdir(own))
    assert cgroup.prepare() == cgroup.commands_directory()
    assert sorted(os.listdir(own)) == before
