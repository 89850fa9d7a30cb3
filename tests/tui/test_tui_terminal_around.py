"""Title, progress and notifications: the bytes that reach a real terminal."""

from __future__ import annotations

import os
import re

import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals are POSIX", allow_module_level=True)

from beray.client import BeRayClient
from beray.testing import access_token
from tests.tui.dashboard_terminal import DashboardTerminal
from tests.tui.hostile_sequences import EVIL, FOREIGN, own

OSC = re.compile(rb"\x1b\]((?:0|9);[^\x00-\x1f\x7f]*)\x1b\\")
BLUR, FOCUS = "\x1b[O", "\x1b[I"
GATE = "until [ -e go ]; do sleep 0.02; done"
CRASH = """
from tui.screens.main import MainScreen
def fail(self): raise RuntimeError("a mistake of the program")
MainScreen.action_help = fail
from beray.cli import main
raise SystemExit(main([]))
"""


def told(terminal: DashboardTerminal) -> list[str]:
    return [found.decode() for found in OSC.findall(terminal.raw)]


def environ(client: BeRayClient, **more: str) -> dict[str, str]:
    nothing = dict.fromkeys(("VTE_VERSION", "TERM_PROGRAM", "LC_TERMINAL"), "")
    return {"BERAY_URL": client.base_url, "BERAY_TOKEN": access_token(client), **nothing, **more}


def test_how_the_tasks_stand_and_what_has_happened_reaches_the_terminal(
    beray_client: BeRayClient,
) -> None:
    made = beray_client.create_task(f"!{GATE}; exit 3; : goal{EVIL};4;1;x")
    with DashboardTerminal(100, 30, **environ(beray_client)) as terminal:
        terminal.until_told("0;BeRay · 1 running", "9;4;3;0")
        terminal.until_shown("● online", "Filter n New")
        terminal.put_out_of_focus()  # before that, whatever happens is being looked at
        beray_client.upload_file(made["id"], "go", "")
        terminal.until_told("9;BeRay: #", "9;4;2;100", "0;BeRay · 1 failed")
        terminal.type(FOCUS)
        terminal.until_told("9;4;0;0")
        status = terminal.leave()
    said = told(terminal)
    notices = [text for text in said if text.startswith("9;BeRay")]
    assert len(notices) == 1 and notices[0].startswith(f"9;BeRay: #{made['id']} failed: !until")
    assert ";" not in notices[0][2:] and "EVIL" in notices[0]
    assert said.index("0;BeRay") < said.index("0;BeRay · 1 running")
    assert terminal.raw.count(b"\x1b[22;0t") == terminal.raw.count(b"\x1b[23;0t") == 1
    assert said[-1] == "0;" and status == 0
    assert FOREIGN.findall(own(OSC.sub(b"", terminal.raw))) == []


def test_a_crash_leaves_no_progress_and_no_title_behind(beray_client: BeRayClient) -> None:
    beray_client.create_task("!sleep 600")
    with DashboardTerminal(80, 24, ("-c", CRASH), **environ(beray_client)) as terminal:
        terminal.until_told("9;4;3;0")
        terminal.type("?")
        terminal.end()
    assert terminal.process.returncode == 1
    assert b"a mistake of the program" in terminal.raw
    assert told(terminal)[-2:] == ["9;4;0;0", "0;"]
    assert terminal.raw.endswith(b"\x1b[23;0t") or b"\x1b[23;0t" in terminal.raw[-20_000:]


@pytest.mark.parametrize("term", ["linux"])
def test_a_terminal_that_takes_nothing_is_told_nothing(
    beray_client: BeRayClient, term: str
) -> None:
    beray_client.create_task("!sleep 600")
    with DashboardTerminal(80, 24, **environ(beray_client, TERM=term)) as terminal:
        terminal.type(BLUR)
        terminal.until_shown("● online", "sleep 600")
        terminal.leave()
    assert told(terminal) == []
    assert b"\x1b[22;0t" not in terminal.raw
