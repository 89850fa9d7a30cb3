"""Any sequence of file operations and checkpoints: every state is restored byte for byte."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.server.history.recorded_work_dir import recorded_work_dir, state_of

NAMES = [
    b"a",
    b"b",
    b"c",
    b".git",
    b"caf\xe9",
    "né\U0001f600".encode(),
    b"new\nline",
    b"-x",
    b"d" * 255,
]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(b"/".join)
CONTENTS = st.one_of(
    st.binary(max_size=200),
    st.integers(0, 3).map(lambda seed: bytes([seed]) * 1_200_000),
    st.integers(0, 2).map(lambda seed: b"".join(b"%d line\n" % (seed * 7 + n) for n in range(500))),
)
MODES = st.sampled_from([0o644, 0o755, 0o600, 0o444, 0o000, 0o777])

OPERATIONS = st.one_of(
    st.tuples(st.just("write"), PATHS, CONTENTS),
    st.tuples(st.just("append"), PATHS, st.binary(min_size=1, max_size=50)),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("rename"), PATHS, PATHS),
    st.tuples(st.just("link"), PATHS, st.sampled_from([b"a", b"/etc/passwd", b"..", b"\xff"])),
    st.tuples(st.just("chmod"), PATHS, MODES),
    st.tuples(st.just("touch"), PATHS, st.integers(0, 2**40)),
    st.tuples(st.just("checkpoint"), st.booleans()),
    st.tuples(st.just("restore"), st.integers(0, 20)),
)


def write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def append(path: bytes, content: bytes) -> None:
    with open(path, "ab") as file:
        file.write(content)


def remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def chmod(path: bytes, mode: int) -> None:
    if os.path.islink(path):
        return
    # A directory keeps the permissions without which the comparison could not read it.
    if os.path.isdir(path):
        mode |= stat.S_IRWXU
    os.chmod(path, mode)


def touch(path: bytes, time_ns: int) -> None:
    os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)


ACTIONS: dict[str, Callable[..., Any]] = {
    "write": write,
    "append": append,
    "mkdir": os.makedirs,
    "remove": remove,
    "rename": os.rename,
    "link": lambda path, target: os.symlink(target, path),
    "chmod": chmod,
    "touch": touch,
}


@pytest.mark.parametrize("with_hints", [False, True])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations=st.lists(OPERATIONS, max_size=25))
def test_every_recorded_state_is_restored(with_hints: bool, operations: list[Any]) -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        recorded_work_dir(Path(directory) / "data") as work,
    ):
        base = os.fsencode(work.path)
        states = [(work.recorded().number, state_of(work.path))]
        hints: list[str] = []
        for name, *arguments in [*operations, ("checkpoint", False)]:
            if name == "checkpoint":
                used = hints if with_hints and hints and not arguments[0] else []
                row = work.record(*used)
                hints = []
                if row is not None:
                    states.append((row.checkpoint.number, state_of(work.path)))
                assert state_of(work.path) == states[-1][1]
            elif name == "restore":
                number, state = states[arguments[0] % len(states)]
                restored = work.restore(f"c{number}")
                hints = []
                assert state_of(work.path) == state
                newest = restored.checkpoint or restored.before
                states.append((newest.number, state))
            else:
                paths = [value for value in arguments[:2] if isinstance(value, bytes)]
                hints += [os.fsdecode(path) for path in paths[: 2 if name == "rename" else 1]]
                arguments[0] = os.path.join(base, arguments[0])
                if name == "rename":
                    arguments[1] = os.path.join(base, arguments[1])
                with suppress(OSError, shutil.Error):
                    ACTIONS[name](*arguments)
        for number, state in states:
            work.restore(f"c{number}")
            assert state_of(work.path) == state
