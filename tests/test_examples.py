"""The examples run unchanged against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from beray.testing import RunningServer
from beray.testing.server import PASSWORD

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_first_steps(beray_server: RunningServer, own_home: Path) -> None:
    beray_server.sign_up("example@example.test")
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / "first_steps.py"), beray_server.url],
        env={
            **os.environ,
            "BERAY_EMAIL": "example@example.test",
            "BERAY_PASSWORD": PASSWORD,
            "PYTHONIOENCODING": "utf-8",
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert '"status": "COMPLETED"' in process.stdout
    assert "Hello, 世界" in process.stdout
    assert "ZIP of two paths" in process.stdout
    assert process.stdout.endswith("Signed out.\n")


def test_first_steps_with_invalid_credentials(beray_server: RunningServer) -> None:
    process = subprocess.run(
        [sys.executable, str(EXAMPLES / "first_steps.py"), beray_server.url],
        env={
            **os.environ,
            "BERAY_EMAIL": "unknown@example.test",
            "BERAY_PASSWORD": "wrong-password",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 1
    assert "Could not sign in" in process.stderr
