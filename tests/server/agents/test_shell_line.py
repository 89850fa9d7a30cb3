"""Execution of shell lines of any length."""

from __future__ import annotations

import os
import subprocess

import pytest

from beray import BeRayClient
from beray.server.runners.shell import MAX_ARGUMENT_CHARACTERS, shell_command
from tests.support import done, text

SHELLS = [shell for shell in ("/bin/sh", "/bin/bash") if os.path.exists(shell)]
LONG = MAX_ARGUMENT_CHARACTERS


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    "filler",
    ["#" + "x" * 5 * LONG + "\n", ": " + "ü" * 3 * LONG + "; ", ""],
    ids=["comment", "words", "none"],
)
@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("echo one; exit 3", "one\n"),
        ("echo \"$# [$1] '$0'\" `echo x` \\$HOME", None),
        ("cat <<'END'\n$1 ${2}\nEND\n", "$1 ${2}\n"),
        ("-x", None),
        ("set -- a b; echo $#", "2\n"),
    ],
    ids=["status", "parameters", "document", "option", "set"],
)
def test_a_long_line_has_the_same_effect_as_a_short_one(
    shell: str, filler: str, line: str, output: str | None
) -> None:
    def run(command: list[str]) -> tuple[int, str]:
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        return finished.returncode, finished.stdout.replace(f"'{shell}'", "'--'")

    found = run(shell_command(shell, filler + line))
    expected = run([shell, "-c", "--", line])
    assert (found[0], found[1].replace("'--'", "")) == (
        expected[0],
        expected[1].replace("'--'", ""),
    )
    if output is not None:
        assert found[1] == output


@pytest.mark.parametrize("character", ["x", "漢"])
def test_a_goal_may_be_as_long_as_the_server_accepts(
    beray_client: BeRayClient, character: str
) -> None:
    goal = f"!printf %s {character * 199_000} | wc -m; echo end"
    assert text(done(beray_client, goal)).split() == ["199000", "end"]
