"""Fixtures of all tests: a real server, and a separate home directory."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from beray import local_server

pytest_plugins = ["beray.testing.plugin", "tests.cli.scripted_fixture", "tests.shared_servers"]

# Imports dominate the start of the many processes of the tests, so bytecode must be cached.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# With the default thresholds, garbage collection takes a sixth of the time of dashboard tests.
gc.set_threshold(50_000, 20, 20)


# A test run in the background inherits ignored signals, and would pass them on to the programs
# that the tests of signals start.
for name in ("SIGHUP", "SIGINT", "SIGQUIT"):
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a home directory for the test; stop an embedded server that the test left there."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BERAY_HOME", str(home / "beray"))
    # pytest that a test starts would delete the directories of earlier test runs at its end.
    monkeypatch.setenv("PYTEST_DEBUG_TEMPROOT", str(tmp_path))
    for name in (
        "BERAY_URL", "BERAY_TOKEN", "BERAY_PROFILE", "NETRC", "XDG_DATA_HOME",
        "BERAY_GATEWAY_URL", "X_INTERNAL_TOKEN",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    yield home
    if (home / "beray/server").is_dir():
        monkeypatch.setenv("BERAY_HOME", str(home / "beray"))
        local_server.stop()


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than the number of cores, because many tests wait."""
    return (os.cpu_count() or 1) + 1
