"""beray log, diff and restore at a terminal: colours, the pager, and the confirmation."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals are POSIX", allow_module_level=True)

from beray.client import BeRayClient
from tests.cli.cli_support import ScriptedServer
from tests.cli.cli_terminal import Terminal
from tests.cli.history_task import BEFORE, run_task

COLOURS: Any = {
    "TERM": "xterm-256color",
    "NO_COLOR": "",
    "PAGER": "",
    "COLUMNS": "80",
    "LINES": "24",
}
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b2J\x85\x7f\r\x08\u202e\u2066\u2028"


def pager(tmp_path: Path, body: str) -> str:
    """Return the command line of a pager that runs some Python code."""
    path = tmp_path / "pager.py"
    path.write_text(f"import os, sys\n{body}\n")
    return f"'{sys.executable}' '{path}'"


def shown(*commands: list[str], **environ: str) -> str:
    """Return the output of commands at a terminal."""
    with Terminal(*commands, **{**COLOURS, **environ}) as terminal:
        return terminal.end().replace("\r\n", "\n")


def test_a_diff_has_colours(account: BeRayClient) -> None:
    task = str(run_task(account))
    text = shown(["diff", task], ["diff", task, "--stat"], ["log", task])
    for part in (
        "\x1b[1mdiff --git a/text.txt b/text.txt\x1b[m\n",
        "\x1b[36m@@ -12,7 +12,7 @@\x1b[m\n line 12\n",
        "\x1b[31m-line 15\x1b[m\n\x1b[32m+line fifteen\x1b[m\n",
        "\x1b[1mrename to lib/moved.py\x1b[m\n",
        "Binary files differ: 256 -> 4 bytes\n",
        " text.txt              |   2 \x1b[32m+\x1b[m\x1b[31m-\x1b[m\n",
        "\x1b[33mc2\x1b[m  ",
        "\x1b[32m+3\x1b[m  \x1b[31m-2\x1b[m  shell\n",
    ):
        assert part in text
    plain = shown(["diff", task], ["log", task], NO_COLOR="1")
    assert "\n-line 15\n+line fifteen\n" in plain
    assert "\x1b" not in plain
    assert "\x1b" not in shown(["diff", task], TERM="dumb", PAGER="nothing")


def test_long_output_goes_to_the_pager(account: BeRayClient, tmp_path: Path) -> None:
    task = str(run_task(account))
    body = "print('PAGED', os.environ['LESS']); print(sys.stdin.read().replace('\\x1b', 'ESC'))"
    command = pager(tmp_path, body)
    text = shown(["diff", task], PAGER=command)
    assert "PAGED FRX\nESC[1mdiff --git a/data.bin b/data.bin" in text
    assert "PAGED -S\n" in shown(["log", task, "--stat"], PAGER=command, LESS="-S")
    for options in (["--no-pager"], ["--name-only"], ["--json"]):
        assert "PAGED" not in shown(["diff", task, *options], PAGER=command)
    assert "PAGED" not in shown(["log", task, "--no-pager"], PAGER=command)
    assert "PAGED" not in shown(["diff", task], PAGER=command, TERM="dumb")


@pytest.mark.parametrize("program", ["cat", "nothing-like-this", "'unclosed"])
def test_an_unusable_pager_is_not_used(account: BeRayClient, program: str) -> None:
    text = shown(["diff", str(run_task(account)), "text.txt"], PAGER=program)
    assert "+line fifteen" in text
    assert "<exit 0>" in text
    assert (program in text) == (program != "cat")


def test_a_pager_may_end_before_the_output(account: BeRayClient, tmp_path: Path) -> None:
    files = {"big": b"".join(b"%d\n" % number for number in range(200_000))}
    task = str(run_task(account, files, "!rm big"))
    text = shown(["diff", task], PAGER=pager(tmp_path, "print(sys.stdin.readline())"))
    assert text.endswith("<exit 0>\n")
    assert "Broken" not in text
    assert "Traceback" not in text


def test_ctrl_c_is_for_the_pager(account: BeRayClient, tmp_path: Path) -> None:
    body = """
import signal
signal.signal(signal.SIGINT, lambda *_: print('CAUGHT', flush=True))
text = sys.stdin.read()
print('READY', flush=True)
tty = open('/dev/tty')
print('TYPED', tty.readline(), flush=True)
"""
    with Terminal(
        ["diff", str(run_task(account))], **{**COLOURS, "PAGER": pager(tmp_path, body)}
    ) as terminal:
        terminal.expect("READY")
        terminal.type("\x03")
        terminal.expect("CAUGHT")
        terminal.type("q\n")
        assert "<exit 0>" in terminal.end()


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_less_shows_colours_and_is_left_with_q(account: BeRayClient) -> None:
    files = {"numbers": b"".join(b"%d\n" % number for number in range(2000))}
    task = str(run_task(account, files, "!rm numbers"))
    environ: Any = {name: value for name, value in COLOURS.items() if name != "PAGER"}
    with Terminal(["diff", task, "numbers"], **environ) as terminal:
        terminal.expect("deleted file mode 100644")
        terminal.expect(":")
        terminal.type("q")
        assert "<exit 0>" in terminal.end()


def test_a_patch_is_not_written_to_a_terminal(account: BeRayClient) -> None:
    text = shown(["diff", str(run_task(account)), "--patch"])
    assert "stdout is a terminal; redirect it to a file to save the patch unchanged" in text
    assert "<exit 2>" in text


def test_a_restore_is_confirmed(account: BeRayClient) -> None:
    task_id = run_task(account)
    with Terminal(
        ["restore", str(task_id), "c1", "text.txt"], ["restore", str(task_id), "2"]
    ) as terminal:
        terminal.expect("modified  text.txt  (236 -> 231 bytes)")
        terminal.expect(f"Restore 1 path of task {task_id} to c1 (seq 2)? [y/N]")
        terminal.type("n\n")
        terminal.expect("nothing was restored")
        terminal.expect("<exit 1>")
        terminal.expect("[y/N]")
        assert account.get_file_content(task_id, "text.txt").content != BEFORE["text.txt"]
        terminal.type("y\n")
        terminal.expect("undoes this")
        terminal.end()
    assert account.get_file_content(task_id, "text.txt").content == BEFORE["text.txt"]


def test_external_text_has_no_effect_on_the_terminal(scripted: ScriptedServer) -> None:
    state = {"type": HOSTILE, "mode": HOSTILE, "target": HOSTILE}
    position = {"checkpoint": HOSTILE, "seq": 1}
    hunk = {"old_start": 1, "old_lines": 1, "new_start": 1, "new_lines": 1, "lines": [HOSTILE]}
    changed = {
        "path": HOSTILE, "old_path": HOSTILE, "change": HOSTILE, "old": state, "new": state,
    }  # fmt: skip
    link = {**state, "type": "link"}
    files = [
        {**changed, "hunks": [hunk]},
        {**changed, "omitted": HOSTILE},
        {**changed, "change": "renamed", "old": link, "new": {**link, "target": "x"}},
    ]
    checkpoint = {
        "checkpoint": HOSTILE, "seq": 3, "created_at": HOSTILE, "reason": "step", "modified": 1,
    }  # fmt: skip
    event = {"seq": 3, "type": "AGENT_EVENT_TOOL_RESULT", "tool_name": HOSTILE}
    result = {"dry_run": True, "to": position, "before": position, "files": [changed]}
    scripted.answers |= {
        "GET /tasks/1/checkpoints": (200, [checkpoint, checkpoint]),
        "GET /tasks/1/events": (200, [event]),
        "GET /tasks/1/diff": (200, {"from": position, "to": position, "files": files}),
        "POST /tasks/1/restore": (200, result),
        "GET /tasks/1": (200, {
            "id": 1, "status": "COMPLETED", "from": {"task": 1, "checkpoint": HOSTILE},
        }),
        "GET /tasks/": (200, [
            {"id": 1, "status": "COMPLETED", "from": {"task": 1, "checkpoint": HOSTILE}},
        ]),
    }  # fmt: skip
    text = shown(
        ["diff", "1"],
        ["diff", "1", "--stat"],
        ["diff", "1", "--name-only"],
        ["log", "1"],
        ["log", "1", "--stat"],
        ["restore", "1", "c1", "--dry-run"],
        ["restore", "1", "c1", "--yes"],
        ["show", "1"],
        ["tasks"],
        NO_COLOR="1",
    )
    assert text.count("<exit 0>") == 8
    assert text.count("<exit 2>") == 1  # the name of a checkpoint is no position
    text += shown(["apply", "1"], TERM="dumb")
    assert not set(text) & set("\x1b\x07\x9b\x85\x7f\r\x08\u202e\u2066\u2028")
