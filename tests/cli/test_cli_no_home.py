"""A user without HOME and without a passwd entry, as in ``docker run --user 12345``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from beray.testing import RunningServer
from beray.testing.server import PASSWORD

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="passwd entries are POSIX")

WITHOUT_ENTRY = """
import pwd, sys
def no_entry(uid): raise KeyError(uid)
pwd.getpwuid = no_entry
from beray.cli import main
sys.exit(main(sys.argv[1:]))
"""


def beray(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name[:4] not in ("BERA", "XDG_")}
    kept.pop("HOME", None)
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_ENTRY, *arguments],
        env=kept | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("tasks",),
        ("run", "!ls"),
        ("chat", "x"),
        ("server", "status"),
        ("serve", "--port", "0"),
        ("prefab", "list"),
        ("login", "--url", "http://127.0.0.1:1"),
    ],
    ids=" ".join,
)
def test_commands_name_the_variable_to_set(arguments: tuple[str, ...]) -> None:
    done = beray(*arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("beray: this user has no home directory") and "BERAY_HOME" in line


def test_server_and_token_are_enough_for_a_script(beray_server: RunningServer) -> None:
    with beray_server.sign_up("homeless@example.test") as client:
        token = client.login("homeless@example.test", PASSWORD)["access_token"]
    done = beray("run", "!echo hello", BERAY_URL=beray_server.url, BERAY_TOKEN=token)
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_a_home_directory_of_an_unknown_user_is_refused() -> None:
    done = beray("tasks", BERAY_HOME="~nonesuch/data")
    assert done.returncode == 2
    assert "'~nonesuch/data'" in done.stderr and "absolute path" in done.stderr
