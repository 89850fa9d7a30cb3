"""Commands that receive a signal restore the terminal, and end by that signal."""

from __future__ import annotations

import os
import signal
import sys

import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals and these signals are POSIX", allow_module_level=True)

from beray.testing import RunningServer
from beray.testing.server import PASSWORD
from tests.cli.cli_terminal import Terminal

SIGNALS = ["SIGTERM", "SIGHUP", "SIGQUIT"]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_password_prompt_restores_the_echo(name: str) -> None:
    program = [sys.executable, "-m", "beray.cli", "login", "--url", "http://127.0.0.1:1"]
    with Terminal(program=[*program, "--email", "a@example.test"]) as terminal:
        terminal.expect("Password")
        assert not terminal.echoes()
        terminal.process.send_signal(getattr(signal, name))
        terminal.end()
        assert terminal.echoes()
        assert terminal.process.returncode == -getattr(signal, name)
    assert "Traceback" not in terminal.seen


def test_a_watch_ends_without_stopping_its_task(beray_server: RunningServer) -> None:
    email = f"signals-{os.urandom(4).hex()}@example.test"
    with beray_server.sign_up(email) as client:
        token = client.login(email, PASSWORD)["access_token"]
        environ = {"BERAY_URL": beray_server.url, "BERAY_TOKEN": token}
        program = [sys.executable, "-m", "beray.cli", "run", "!echo begun; sleep 60"]
        with Terminal(program=program, **environ) as terminal:
            terminal.expect("begun")
            terminal.process.send_signal(signal.SIGTERM)
            terminal.end()
            assert terminal.process.returncode == -signal.SIGTERM
        [task] = client.list_tasks()
        assert task["status"] == "RUNNING"
        client.stop_task(task["id"])
