"""Every exit restores the terminal; ctrl+q and ctrl+z work everywhere."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals and these signals are POSIX", allow_module_level=True)

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.cli.cli_support import ScriptedServer
from tests.tui.dashboard_terminal import DashboardTerminal

ENTERED = (b"\x1b[?1049h", b"\x1b[?1000h", b"\x1b[?2004h", b"\x1b[?25l", b"\x1b[?1004h")
LEFT = (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h", b"\x1b[?1004l")


def modes_kept(raw: bytes) -> list[bytes]:
    """Return the modes that were not entered, or not left after that."""
    return [
        entered
        for entered, left in zip(ENTERED, LEFT, strict=True)
        if not raw.rfind(left) > raw.rfind(entered) >= 0
    ]


def assert_restored(raw: bytes) -> None:
    """Assert that each mode that was entered was left after that."""
    assert modes_kept(raw) == []


@pytest.fixture
def environ(beray_server: RunningServer) -> dict[str, str]:
    email = f"signals-{os.urandom(4).hex()}@example.test"
    with beray_server.sign_up(email) as client:
        token = client.login(email, PASSWORD)["access_token"]
    return {"BERAY_URL": beray_server.url, "BERAY_TOKEN": token}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGQUIT"])
def test_signals_restore_the_terminal(environ: dict[str, str], name: str) -> None:
    with DashboardTerminal(80, 24, **environ) as terminal:
        terminal.until_shown("● online")
        terminal.process.send_signal(getattr(signal, name))
        status = terminal.read_to_end()
    assert status in (128 + getattr(signal, name), -getattr(signal, name))
    assert_restored(terminal.raw)


def test_a_blocked_event_loop_does_not_keep_the_terminal(environ: dict[str, str]) -> None:
    program = (
        "-c",
        "import tui.app, time\n"
        "def block(self): time.sleep(60)\n"
        "tui.app.BeRayApp.action_switch_server = block\n"
        "from beray.cli import main; import sys; sys.exit(main([]))",
    )
    with DashboardTerminal(80, 24, program, **environ) as terminal:
        terminal.until_shown("● online")
        terminal.type("\x1bOR")  # F3
        terminal.process.send_signal(signal.SIGTERM)
        status = terminal.read_to_end()
    assert status == 128 + signal.SIGTERM
    assert_restored(terminal.raw)


def test_ignored_signals_stay_ignored(environ: dict[str, str]) -> None:
    program = (
        "-c",
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from beray.cli import main; sys.exit(main([]))",
    )
    with DashboardTerminal(80, 24, program, **environ) as terminal:
        terminal.until_shown("● online")
        terminal.process.send_signal(signal.SIGHUP)
        terminal.type("?")
        terminal.until_shown("esc closes")
        terminal.type("\x1b")
        terminal.until_gone("esc closes")
        assert terminal.leave() == 0


@pytest.mark.parametrize("keys", ["?", "n", "\x1bOR"], ids=["help", "composer", "servers"])
def test_ctrl_q_quits_from_dialogs(environ: dict[str, str], keys: str) -> None:
    with DashboardTerminal(80, 24, **environ) as terminal:
        terminal.until_shown("● online")
        before = terminal.shown
        terminal.type(keys)
        terminal.until(lambda: "─ " in terminal.shown and terminal.shown != before)
        terminal.type("\x11")
        status = terminal.read_to_end()
    assert status == 0
    assert_restored(terminal.raw)


def test_ctrl_z_suspends_and_fg_resumes(environ: dict[str, str]) -> None:
    with DashboardTerminal(80, 24, **environ) as terminal:
        terminal.until_shown("● online")
        terminal.type("?")
        terminal.until_shown("esc closes")
        terminal.type("\x1a")
        terminal.until(lambda: terminal.state() == psutil.STATUS_STOPPED)
        # What it wrote before it stopped may not have been read yet.
        terminal.until(lambda: not modes_kept(terminal.raw))
        suspended = len(terminal.raw)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.until(lambda: b"esc closes" in terminal.raw[suspended:])
        terminal.type("\x1b")
        terminal.until_gone("esc closes")
        assert terminal.leave() == 0


def test_a_dumb_terminal_gets_a_line_instead(scripted: ScriptedServer) -> None:
    with DashboardTerminal(80, 24, TERM="dumb") as terminal:
        status = terminal.read_to_end()
    assert status == 2
    assert b"\x1b" not in terminal.raw
    assert b"TERM is 'dumb'" in terminal.raw and b"beray run GOAL" in terminal.raw
