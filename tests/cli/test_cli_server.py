"""beray serve, beray server, and commands without configuration."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from beray import local_server
from beray.testing import RunningServer
from tests.cli.cli_support import Command


@pytest.mark.skipif(os.name != "posix", reason="the local server needs POSIX")
def test_without_configuration_commands_use_the_local_server(beray: Command) -> None:
    try:
        outcome = beray("run", "!echo hello")
        assert (outcome.status, outcome.out) == (0, "hello\n"), outcome.err
        (me,) = beray("whoami", "--json").json
        assert me["profile"] == "local"
        (facts,) = beray("server", "status", "--json").json
        assert facts["running"] is True
        assert facts["url"] == me["server"]
        running = local_server.status()
        assert running is not None
        shown = beray("server", "status")
        assert running.url in shown.out
        assert running.token not in shown.out + str(facts)
        assert beray("tasks", "--profile", "local").out.startswith("1\tCOMPLETED\t")
    finally:
        stopped = beray("server", "stop")
    assert stopped.status == 0
    assert local_server.status() is None


def test_a_stopped_server_is_reported(beray: Command) -> None:
    outcome = beray("server", "status")
    assert outcome.status == 1
    assert "not running" in outcome.err
    assert beray("server", "status", "--json").json == [{"running": False}]
    outcome = beray("server", "stop")
    assert outcome.status == 0
    assert "not running" in outcome.err


def test_serve_reports_why_it_cannot_start(beray_server: RunningServer, tmp_path: object) -> None:
    port = str(urlsplit(beray_server.url).port)
    done = subprocess.run(
        [sys.executable, "-m", "beray.cli", "serve", "--port", port, "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"beray: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
