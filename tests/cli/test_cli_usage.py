"""Usage, errors and exit statuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from beray.version import __version__
from tests.cli.cli_support import Command, ScriptedServer


def test_without_a_terminal_the_dashboard_names_run_in_one_line(beray: Command) -> None:
    outcome = beray()
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert "beray run" in outcome.err


def test_the_version_is_printed_without_importing_commands() -> None:
    program = (
        "import sys; from beray.cli import main; assert main(['--version']) == 0;"
        "heavy = {'typer', 'rich', 'textual', 'fastapi'} & set(sys.modules);"
        "assert not heavy, heavy;"
        "assert main(['tasks', '--url', 'http://127.0.0.1:9']) == 1;"
        "heavy = {'rich', 'textual', 'fastapi', 'uvicorn'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"beray {__version__}\n"
    assert done.stderr.startswith("beray: ")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["tasks", "--nope"], "--nope"),
        (["nope"], "nope"),
        (["show", "x"], "'ID': expected a whole number, got 'x'"),
        (["show"], "ID"),
        (["run"], "GOAL"),
        (["run", "  "], "empty"),
        (["run", "\udcff"], "UTF-8"),
        (["run", "x", "--file", "missing"], "missing: no such file"),
        (["run", "x", "--detach", "--output", "out"], "--detach"),
        (["put", "1", "missing"], "missing: no such file"),
        (["zip", "1"], "--output"),
        (["tasks", "--url", "ftp://x"], "http://host:port"),
        (["tasks", "--url", "http://me:secret@x"], "sign in"),
        (["tasks", "--profile", "nope"], "profile 'nope' does not exist"),
        (["--profile", "nope", "tasks"], "profile 'nope' does not exist"),
        (["rm", "1"], "--yes"),
        (["login"], "--url"),
        (["register"], "--url"),
        (["logout"], "--url"),
        (["admin", "promote", "a@b.c", "--role", "king"], "'--role': 'king' is not one of"),
        (["apikey", "new", "x", "--expires", "0d"], "expected a duration above 0, such as 90d"),
        (["serve", "--port", "70000"], "'--port': expected at most 65535, got '70000'"),
        (["ls", "1", "--depth", "0"], "expected at least 1, got '0'"),
    ],
)
def test_invalid_usage_is_one_line_and_status_2(
    beray: Command, argv: list[str], expected: str
) -> None:
    outcome = beray(*argv)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert expected in outcome.err
    assert "secret" not in outcome.err


def test_nothing_is_sent_if_a_local_file_is_missing(
    beray: Command, scripted: ScriptedServer
) -> None:
    Path("there").write_text("x")
    assert beray("run", "x", "--file", "there", "--file", "missing").status == 2
    assert beray("put", "1", "there", "missing").status == 2
    assert scripted.requests == []


@pytest.mark.parametrize("argv", [["tasks"], ["watch", "1"], ["run", "x"], ["cat", "1", "f"]])
def test_an_unreachable_server_is_named(beray: Command, argv: list[str]) -> None:
    outcome = beray(*argv, "--url", "http://127.0.0.1:9")
    assert outcome.status == 1
    assert "http://127.0.0.1:9" in outcome.err
    assert outcome.err.count("\n") == 1


def test_server_options_are_accepted_before_and_after_the_command(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/"] = 200, []
    assert beray("--url", scripted.url, "tasks").status == 0
    assert beray("tasks", "--url", scripted.url).status == 0
    assert beray("--url", "http://127.0.0.1:9", "tasks", "--url", scripted.url).status == 0
    assert len(scripted.requests) == 3


def test_the_token_of_the_environment_signs_requests(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/"] = 200, []
    assert beray("tasks").status == 0
    assert scripted.requests[0].headers["Authorization"] == "Bearer a-token"


def test_an_expired_session_names_the_login_command(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/"] = 401, {"detail": "The session has expired."}
    outcome = beray("tasks")
    assert outcome.status == 1
    assert outcome.err.startswith("beray: The session has expired. (401)")
    assert "beray login" in outcome.err
    assert "a-token" not in outcome.err


def test_messages_of_the_server_are_shown_unchanged(
    beray: Command, scripted: ScriptedServer
) -> None:
    scripted.answers["GET /tasks/7"] = 404, {"detail": "There is no task 7."}
    outcome = beray("show", "7")
    assert outcome.status == 1
    assert outcome.err == "beray: There is no task 7. (404)\n"


def test_a_response_of_another_server_is_one_line(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers["GET /tasks/"] = 200, b"<html>"
    outcome = beray("tasks")
    assert outcome.status == 1
    assert outcome.err.count("\n") == 1
    assert "BeRay server" in outcome.err


def test_names_that_are_not_unicode_are_one_line(beray: Command, scripted: ScriptedServer) -> None:
    scripted.answers |= {
        "POST /tasks/": (200, {"id": 1, "goal": "x", "status": "RUNNING"}),
        "GET /tasks/1/stream": (200, b'data: {"type": "TASK_STATUS", "status": "COMPLETED"}\n\n'),
        "GET /tasks/1/files/tree": (200, [{"name": "\ud800", "type": "file"}]),
    }
    outcome = beray("run", "x", "--output", "out")
    assert outcome.status == 1
    assert "beray: " in outcome.err
    assert "Traceback" not in outcome.err


def test_help_goes_to_stdout(beray: Command) -> None:
    for argv in (["--help"], ["run", "-h"], ["server", "--help"]):
        outcome = beray(*argv)
        assert outcome.status == 0
        assert "Usage: beray" in outcome.out
        assert outcome.err == ""
