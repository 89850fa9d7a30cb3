"""beray serve, beray server, and commands with nothing configured."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from beray import local_server
from beray.testing import RunningServer
from tests.cli.cli_support import Command


@pytest.mark.skipif(os.name != "posix", reason="a server of one's own is POSIX")
def test_with_nothing_configured_commands_use_a_server_of_the_users_own(beray: Command) -> None:
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


def test_a_server_that_does_not_run_is_said(beray: Command) -> None:
    outcome = beray("server", "status")
    assert outcome.status == 1
    assert "not running" in outcome.err
    assert beray("server", "status", "--json").json == [{"running": False}]
    outcome = beray("server", "stop")
    assert outcome.status == 0
    assert "not running" in outcome.err


def test_serve_says_why_it_cannot(beray_server: RunningServer, tmp_path: object) -> None:
    port = str(urlsplit(beray_server.url).port)
    done = subprocess.run(
        [sys.executable, "-m", "beray.cli", "serve", "--port", port, "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"beray: cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
