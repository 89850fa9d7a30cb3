"""The real dashboard on a real terminal: what of the outside reaches it."""

from __future__ import annotations

import os

import pytest

if os.name != "posix":
    pytest.skip("pseudo terminals are POSIX", allow_module_level=True)

from beray.client import BeRayClient
from beray.testing import access_token
from tests.cli.cli_support import ScriptedServer
from tests.tui.dashboard_terminal import DashboardTerminal
from tests.tui.hostile_sequences import EVIL, FOREIGN, own


def octal(text: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in text.encode())


def test_nothing_from_outside_acts_on_the_terminal(beray_client: BeRayClient) -> None:
    evil = octal(EVIL)
    made = beray_client.create_task(
        f"!: goal{EVIL}; printf 'event{evil}\\n'; printf 'preview{evil}' > \"$(printf 'name{evil}')\""
    )
    for _ in beray_client.stream_task_updates(made["id"]):
        pass
    beray_client.create_task(f"!printf 'second{evil}'; exit 3; {EVIL}")
    environ = {
        "BERAY_URL": beray_client.base_url,
        "BERAY_TOKEN": access_token(beray_client),
    }
    with DashboardTerminal(120, 40, **environ) as terminal:
        terminal.until_shown("● online", "goal", "second", "exit 3")
        terminal.type("\x1b[B")
        terminal.until_shown("event", "completed")
        terminal.type("f")
        terminal.until_shown("name", "preview")
        terminal.type("d")
        terminal.until_shown("Overwrite an existing")
        terminal.type("\x1b")
        terminal.until_gone("Overwrite an existing")
        terminal.type("x")
        terminal.until_shown("Delete this task?")
        terminal.type("n")
        terminal.until_gone("Delete this task?")
        status = terminal.leave()
    raw = own(terminal.raw)
    assert len(FOREIGN.findall(own(EVIL.encode()))) > 8  # nothing of it is overlooked
    assert raw.count(b"EVIL") > 10
    assert FOREIGN.findall(raw) == []
    assert "EVIL" not in terminal.title
    assert status == 0


def test_nothing_in_the_words_of_a_refusal_acts_on_the_terminal(scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/"] = 500, {"detail": f"refused{EVIL}"}
    with DashboardTerminal(80, 24) as terminal:
        terminal.until_shown("refused", "EVIL", "(500)", "○ server error")
        status = terminal.leave()
    assert FOREIGN.findall(own(terminal.raw)) == []
    assert "EVIL" not in terminal.title
    assert status == 0
